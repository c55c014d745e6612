import {
  type Attempt,
  type AttemptSettings,
  type Block,
  blockSource,
  listAttempts,
  listBlocks,
  type Operation,
  PartywallError,
  readAttemptSettings,
  setAttemptSettings,
  sqlState,
  unblockSource,
} from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withService } from '../control.ts';
import { helpEnding } from './help.ts';

interface ListFlags {
  readonly source?: string;
  readonly tenant?: string;
  readonly since?: Date;
  readonly limit: number;
}

interface BlockFlags {
  readonly minutes: number;
  readonly reason?: string;
}

interface SettingsFlags {
  readonly threshold?: number;
  readonly window?: number;
  readonly block?: number;
  readonly exempt?: readonly string[];
}

const limitMax = 10_000;
const blockMinutesMax = 10_080;
const sourceArgument = ['<source>', 'address, or network such as 198.51.100.0/24'] as const;

export function registerAttempts(program: Command, start: Start): void {
  const attempts = program
    .command('attempts')
    .summary('Show attempts on other tenants; block and unblock where they come from.')
    .description('Attempts on other tenants that the middlewares of the application recorded, and the sources that it refuses because of them.');
  attempts
    .command('list')
    .summary('Show attempts, latest first.')
    .option('--source <source>', 'only from this address or network')
    .option('--tenant <key>', "only with this tenant's credentials")
    .option('--since <time>', 'only from this time on, ISO 8601', parseTime)
    .option('--limit <n>', 'at most so many', parseNumber(1, limitMax), 100)
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown', 2: 'could not be asked' }, ['partywall attempts list', 'partywall attempts list --source 198.51.100.0/24 --json']),
    )
    .action(start<ListFlags>(list));
  attempts
    .command('blocks')
    .summary('Show blocked sources.')
    .option('--all', 'those whose block has ended too')
    .addHelpText('after', helpEnding({ 0: 'shown', 2: 'could not be asked' }, ['partywall attempts blocks']))
    .action(start<{ all?: true }>(blocks));
  attempts
    .command('block')
    .summary('Refuse all requests of a source for a time.')
    .argument(...sourceArgument)
    .option('--minutes <n>', 'for how long', parseNumber(1, blockMinutesMax), 60)
    .option('--reason <text>', 'why, for the audit log')
    .addHelpText(
      'after',
      helpEnding({ 0: 'blocked', 2: 'could not be blocked' }, ['partywall attempts block 198.51.100.7 --minutes 1440 --reason "incident 12"']),
    )
    .action((source: string, ...given: unknown[]) => start<BlockFlags>((ctx, flags) => block(ctx, source, flags))(...given));
  attempts
    .command('unblock')
    .summary('End a block.')
    .argument(...sourceArgument)
    .option('--reason <text>', 'why, for the audit log')
    .addHelpText('after', helpEnding({ 0: 'unblocked', 1: 'it was not blocked', 2: 'could not be unblocked' }, ['partywall attempts unblock 198.51.100.7']))
    .action((source: string, ...given: unknown[]) => start<{ reason?: string }>((ctx, { reason }) => unblock(ctx, source, reason))(...given));
  attempts
    .command('settings')
    .summary('Show when a source is blocked and for how long, or change it.')
    .option('--threshold <n>', 'attempts within the window; 0 blocks nobody', parseNumber(0, 1_000))
    .option('--window <minutes>', 'within which they count', parseNumber(1, 1_440))
    .option('--block <minutes>', 'how long a block lasts', parseNumber(1, blockMinutesMax))
    .option('--exempt <networks>', 'never blocked, separated by commas; none by an empty text', parseList)
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown, or changed', 2: 'could not be changed' }, [
        'partywall attempts settings',
        'partywall attempts settings --threshold 10 --exempt 203.0.113.0/24',
      ]),
    )
    .action(start<SettingsFlags>(settings));
}

function list(ctx: CommandContext, { source, tenant, since, limit }: ListFlags): Promise<Answer> {
  return withAttempts(ctx, async (operation) => {
    try {
      const found = await listAttempts(operation, { source, tenant, from: since?.toISOString(), limit });
      const items: Attempt[] = found.map(({ cursor: _, ...attempt }) => attempt);
      return { exit: 0, data: { items }, text: items.length === 0 ? 'no attempts' : items.map(attemptLine).join('\n') };
    } catch (cause) {
      if (source === undefined || sqlState(cause)?.startsWith('22') !== true) throw cause;
      throw new PartywallError('usage', `reading --source ${JSON.stringify(source)}: it is neither an address nor a network`, { cause });
    }
  });
}

