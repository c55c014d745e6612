import {
  awaitOperation,
  cancelMove,
  finishDueMoves,
  finishMove,
  inProcess,
  listMoves,
  type Move,
  type MoveInput,
  type MovePreview,
  moveKind,
  moveTenant,
  moveWork,
  type Operation,
  PartywallError,
  type Placements,
  placementsOf,
  previewMove,
  syncLedger,
} from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import { withArchive } from '../archive.ts';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { registerMoveForget } from './move-forget.ts';
import { registerMovePrepare } from './move-prepare.ts';

interface MoveFlags {
  readonly to?: string;
  readonly grace: number;
  readonly dryRun?: true;
  readonly yes?: true;
  readonly reason?: string;
}

const progressMs = 250;
const daySeconds = 86_400;
const defaultGrace = 7 * daySeconds;
const movesShown = 50;
const units: Readonly<Record<string, number>> = { m: 60, h: 3_600, d: daySeconds };

export function registerMove(program: Command, start: Start): void {
  const move = program
    .command('move')
    .summary('Move a tenant to a database of its own, and back.')
    .description(
      'Move tenants between this database and others. A placement is a database with the same schema, wall and control plane; PARTYWALL_PLACEMENT_ACME holds the connection string of ' +
        'its service role. Nobody enters the tenant while it moves; what an interruption cuts off goes on when it is asked for again.',
    );
  const withFlags = (command: Command): Command =>
    command
      .option('--grace <time>', 'how long the old rows stay: 12h, 7d', graceOf, defaultGrace)
      .option('--dry-run', 'only say what would be moved, and what stands in the way')
      .option('--yes', 'do not ask')
      .option('--reason <text>', 'why, for the audit log');

  withFlags(
    move
      .command('start', { isDefault: true })
      .description('Move a tenant to a placement: fence, copy, compare by hash, switch.')
      .argument('<tenant>', 'key of the tenant'),
  )
    .requiredOption('--to <placement>', 'name of the placement')
    .addHelpText(
      'after',
      helpEnding({ 0: 'moved, or planned', 1: 'refused, or failed before the switch: the tenant is where it was', 2: 'not confirmed, or could not be asked' }, [
        'partywall move <tenant> --to acme --dry-run',
        'partywall move <tenant> --to acme --yes',
      ]),
    )
    .action((tenant: string, ...given: unknown[]) => start<MoveFlags>((ctx, flags) => go(ctx, tenant, flags))(...given));

  withFlags(move.command('back').description('Move a tenant back into this database.').argument('<tenant>', 'key of the tenant'))
    .addHelpText(
      'after',
      helpEnding({ 0: 'moved, or planned', 1: 'refused, or failed', 2: 'not confirmed, or could not be asked' }, ['partywall move back <tenant> --yes']),
    )
    .action((tenant: string, ...given: unknown[]) => start<MoveFlags>((ctx, flags) => go(ctx, tenant, flags))(...given));

  move
    .command('finish')
    .description('Remove the old rows of a tenant that has moved, once their grace has ended; with --due those of all.')
    .argument('[tenant]', 'key of the tenant')
    .option('--due', 'all whose grace has ended')
    .option('--now', 'before the grace has ended')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      helpEnding({ 0: 'removed', 1: 'refused; nothing was removed', 2: 'not confirmed, or could not be asked' }, [
        'partywall move finish <tenant> --yes',
        'partywall move finish --due --yes',
      ]),
    )
    .action((tenant: string | undefined, ...given: unknown[]) => start<FinishFlags>((ctx, flags) => finish(ctx, tenant, flags))(...given));

  move
    .command('cancel')
    .description('Give up a move that has not switched: the tenant is let in where it was.')
    .argument('<tenant>', 'key of the tenant')
    .option('--reason <text>', 'why, for the audit log')
    .addHelpText(
      'after',
      helpEnding({ 0: 'cancelled', 1: 'refused: there is none, or it has switched', 2: 'could not be asked' }, ['partywall move cancel <tenant>']),
    )
    .action((tenant: string, ...given: unknown[]) =>
      start<{ reason?: string }>((ctx, { reason }) =>
        inPlacements(ctx, async (operation, placements) => {
          const cancelled = await cancelMove(operation, placements, { tenant, reason });
          return { exit: 0, data: cancelled, text: `cancelled: tenant ${tenant} is let in where it was` };
        }),
      )(...given),
    );

  move
    .command('status')
    .description('List moves, latest first.')
    .argument('[tenant]', 'key of a tenant')
    .addHelpText('after', helpEnding({ 0: 'listed', 2: 'could not be asked' }, ['partywall move status']))
    .action((tenant: string | undefined, ...given: unknown[]) =>
      start((ctx) =>
        withControl(ctx, async (operation) => {
          const moves = await listMoves(operation, { tenant, limit: movesShown });
          return { exit: 0, data: { moves }, text: moves.length === 0 ? 'no tenant has moved' : moves.map(moveText).join('\n') };
        }),
      )(...given),
    );
  registerMovePrepare(move, start);
  registerMoveForget(move, start);
}

