import {
  backupSettings,
  isLate,
  PartywallError,
  type RecoveryState,
  type RecoveryStatus,
  rebuildRecoveryPoints,
  recoveryStates,
  recoveryStatus,
  type TenantRecoveryStatus,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { withArchive } from '../archive.ts';
import type { Answer, CommandContext, Start, Style } from '../context.ts';
import { withControl } from '../control.ts';
import { backupCommand } from './backup-verb.ts';
import { helpEnding } from './help.ts';

interface StatusFlags {
  readonly rebuild?: true;
  readonly state?: readonly RecoveryState[];
  readonly limit: number;
}

const limitMax = 10_000;
const colours: Readonly<Record<RecoveryState, Style>> = { ok: 'green', due: 'yellow', late: 'red', never: 'red' };

export function registerBackupStatus(program: Command, start: Start): void {
  backupCommand(program)
    .command('status')
    .summary('Show every tenant against its recovery point objective.')
    .description(
      'Shows how old the last verified recovery point of each tenant and data class is against what its tier promises. Exit status 1 where one is late, where a tenant ' +
        'was never backed up, or where the schedule has stopped: so a monitor that knows nothing of Partywall sees it.',
    )
    .addOption(new Option('--state <state...>', 'only tenants in these states').choices([...recoveryStates]))
    .option('--limit <n>', 'at most so many tenants', parseLimit, 100)
    .option('--rebuild', 'read the recovery points anew from the archive first: after the database was restored from an older time')
    .addHelpText(
      'after',
      helpEnding({ 0: 'everything is as promised', 1: 'something is late, was never backed up, or the schedule has stopped', 2: 'could not be asked' }, [
        'partywall backup status',
        'partywall backup status --state late never --json',
      ]),
    )
    .action(start<StatusFlags>(status));
}

function status(ctx: CommandContext, { state, limit, rebuild }: StatusFlags): Promise<Answer> {
  const settings = backupSettings(ctx.env);
  return withControl(ctx, async (operation) => {
    if (rebuild) {
      const { backups, visited, points, problems } = await withArchive(ctx, (archive) => rebuildRecoveryPoints(operation, archive));
      ctx.talk.line(`read ${visited} of ${backups} verified backups: ${points} recovery points`);
      if (problems.length > 0)
        throw new PartywallError('archive_damaged', 'reading the recovery points: not every backup could be read', { details: problems });
    }
    const found = await recoveryStatus(operation, { states: state, limit, settings });
    const late = isLate(found);
    return { exit: late ? 1 : 0, data: { ...found, late }, text: textOf(ctx, found) };
  });
}

function textOf(ctx: CommandContext, found: RecoveryStatus): string {
  const { counts, visited, tenants, items, more, scheduleRanAt, scheduleStopped } = found;
  const width = Math.max(0, ...items.map(({ tenant }) => tenant.length));
  return [
    ...items.map(
      (item) => `${word(ctx, item.state)}  ${item.tenant.padEnd(width)}  ${item.tier}  ${item.name.replaceAll(/\p{C}+/gu, ' ')}${worst(item)}${proved(item)}`,
    ),
    ...(more ? ['and more: pass --limit, or --state late'] : []),
    `${word(ctx, found.platform.state)}  what belongs to no tenant${worst(found.platform)}`,
    `${visited} of ${tenants} tenants: ${counts.ok} ok, ${counts.due} due, ${counts.late} late, ${counts.never} never`,
    scheduleRanAt === null ? 'no schedule has run' : `the schedule ran at ${scheduleRanAt}${scheduleStopped ? ctx.style('red', ' and has stopped') : ''}`,
  ].join('\n');
}

function worst({ state, classes }: Pick<TenantRecoveryStatus, 'state' | 'classes'>): string {
  const found = classes.find((each) => each.state === state);
  if (!found) return '';
  if (found.at === null) return `: no recovery point of ${found.class}, promised every ${hours(found.rpoSeconds)}`;
  return `: ${found.class} of ${found.at} in ${found.backup}, promised every ${hours(found.rpoSeconds)}`;
}

function proved({ proved: point }: TenantRecoveryStatus): string {
  return point === null ? '; never drilled' : `; the one of ${point.at} was drilled ${point.provedAt.slice(0, 10)}`;
}

function hours(seconds: number): string {
  return seconds > 86_400 ? `${seconds / 86_400} d` : `${seconds / 3_600} h`;
}

function word(ctx: CommandContext, state: RecoveryState): string {
  return ctx.style(colours[state], state.padEnd(5));
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > limitMax) throw new InvalidArgumentError(`a number from 1 to ${limitMax}`);
  return limit;
}