function blocks(ctx: CommandContext, { all }: { readonly all?: true }): Promise<Answer> {
  return withAttempts(ctx, async (operation) => {
    const items = await listBlocks(operation, { ended: all, limit: limitMax });
    return { exit: 0, data: { items }, text: items.length === 0 ? 'no source is blocked' : items.map(blockLine).join('\n') };
  });
}

function block(ctx: CommandContext, source: string, { minutes, reason }: BlockFlags): Promise<Answer> {
  return withAttempts(ctx, async (operation) => {
    const done = await blockSource(operation, { source, minutes, reason });
    return { exit: 0, data: done, text: `blocked ${blockLine(done)}` };
  });
}

function unblock(ctx: CommandContext, source: string, reason: string | undefined): Promise<Answer> {
  return withAttempts(ctx, async (operation) => {
    const done = await unblockSource(operation, { source, reason });
    return done ? { exit: 0, data: done, text: `unblocked ${done.source}` } : { exit: 1, data: null, text: `${oneLine(source)} is not blocked` };
  });
}

function settings(ctx: CommandContext, { threshold, window: windowMinutes, block: blockMinutes, exempt }: SettingsFlags): Promise<Answer> {
  return withAttempts(ctx, async (operation) => {
    const changes = {
      ...(threshold !== undefined && { threshold }),
      ...(windowMinutes !== undefined && { windowMinutes }),
      ...(blockMinutes !== undefined && { blockMinutes }),
      ...(exempt !== undefined && { exempt }),
    };
    const found = Object.keys(changes).length === 0 ? await readAttemptSettings(operation) : await setAttemptSettings(operation, changes);
    return { exit: 0, data: found, text: settingsText(found) };
  });
}

/** @throws PartywallError phase_refused where the wall is older than the records of attempts, and what `withService` and `work` throw */
async function withAttempts(ctx: CommandContext, work: (operation: Operation) => Promise<Answer>): Promise<Answer> {
  try {
    return await withService(ctx, work);
  } catch (cause) {
    if (sqlState(cause) !== '42P01') throw cause;
    throw new PartywallError('phase_refused', 'looking for attempts: the wall of this database is older than they are', {
      cause,
      hint: 'run `partywall apply` again: it brings schema partywall up to date',
    });
  }
}

function attemptLine({ at, lastAt, times, kind, source, route, actor, tenant, claimed, requestId }: Attempt): string {
  if (kind === 'gone') return `${at}  until ${lastAt} the records of ${times} older attempts gave way: a flood`;
  const what = { tenant: 'named tenant', unit: 'named unit', row: 'wrote a row of another tenant', more: 'and more' }[kind];
  const line = [
    `${at}  ${source ?? 'unknown source'}  ${times > 1 ? `${times} x ` : ''}${what}${claimed === null ? '' : ` ${claimed}`}`,
    tenant && `of tenant ${tenant}`,
    actor && `by ${actor}`,
    route,
    requestId && `request ${requestId}`,
  ];
  return oneLine(line.filter(Boolean).join(', '));
}

function blockLine({ source, until, active, attempts, blockedBy, reason }: Block): string {
  const why = blockedBy === null ? `after ${attempts} attempts` : `by ${blockedBy}`;
  return oneLine([`${source} ${active ? 'until' : 'ended'} ${until}`, why, reason].filter(Boolean).join(', '));
}

function settingsText({ threshold, windowMinutes, blockMinutes, exempt }: AttemptSettings): string {
  const rule =
    threshold === 0 ? 'no source is blocked' : `${threshold} attempts within ${windowMinutes} minutes block their source for ${blockMinutes} minutes`;
  return exempt.length === 0 ? rule : `${rule}; never ${exempt.join(', ')}`;
}

/** What a request said reaches a terminal without its control characters. */
function oneLine(text: string): string {
  return text.replaceAll(/\p{C}+/gu, ' ');
}

function parseNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
    if (!(number >= least && number <= most)) throw new InvalidArgumentError(`a whole number from ${least} to ${most}`);
    return number;
  };
}

function parseTime(text: string): Date {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('write 2027-01-31, or a time with its zone as in 2027-01-31T12:00:00Z');
  return time;
}

function parseList(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
