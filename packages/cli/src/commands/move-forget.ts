import { forgetErased, forgetTenant, type Operation, PartywallError, placementsOf } from '@partywall/engine';
import type { Command } from 'commander';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { withEraser } from '../erasing.ts';
import { helpEnding } from './help.ts';

interface ForgetFlags {
  readonly due?: true;
  readonly yes?: true;
  readonly reason?: string;
}

export function registerMoveForget(move: Command, start: Start): void {
  move
    .command('forget')
    .description(
      'Erase what the other databases have left of a tenant that was erased where it lived: its entry, people, old rows, and its backups here. With --due, of all such ' +
        'tenants, as a server does every night. Believes certificates that the keyring has signed, and nothing else.',
    )
    .argument('[tenant]', 'key of the tenant')
    .option('--due', 'all that were erased elsewhere')
    .option('--yes', 'do not ask')
    .option('--reason <text>', 'why, for the audit log and the certificate')
    .addHelpText(
      'after',
      helpEnding({ 0: 'forgotten', 1: 'refused; the message says why', 2: 'not confirmed, or could not be asked' }, [
        'partywall move forget <tenant> --yes',
        'partywall move forget --due --yes',
      ]),
    )
    .action((tenant: string | undefined, ...given: unknown[]) =>
      start<ForgetFlags>((ctx, flags) => withControl(ctx, (operation) => forget(ctx, operation, tenant, flags)))(...given),
    );
}

async function forget(ctx: CommandContext, operation: Operation, tenant: string | undefined, { due, yes, reason }: ForgetFlags): Promise<Answer> {
  if ((tenant === undefined) === (due === undefined)) throw new PartywallError('usage', 'reading the command line: forget takes a tenant, or --due');
  await confirmed(ctx, { ...(yes && { yes }) }, `erase what is left of ${tenant === undefined ? 'tenants that were erased elsewhere' : `tenant ${tenant}`}`);
  const placements = placementsOf(ctx.env);
  try {
    return await withEraser(ctx, operation, async (durable) => {
      if (tenant !== undefined) {
        const report = await forgetTenant(operation, durable, { tenant, placements, reason });
        const where = report.forgotten.length === 0 ? 'nothing was left' : `forgotten: ${report.forgotten.join(', ')}`;
        return { exit: 0, data: report, text: `tenant ${tenant} was erased in ${report.erasedIn}; ${where}` };
      }
      const report = await forgetErased(operation, durable, placements);
      const lines = [
        ...report.forgotten.map((key) => `forgotten: tenant ${key}`),
        ...report.failed.map(({ tenant: key, problem }) => `tenant ${key}: ${problem}`),
        `visited ${report.visited} of ${report.due}`,
      ];
      return { exit: report.failed.length > 0 ? 1 : 0, data: report, text: lines.join('\n') };
    });
  } finally {
    await placements.close();
  }
}
