import { controlPool, PartywallError, type RecoverReport, reconcile, recoverDatabase, type Tier, tierOrder } from '@partywall/engine';
import { type Command, Option } from 'commander';
import { withArchive } from '../archive.ts';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, connectionString, type Start } from '../context.ts';
import { keyringFolder, operatorName } from '../control.ts';
import { helpEnding } from './help.ts';
import { exitOf, reconcileText } from './ledger.ts';

interface RecoverFlags {
  readonly from: string;
  readonly into: string;
  readonly tier?: readonly Tier[];
  readonly dryRun?: true;
  readonly fenced?: true;
  readonly workers?: string;
}

export function registerRecover(program: Command, start: Start): void {
  program
    .command('recover')
    .summary('Restore a whole database from a backup into an empty one.')
    .description(
      'Restore a whole database from a backup into an empty one: schema, rows tier by tier (enterprise first), checks in the depth of each tier. Then asks the ' +
        'ledger what happened since the backup: tenants that were erased are erased again, suspensions and placements are applied, the rest is let in, tier ' +
        'by tier. What an interruption cuts off goes on when it is run again.',
    )
    .requiredOption('--into <url>', 'connection string of an empty database, as a superuser')
    .option('--from <backup>', 'the backup: its id, latest, or a time (2026-11-21T02:00:00Z: the last one before)', 'latest')
    .addOption(new Option('--tier <tier...>', 'only tenants of these tiers; nobody of the others can enter').choices(tierOrder))
    .option('--dry-run', 'only say what would come back, in which order')
    .option('--fenced', 'let nobody in: reconcile later with `partywall ledger reconcile`')
    .option('--workers <n>', 'connections that load rows at once', '4')
    .addHelpText(
      'after',
      helpEnding({ 0: 'restored, or planned', 1: 'refused, or tenants wait for a decision; the list names them', 2: 'could not be asked' }, [
        'partywall recover --into postgresql://postgres@db2/crm --dry-run',
        'partywall recover --from latest --into postgresql://postgres@db2/crm',
      ]),
    )
    .action(start<RecoverFlags>(recover));
}

async function recover(ctx: CommandContext, flags: RecoverFlags): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const into = connectionString(flags.into, '--into');
  const workers = Number(flags.workers);
  if (!Number.isInteger(workers) || workers < 1) throw new PartywallError('usage', 'reading --workers: not a number of connections');
  return withArchive(ctx, async (archive) => {
    const report = await recoverDatabase(
      archive,
      { from: flags.from, into, tiers: flags.tier, dryRun: flags.dryRun },
      {
        clock: () => new Date(),
        model,
        workers,
        signal: ctx.signal,
        onProgress: ({ step, done, of, unit }) => ctx.talk.progress({ label: step, done, total: of, unit }),
      },
    );
    if (flags.dryRun || flags.fenced) return { exit: 0, data: { ...report, reconciled: null }, text: recoverText(report) };
    const pool = controlPool(into, { purpose: 'recover' });
    try {
      const reconciled = await reconcile(
        {
          database: { pool, model, clock: () => new Date(), keyring: keyringFolder(ctx) },
          actor: { kind: 'operator', id: operatorName(ctx) },
          signal: ctx.signal,
        },
        archive,
        {},
        { onProgress: (done, total) => ctx.talk.progress({ label: 'letting tenants in', done, total, unit: 'tenants' }) },
      );
      return { exit: exitOf(reconciled), data: { ...report, reconciled }, text: `${recoverText(report)}\n${reconcileText(reconciled)}` };
    } finally {
      await pool.end();
    }
  });
}

function recoverText(report: RecoverReport): string {
  const did = report.applied ? 'restored' : 'would restore';
  const tiers = report.tiers.map(({ tier, tenants, rows, depth, loadedAfterSeconds, checkedAfterSeconds }) => {
    const times = loadedAfterSeconds === null ? '' : `, there after ${loadedAfterSeconds} s, checked after ${checkedAfterSeconds} s`;
    return `  ${tier}: ${tenants} tenants, ${rows} rows, ${depth} verification${times}`;
  });
  return [
    `${did} backup ${report.backup} of ${report.at} into ${report.target}${report.resumed ? ', going on where it was' : ''}`,
    `  platform: ${report.platform.rows} rows`,
    ...tiers,
    ...(report.leftOut > 0 ? [`  ${report.leftOut} tenants were left out, and cannot be entered`] : []),
    ...(report.retired > 0 ? [`  ${report.retired} of them were removed from this backup by retention: restore them from a later one`] : []),
    ...(report.erased > 0 ? [`  ${report.erased} subjects were erased since: their keys are gone, and so are they`] : []),
    ...(report.findings === null
      ? []
      : [`  the wall: ${report.findings === 0 ? 'sound by its static rules' : `${report.findings} findings; run partywall verify`}`]),
    ...(report.rollout.length === 0
      ? []
      : [`  the wall holds for everybody, where the backup observed: ${report.rollout.join(', ')}; \`partywall rollout observe\` goes back to that`]),
    ...report.roles.map(({ name, login, superuser }) => {
      const needs = login ? '; give it a password and LOGIN before the application connects' : '';
      return `  made role ${name}${superuser ? ', which was a superuser and is not one here' : ''}${needs}`;
    }),
    ...report.notes.map((note) => `  not in it: ${note}`),
    ...(report.journal === null ? [] : [`  journal: ${report.journal}`]),
  ].join('\n');
}
