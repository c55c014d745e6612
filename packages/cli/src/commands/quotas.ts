import {
  increaseQuota,
  PartywallError,
  type QuotaState,
  type RateLimit,
  type RecountReport,
  recountQuotas,
  removeRateLimit,
  revokeIncrease,
  setRateLimit,
  showQuotas,
  type TenantQuotas,
} from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';
import { parseRate } from './plans.ts';

interface IncreaseFlags {
  readonly until: Date;
  readonly reason?: string;
}

interface RateFlags {
  readonly until?: Date;
  readonly reason?: string;
}

const tenantArgument = ['<tenant>', 'key of the tenant'] as const;
const reasonOption = ['--reason <text>', 'why, for the audit log'] as const;

export function registerQuotas(program: Command, start: Start): void {
  const quotas = program
    .command('quotas')
    .summary('Show and change what a tenant may use.')
    .description('What a tenant uses of its quotas, exceptions from its plan, and counting anew.');

  quotas
    .command('show')
    .description('Show what a tenant uses of each quota, and what it may.')
    .argument(...tenantArgument)
    .addHelpText('after', helpEnding({ 0: 'shown', 1: 'shown, and a quota is exceeded', 2: 'could not be asked' }, ['partywall quotas show 42 --json']))
    .action((tenant: string, ...given: unknown[]) => start((ctx) => show(ctx, tenant))(...given));

  quotas
    .command('increase')
    .description('Give a tenant a higher limit until a date. It ends by itself.')
    .argument(...tenantArgument)
    .argument('<quota>', 'the quota')
    .argument('<limit>', 'the whole limit, not what is added to it', parseLimit)
    .requiredOption('--until <date>', 'day (its start, UTC) or time, ISO 8601', parseDate)
    .option(...reasonOption)
    .addHelpText(
      'after',
      helpEnding({ 0: 'increased', 2: 'could not be increased' }, ['partywall quotas increase 42 customers 30000 --until 2027-01-31 --reason "a trade fair"']),
    )
    .action((tenant: string, quota: string, limit: number, ...given: unknown[]) =>
      start<IncreaseFlags>((ctx, { until, reason }) => increase(ctx, { tenant, quota, limit, until, reason }))(...given),
    );

  quotas
    .command('revoke')
    .description('End a temporary increase now.')
    .argument(...tenantArgument)
    .argument('<quota>', 'the quota')
    .option(...reasonOption)
    .addHelpText('after', helpEnding({ 0: 'revoked', 1: 'there was none', 2: 'could not be revoked' }, ['partywall quotas revoke 42 customers']))
    .action((tenant: string, quota: string, ...given: unknown[]) =>
      start<{ reason?: string }>((ctx, { reason }) => revoke(ctx, { tenant, quota, reason }))(...given),
    );

  quotas
    .command('rate')
    .description("Give a tenant a rate of its own, or with `none` its plan's again. Every server holds it within seconds.")
    .argument(...tenantArgument)
    .argument('<requests-per-minute>', 'a number, or `none`')
    .option('--until <date>', 'day (its start, UTC) or time, ISO 8601', parseDate)
    .option(...reasonOption)
    .addHelpText(
      'after',
      helpEnding({ 0: 'changed', 1: 'it had none', 2: 'could not be changed' }, [
        'partywall quotas rate 42 60 --reason "keeps the others waiting"',
        'partywall quotas rate 42 none',
      ]),
    )
    .action((tenant: string, rate: string, ...given: unknown[]) => start<RateFlags>((ctx, flags) => changeRate(ctx, tenant, rate, flags))(...given));

  quotas
    .command('recount')
    .description('Count the rows of a tenant, or of all, and repair counters that say otherwise. The application goes on meanwhile.')
    .argument('[tenant]', 'key of the tenant')
    .addHelpText(
      'after',
      helpEnding({ 0: 'all counters were right', 1: 'counters were wrong, and are right now', 2: 'could not be counted' }, [
        'partywall quotas recount',
        'partywall quotas recount 42 --json',
      ]),
    )
    .action((tenant: string | undefined, ...given: unknown[]) => start((ctx) => recount(ctx, tenant))(...given));
}

