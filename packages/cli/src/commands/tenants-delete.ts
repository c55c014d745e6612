import {
  awaitOperation,
  connect,
  type Durable,
  deleteTenant,
  dueTenants,
  type ErasurePreview,
  eraseTenant,
  hasSystemDatabase,
  type LongOperation,
  type Operation,
  PartywallError,
  previewErasure,
  purgeRetained,
  readCertificate,
  startDurable,
  systemDatabaseUrl,
  verifyCertificate,
  works,
} from '@partywall/engine';
import type { Command } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { serviceUrl, withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { printable, tenantsCommand } from './tenants.ts';

interface DeleteFlags {
  readonly hard?: true;
  readonly force?: true;
  readonly confirm?: string;
  readonly dryRun?: true;
  readonly reason?: string;
}

const progressMs = 250;

export function registerTenantDeletion(program: Command, start: Start): void {
  const tenants = tenantsCommand(program);

  tenants
    .command('delete')
    .description(
      'Delete a tenant. Softly: it is kept out and can be restored while its retention lasts. With --hard for good: prints what goes, takes the ' +
        "tenant's name as --confirm, and leaves a signed certificate. What an interruption cuts off goes on when it is run again, or by a server that is up.",
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
    .action((tenant: string, ...given: unknown[]) => start((ctx) => withControl(ctx, (operation) => certificate(operation, tenant)))(...given));
}

async function remove(ctx: CommandContext, operation: Operation, tenant: string, flags: DeleteFlags): Promise<Answer> {
  if (flags.hard) return erase(ctx, operation, tenant, flags);
  if (flags.force || flags.confirm !== undefined) throw new PartywallError('usage', 'reading the command line: --force and --confirm go with --hard');
  if (flags.dryRun) return previewed(await previewErasure(operation, { tenant, force: true }), false);
  const { tenant: deleted, changed, ended } = await deleteTenant(operation, { tenant, reason: flags.reason });
  const until = deleted.retainedUntil ? `; it can be restored until ${deleted.retainedUntil.toISOString()}` : '';
  return {
    exit: 0,
    data: { tenant: deleted, changed, endedSessions: ended },
    text: `${printable(deleted.name)} (${deleted.id}) ${changed ? 'is now' : 'was already'} deleted${until}`,
  };
}

async function erase(ctx: CommandContext, operation: Operation, tenant: string, { force, confirm, dryRun, reason }: DeleteFlags): Promise<Answer> {
  const preview = await previewErasure(operation, { tenant, force });
  if (dryRun) return previewed(preview, true);
  if (preview.refusal === null && confirm !== preview.tenant.name) {
    ctx.talk.line(previewed(preview, true).text);
    const given = confirm === undefined ? 'not confirmed' : `${JSON.stringify(confirm)} is not its name`;
    throw new PartywallError('confirmation_required', `about to erase ${JSON.stringify(preview.tenant.name)} for good: ${given}, nothing was changed`, {
      hint: "pass the tenant's name as --confirm",
    });
  }
  return withDurable(ctx, operation, async (durable) => {
    const { id } = await eraseTenant(operation, durable, { tenant, force, reason });
    const ended = await watch(ctx, operation, id);
    if (ended.state === 'failed') throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: ${ended.error}`);
    const { exit, data, text } = await certificate(operation, tenant);
    return { exit, data, text: `erased: ${printable(preview.tenant.name)} (${tenant})\n${text}` };
  });
}

async function purge(ctx: CommandContext, operation: Operation): Promise<Answer> {
  const report = await withDurable(ctx, operation, (durable) => purgeRetained(operation, durable));
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

async function withDurable<Result>(ctx: CommandContext, operation: Operation, work: (durable: Durable) => Promise<Result>): Promise<Result> {
  const service = serviceUrl(ctx);
  await refuseWithoutSystem(service);
  const durable = await startDurable({ database: operation.database, systemDatabaseUrl: systemDatabaseUrl(service), works });
  try {
    return await work(durable);
  } finally {
    await durable.stop();
  }
}

async function watch(ctx: CommandContext, operation: Operation, id: string): Promise<LongOperation> {
  for (;;) {
    ctx.signal.throwIfAborted();
    const now = await awaitOperation(operation, id, { timeoutMs: progressMs });
    ctx.talk.progress({ label: now.step, done: Math.min(now.done, now.total), total: now.total, unit: 'rows' });
    if (now.state !== 'running') return now;
  }
}

async function refuseWithoutSystem(url: string): Promise<void> {
  const client = await connect(url, { purpose: 'command' });
  const there = await hasSystemDatabase(client).finally(() => client.end());
  if (!there) throw new PartywallError('control_missing', 'looking for the database that remembers the steps of long operations: it is not there');
}

function previewed({ tenant, tables, plan, refusal }: ErasurePreview, hard: boolean): Answer {
  const width = Math.max(...tables.map(({ table }) => table.length));
  const lines = [
    `${printable(tenant.name)} (${tenant.id}), ${tenant.status}: ${hard ? 'these rows go for good, in this order' : 'these rows are kept out of reach'}`,
    ...tables.map(({ table, rows }) => `  ${table.padEnd(width)}  ${rows}`),
    ...plan.copies.map((view) => `  ${view} holds copies until it is refreshed`),
    ...(hard && refusal !== null ? [`it would be refused: ${refusal}`] : []),
  ];
  return { exit: 0, data: { dryRun: true, tenant, tables, copies: plan.copies, refusal: hard ? refusal : null }, text: lines.join('\n') };
}

async function certificate(operation: Operation, tenant: string): Promise<Answer> {
  const found = await readCertificate(operation, tenant);
  const check = await verifyCertificate(operation, found);
  const { body } = found;
  const rows = body.tables.reduce((sum, { before }) => sum + before, 0);
  return {
    exit: check.valid ? 0 : 1,
    data: { ...found, ...check },
    text: [
      found.text,
      `signature  ${found.signature}`,
      `key        ${body.keyId}`,
      check.valid ? `valid: certificate ${body.number}, ${rows} rows of ${body.tables.length} tables, ${body.completedAt}` : `NOT VALID: ${check.problem}`,
    ].join('\n'),
  };
}
