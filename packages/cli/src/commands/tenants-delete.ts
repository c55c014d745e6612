import { deleteTenant, dueTenants, type ErasurePreview, type Operation, PartywallError, previewErasure, purgeRetained } from '@partywall/engine';
import type { Command } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { withEraser } from '../erasing.ts';
import { certificate, type EraseFlags, erase } from './erase.ts';
import { helpEnding } from './help.ts';
import { printable, tenantsCommand } from './tenants.ts';

interface DeleteFlags extends EraseFlags {
  readonly hard?: true;
}

export function registerTenantDeletion(program: Command, start: Start): void {
  const tenants = tenantsCommand(program);

  tenants
    .command('delete')
    .description(
      'Delete a tenant. Softly: it is kept out and can be restored while its retention lasts, 30 days at the least. With --hard for good, ' +
        'as `partywall erase` does it: from the backups too.',
    )
    .argument('<tenant>', 'key of the tenant')
    .option('--hard', 'erase for good; cannot be undone')
    .option('--force', 'with --hard, although the retention has not ended; never under a legal hold')
    .option('--confirm <name>', 'with --hard, the name of the tenant')
    .option('--dry-run', 'only say what would go')
    .option('--reason <text>', 'why, for the audit log and the certificate')
    .addHelpText(
      'after',
      helpEnding({ 0: 'deleted, or planned', 1: 'refused: state, retention, legal hold, or rows that would be left', 2: 'not confirmed, or could not run' }, [
        'partywall tenants delete <id>',
        'partywall tenants delete <id> --hard --dry-run',
        "partywall tenants delete <id> --hard --force --confirm 'New Company'",
      ]),
    )
    .action((tenant: string, ...given: unknown[]) =>
      start<DeleteFlags>((ctx, flags) => withControl(ctx, (operation) => remove(ctx, operation, tenant, flags)))(...given),
    );

  tenants
    .command('purge')
    .description('Erase the tenants whose retention has ended, as a server does every night. Those under a legal hold are left.')
    .option('--dry-run', 'only list them')
    .addHelpText(
      'after',
      helpEnding({ 0: 'all that were due are erased, held, or planned', 1: 'some could not be erased', 2: 'could not run' }, [
        'partywall tenants purge --dry-run',
        'partywall tenants purge',
      ]),
    )
    .action(start<{ dryRun?: true }>((ctx, { dryRun }) => withControl(ctx, (operation) => (dryRun ? due(operation) : purge(ctx, operation)))));

  tenants
    .command('certificate')
    .description('Print the certificate of an erased tenant, and check its signature and its place in the chain.')
    .argument('<tenant>', 'key of the tenant')
    .addHelpText(
      'after',
      helpEnding({ 0: 'it holds', 1: 'it does not', 2: 'there is none, or it could not be asked' }, ['partywall tenants certificate <id> --json']),
    )
    .action((tenant: string, ...given: unknown[]) => start((ctx) => withControl(ctx, (operation) => certificate(ctx, operation, tenant)))(...given));
}

async function remove(ctx: CommandContext, operation: Operation, tenant: string, flags: DeleteFlags): Promise<Answer> {
  if (flags.hard) return erase(ctx, operation, tenant, flags);
  if (flags.force || flags.confirm !== undefined) throw new PartywallError('usage', 'reading the command line: --force and --confirm go with --hard');
  if (flags.dryRun) return previewed(await previewErasure(operation, { tenant, force: true }));
  const { tenant: deleted, changed, ended } = await deleteTenant(operation, { tenant, reason: flags.reason });
  const until = deleted.retainedUntil ? `; it can be restored until ${deleted.retainedUntil.toISOString()}` : '';
  return {
    exit: 0,
    data: { tenant: deleted, changed, endedSessions: ended },
    text: `${printable(deleted.name)} (${deleted.id}) ${changed ? 'is now' : 'was already'} deleted${until}`,
  };
}

async function purge(ctx: CommandContext, operation: Operation): Promise<Answer> {
  const report = await withEraser(ctx, operation, (durable) => purgeRetained(operation, durable));
  const lines = [
    `visited ${report.visited} of ${report.due}: ${report.erased.length} erased, ${report.held.length} under a legal hold, ${report.failed.length} failed`,
    ...report.failed.map(({ tenant, problem }) => `  ${tenant}: ${problem}`),
  ];
  return { exit: report.failed.length > 0 ? 1 : 0, data: report, text: lines.join('\n') };
}

async function due(operation: Operation): Promise<Answer> {
  const { due: count, tenants } = await dueTenants(operation);
  const lines = tenants.map(({ id, name, held }) => `  ${id}  ${printable(name)}${held ? '  under a legal hold' : ''}`);
  return { exit: 0, data: { dryRun: true, due: count, tenants }, text: [`${count} are due`, ...lines].join('\n') };
}

function previewed({ tenant, tables, plan }: ErasurePreview): Answer {
  const width = Math.max(...tables.map(({ table }) => table.length));
  const lines = [
    `${printable(tenant.name)} (${tenant.id}), ${tenant.status}: these rows are kept out of reach`,
    ...tables.map(({ table, rows }) => `  ${table.padEnd(width)}  ${rows}`),
    ...plan.copies.map((view) => `  ${view} holds copies until it is refreshed`),
  ];
  return { exit: 0, data: { dryRun: true, tenant, tables, copies: plan.copies, refusal: null }, text: lines.join('\n') };
}
