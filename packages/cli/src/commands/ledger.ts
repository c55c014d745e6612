import { type LedgerRecord, type ReconcileReport, readLedger, reconcile, syncLedger, type Tier, tierOrder } from '@partywall/engine';
import { type Command, Option } from 'commander';
import { withArchive } from '../archive.ts';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';

interface ReconcileFlags {
  readonly tier?: readonly Tier[];
  readonly dryRun?: true;
  readonly yes?: true;
}

export function registerLedger(program: Command, start: Start): void {
  const ledger = program
    .command('ledger')
    .description('What became of each tenant, kept beside the backups: a database that comes back from one has forgotten it.');

  ledger
    .command('list')
    .description('The latest record of each tenant. Reads the archive alone; no database is needed.')
    .addHelpText('after', helpEnding({ 0: 'read', 1: 'it was changed by somebody', 2: 'could not be read' }, ['partywall ledger list --json']))
    .action(start(list));

  ledger
    .command('sync')
    .description('Write down what the ledger does not know yet. The schedule does it every five minutes.')
    .addHelpText('after', helpEnding({ 0: 'written, or nothing to write', 1: 'refused', 2: 'could not be asked' }, ['partywall ledger sync']))
    .action(start(sync));

  ledger
    .command('reconcile')
    .description(
      'Bring a database that came from a backup up to the ledger and let its tenants in, tier by tier: erased tenants are erased again, suspensions and ' +
        'placements are applied. Prints the plan and asks first.',
    )
    .addOption(new Option('--tier <tier...>', 'only tenants of these tiers').choices(tierOrder))
    .option('--dry-run', 'only say what would be done')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      helpEnding({ 0: 'all are in', 1: 'tenants wait for a decision; the list names them', 2: 'could not be asked' }, [
        'partywall ledger reconcile --dry-run',
        'partywall ledger reconcile --tier enterprise --yes',
      ]),
    )
    .action(start<ReconcileFlags>(reconcileTenants));
}

function list(ctx: CommandContext): Promise<Answer> {
  return withArchive(ctx, async (archive) => {
    const { number, tenants } = await readLedger(archive);
    const records = [...tenants.values()].sort((a, b) => (a.tenant < b.tenant ? -1 : 1));
    return { exit: 0, data: { number, tenants: records }, text: [`${number} entries, ${records.length} tenants`, ...records.map(recordText)].join('\n') };
  });
}

function recordText({ tenant, at, status, placement }: LedgerRecord): string {
  return `  ${tenant}  ${status}${placement === null ? '' : `, in database ${placement}`}  (${at})`;
}

function sync(ctx: CommandContext): Promise<Answer> {
  return withArchive(ctx, (archive) =>
    withControl(ctx, async (operation) => {
      const { records, tenants } = await syncLedger(operation, archive);
      const text = [`compared ${tenants} tenants, wrote ${records.length} records`, ...records.map(recordText)].join('\n');
      return { exit: 0, data: { tenants, records }, text };
    }),
  );
}

function reconcileTenants(ctx: CommandContext, flags: ReconcileFlags): Promise<Answer> {
  return withArchive(ctx, (archive) =>
    withControl(ctx, async (operation) => {
      const input = { tiers: flags.tier };
      const plan = await reconcile(operation, archive, { ...input, dryRun: true });
      if (flags.dryRun) return { exit: exitOf(plan), data: plan, text: reconcileText(plan) };
      ctx.talk.line(reconcileText(plan));
      await confirmed(ctx, flags, 'let these tenants in, and erase those that were erased');
      const report = await reconcile(operation, archive, input, {
        onProgress: (done, total) => ctx.talk.progress({ label: 'letting tenants in', done, total, unit: 'tenants' }),
      });
      return { exit: exitOf(report), data: report, text: reconcileText(report) };
    }),
  );
}

const words = {
  admit: ['let in', 'would let in'],
  status: ['let in with the status of the ledger', 'would let in with the status of the ledger'],
  place: ['placed elsewhere', 'would place elsewhere'],
  erase: ['erased again', 'would erase again'],
  keep: ['kept out', 'would keep out'],
  lost: ['not in the backup', 'not in the backup'],
} as const;

/** A tenant that waits, and one that is not in the backup, is somebody's decision. */
export function exitOf({ waiting, actions }: ReconcileReport): 0 | 1 {
  return waiting > 0 || actions.some(({ kind }) => kind === 'lost') ? 1 : 0;
}

export function reconcileText({ applied, actions, failed, waiting, ledger, points }: ReconcileReport): string {
  const counts = Map.groupBy(actions, ({ kind }) => kind);
  const named = actions.filter(({ kind }) => kind !== 'admit');
  return [
    ledger === 0 ? 'there is no ledger: nothing is known of what happened since the backup' : `by the ledger up to entry ${ledger}:`,
    ...[...counts].map(([kind, list]) => `  ${words[kind][applied ? 0 : 1]}: ${list.length} tenants`),
    ...named.map(({ tenant, kind, why }) => `    ${tenant}: ${kind}: ${why}`),
    ...failed.map(({ tenant, why }) => `    ${tenant}: refused: ${why}`),
    ...(waiting > 0 ? [`  ${waiting} tenants wait, fenced`] : []),
    ...(points === null ? [] : [`  recovery points made anew from ${points.visited} of ${points.backups} verified backups`]),
    ...(points?.problems ?? []).map((problem) => `    ${problem}`),
  ].join('\n');
}