interface FinishFlags {
  readonly due?: true;
  readonly now?: true;
  readonly yes?: true;
}

function inPlacements(ctx: CommandContext, work: (operation: Operation, placements: Placements) => Promise<Answer>): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const placements = placementsOf(ctx.env);
    return work(operation, placements).finally(() => placements.close());
  });
}

function go(ctx: CommandContext, tenant: string, { to, grace, dryRun, yes, reason }: MoveFlags): Promise<Answer> {
  return inPlacements(ctx, async (operation, placements) => {
    const input: MoveInput = { tenant, to, graceSeconds: grace, reason };
    const plan = await previewMove(operation, placements, input);
    if (dryRun) return { exit: plan.refusal === null ? 0 : 1, data: { dryRun: true, ...plan }, text: planText(plan) };
    ctx.talk.line(planText(plan));
    await confirmed(ctx, { ...(yes && { yes }) }, `move tenant ${tenant} to ${plan.to}`);
    const durable = inProcess(operation.database, { [moveKind]: moveWork(placements) });
    try {
      const { id } = await moveTenant(operation, durable, { ...input, placements });
      await watch(ctx, operation, id);
    } finally {
      await durable.stop();
    }
    await noteInLedger(ctx, operation);
    const [moved] = await listMoves(operation, { tenant, limit: 1 });
    if (!moved) throw new TypeError('a move that has ended is listed');
    return { exit: 0, data: moved, text: moveText(moved) };
  });
}

/** A database that is restored as a whole must know where its tenants went. The schedule makes up for a store that is down now. */
async function noteInLedger(ctx: CommandContext, operation: Operation): Promise<void> {
  if (!ctx.env['PARTYWALL_ARCHIVE']) return;
  try {
    await withArchive(ctx, (archive) => syncLedger(operation, archive));
  } catch (error) {
    if (!(error instanceof PartywallError)) throw error;
    ctx.talk.line(`the ledger does not know of the move yet: ${error.message}; run \`partywall ledger sync\``);
  }
}

async function watch(ctx: CommandContext, operation: Operation, id: string): Promise<void> {
  for (let said = ''; ; ) {
    ctx.signal.throwIfAborted();
    const now = await awaitOperation(operation, id, { timeoutMs: progressMs });
    if (now.state === 'failed') {
      throw new PartywallError('move_refused', now.error ?? 'the move failed', {
        hint: 'mend what the message names and ask again, or `partywall move cancel`',
      });
    }
    if (now.state === 'done') return;
    if (now.step !== said) ctx.talk.line(now.step);
    said = now.step;
  }
}

function finish(ctx: CommandContext, tenant: string | undefined, { due, now, yes }: FinishFlags): Promise<Answer> {
  if ((tenant === undefined) === (due === undefined)) throw new PartywallError('usage', 'reading the command line: finish takes a tenant, or --due');
  return inPlacements(ctx, async (operation, placements) => {
    await confirmed(ctx, { ...(yes && { yes }) }, `remove the old rows of ${tenant === undefined ? 'all tenants whose grace has ended' : `tenant ${tenant}`}`);
    if (tenant !== undefined) {
      const { rows } = await finishMove(operation, placements, { tenant, ...(now && { now }) });
      return { exit: 0, data: { visited: 1, finished: [{ tenant, rows }], failed: [] }, text: `removed ${rows} old rows of tenant ${tenant}` };
    }
    const report = await finishDueMoves(operation, placements);
    const lines = [
      ...report.finished.map(({ tenant: key, rows }) => `removed ${rows} old rows of tenant ${key}`),
      ...report.failed.map(({ tenant: key, problem }) => `tenant ${key}: ${problem}`),
      `visited ${report.visited} of ${report.due}`,
    ];
    return { exit: report.failed.length > 0 ? 1 : 0, data: report, text: lines.join('\n') };
  });
}

function planText({ tenant, from, to, tables, leftInTarget, refusal }: MovePreview): string {
  return [
    `tenant ${tenant}, from ${from} to ${to}`,
    ...tables.map(({ table, rows }) => `  ${table}: ${rows} rows`),
    ...(leftInTarget > 0 ? [`${leftInTarget} old rows of an earlier stay go first`] : []),
    ...(refusal === null ? [] : [`it would be refused: ${refusal}`]),
  ].join('\n');
}

function moveText({ tenant, placement, direction, state, rows, removeAfter }: Move): string {
  const grace = state === 'switched' && removeAfter ? `; the old rows stay until ${removeAfter.toISOString()}` : '';
  return `tenant ${tenant} ${direction === 'out' ? 'to' : 'back from'} ${placement}: ${state}${rows === null ? '' : `, ${rows} rows`}${grace}`;
}

function graceOf(text: string): number {
  const [, count, unit] = /^(\d{1,6})([mhd])$/.exec(text) ?? [];
  if (count === undefined || unit === undefined) throw new InvalidArgumentError('a number of minutes, hours or days: 30m, 12h, 7d');
  return Number(count) * (units[unit] ?? 1);
}
