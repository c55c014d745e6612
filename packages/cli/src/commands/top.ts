import { type Consumption, consumptions, type TopConsumers, topConsumers, topLimit } from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { parseHours } from './usage.ts';

interface TopFlags {
  readonly by: Consumption;
  readonly limit?: number;
  readonly hours?: number;
}

const units: Readonly<Record<Consumption, string>> = {
  calls: 'calls',
  errors: 'errors',
  time: 'ms',
  rows: 'rows',
  storage: 'bytes',
  connections: 'connections',
};

export function registerTop(program: Command, start: Start): void {
  program
    .command('top')
    .summary('Show which tenants use most.')
    .description(
      'Show which tenants use most, with their share of all. Calls, errors and time (spent on answers) are of the last hours, rows and storage of the ' +
        'last survey, connections are the transactions in progress.',
    )
    .addOption(new Option('--by <measure>', 'what to order by').choices(consumptions).default('calls'))
    .option('--limit <count>', `how many tenants (default: ${topLimit.default})`, parseLimit)
    .option('--hours <hours>', 'over how many hours, the current one included (default: 24)', parseHours)
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown', 2: 'could not be asked' }, ['partywall top', 'partywall top --by time --hours 1', 'partywall top --by storage --json']),
    )
    .action(start<TopFlags>(run));
}

function run(ctx: CommandContext, { by, limit, hours }: TopFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const top = await topConsumers(operation, { by, ...(limit !== undefined && { limit }), ...(hours !== undefined && { hours }) });
    return { exit: 0, data: top, text: topText(top) };
  });
}

function topText({ by, hours, total, items }: TopConsumers): string {
  const unit = units[by];
  const over = hours === null ? '' : ` in ${hours} hours`;
  if (items.length === 0) return `no tenant has any ${unit}${over}`;
  const width = Math.max(...items.map(({ name }) => name.length));
  const figures = items.map(({ name, tenantId, value, share }) => {
    return `${name.padEnd(width)}  ${String(Math.round(value)).padStart(String(Math.round(total)).length)} ${unit}  ${(100 * share).toFixed(1).padStart(5)} %  ${tenantId}`;
  });
  return [...figures, `all tenants: ${Math.round(total)} ${unit}${over}`].join('\n');
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > topLimit.max) throw new InvalidArgumentError(`a limit is a number from 1 to ${topLimit.max}`);
  return limit;
}