function show(ctx: CommandContext, tenant: string): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const found = await showQuotas(operation, tenant);
    const exceeded = found.quotas.some(({ usage, limit }) => limit !== null && usage > limit);
    return { exit: exceeded ? 1 : 0, data: found, text: quotasText(found) };
  });
}

function increase(ctx: CommandContext, input: Parameters<typeof increaseQuota>[1]): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const state = await increaseQuota(operation, input);
    return { exit: 0, data: state, text: stateText(state) };
  });
}

function revoke(ctx: CommandContext, input: Parameters<typeof revokeIncrease>[1]): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const state = await revokeIncrease(operation, input);
    if (!state) return { exit: 1, data: null, text: `no increase of ${input.quota} is in force` };
    return { exit: 0, data: state, text: stateText(state) };
  });
}

function changeRate(ctx: CommandContext, tenant: string, rate: string, { until, reason }: RateFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    if (rate === 'none') {
      const limit = await removeRateLimit(operation, { tenant, reason });
      return limit ? { exit: 0, data: limit, text: rateText(limit) } : { exit: 1, data: null, text: 'it had no rate of its own' };
    }
    const limit = await setRateLimit(operation, { tenant, requestsPerMinute: rateOf(rate), until, reason });
    return { exit: 0, data: limit, text: rateText(limit) };
  });
}

function recount(ctx: CommandContext, tenant: string | undefined): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const report = await recountQuotas(operation, { tenant });
    return { exit: report.repaired > 0 ? 1 : 0, data: report, text: recountText(report) };
  });
}

function quotasText({ tenant, plan, quotas, rateLimit }: TenantQuotas): string {
  return [`${tenant}, plan ${plan}`, ...quotas.map(stateText), `rate: ${rateText(rateLimit)}`].join('\n');
}

function stateText({ quota, usage, limit, increase: temporary, reset }: QuotaState): string {
  const share = limit === null ? 'no limit' : `of ${limit}${limit > 0 ? ` (${Math.round((100 * usage) / limit)} %)` : ''}`;
  const until = temporary ? `, increased until ${temporary.until.toISOString()}` : '';
  return `${quota}: ${usage} ${share}${until}${reset ? `, starts again ${reset.toISOString().slice(0, 10)}` : ''}`;
}

function rateText({ requestsPerMinute, override }: RateLimit): string {
  const rate = requestsPerMinute === null ? 'no limit' : `${requestsPerMinute} requests per minute and server`;
  if (!override) return rate;
  return `${rate}, its own${override.until ? ` until ${override.until.toISOString()}` : ''}`;
}

function recountText({ tenants, repaired, drift }: RecountReport): string {
  const found = drift.map(({ tenant, quota, was, counted }) => `  ${tenant} ${quota}: ${was === null ? 'lost' : was}, counted ${counted}`);
  const more = repaired > drift.length ? [`  and ${repaired - drift.length} more`] : [];
  return [
    `counted ${tenants} ${tenants === 1 ? 'tenant' : 'tenants'}, repaired ${repaired} ${repaired === 1 ? 'counter' : 'counters'}`,
    ...found,
    ...more,
  ].join('\n');
}

function rateOf(text: string): number {
  try {
    return parseRate(text);
  } catch (cause) {
    throw new PartywallError('usage', `reading the rate ${JSON.stringify(text)}: neither a number of requests per minute nor none`, { cause });
  }
}

function parseLimit(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('a limit is a whole number');
  return Number(text);
}

function parseDate(text: string): Date {
  const date = new Date(text);
  if (!/^\d{4}-\d{2}-\d{2}(T.+(Z|[+-]\d{2}:\d{2}))?$/.test(text) || Number.isNaN(date.getTime())) {
    throw new InvalidArgumentError('write 2027-01-31, or a time with its zone as in 2027-01-31T12:00:00Z');
  }
  return date;
}
