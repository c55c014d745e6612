import {
  pruneUsage,
  type RequestFigures,
  type SystemUsage,
  surveyUsage,
  systemUsage,
  type TenantUsage,
  tenantUsage,
  type UsageSurvey,
  usageHours,
} from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';

interface UsageFlags {
  readonly hours?: number;
  readonly survey?: true;
}

export function registerUsage(program: Command, start: Start): void {
  program
    .command('usage')
    .summary('Show what a tenant, or the whole system, uses.')
    .description(
      'Show what a tenant uses: calls, errors, response times, active users, rows, storage, connections. Without a tenant, the whole system. ' +
        'With --survey, count the rows and bytes of every tenant first, and drop usage that is older than it is kept.',
    )
    .argument('[tenant]', 'key of the tenant')
    .option('--hours <hours>', `over how many hours, the current one included (default: ${usageHours.default})`, parseHours)
    .option('--survey', 'count rows and bytes of all tenants now')
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown', 1: 'shown, but the survey could not count every table', 2: 'could not be asked' }, [
        'partywall usage',
        'partywall usage 2f1c9a4e-8f0b-4f6e-9a55-0d6a1f7f2b11 --hours 168',
        'partywall usage --survey --json',
      ]),
    )
    .action((tenant: string | undefined, ...given: unknown[]) => start<UsageFlags>((ctx, flags) => run(ctx, tenant, flags))(...given));
}

function run(ctx: CommandContext, tenant: string | undefined, flags: UsageFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const survey = flags.survey ? await surveyUsage(operation) : undefined;
    if (flags.survey) await pruneUsage(operation);
    const exit = survey && survey.unmeasured.length > 0 ? 1 : 0;
    const counted = survey ? `${surveyText(survey)}\n\n` : '';
    if (tenant === undefined) {
      const usage = await systemUsage(operation);
      return { exit, data: { ...usage, ...(survey && { survey }) }, text: `${counted}${systemText(usage)}` };
    }
    const usage = await tenantUsage(operation, tenant, { hours: flags.hours ?? usageHours.default });
    return { exit, data: { ...usage, ...(survey && { survey }) }, text: `${counted}${tenantText(usage)}` };
  });
}

export function parseHours(text: string): number {
  const hours = Number(text);
  if (!/^\d+$/.test(text) || hours < 1 || hours > usageHours.max) throw new InvalidArgumentError(`hours are a number from 1 to ${usageHours.max}`);
  return hours;
}

function tenantText(usage: TenantUsage): string {
  const { day, week, month } = usage.activeUsers;
  return lines([
    ['tenant', `${usage.name} (${usage.tenantId}), ${usage.status}`],
    ['api calls', `${usage.apiCalls} since ${usage.periodStart.slice(0, 10)}`],
    [`last ${usage.requests.hours} hours`, figuresText(usage.requests)],
    ['active users', `${day} today, ${week} in 7 days, ${month} in 30 days`],
    ['storage', usage.storageBytes === null ? 'not surveyed yet' : `${usage.storageBytes} bytes`],
    ['connections', String(usage.connections)],
    ...Object.entries(usage.rows)
      .toSorted(([a], [b]) => a.localeCompare(b))
      .map(([table, rows]): [string, string] => [table, `${rows} rows`]),
    ['surveyed', usage.measuredAt ?? 'not yet; `partywall usage --survey` does'],
  ]);
}

function systemText({ tenants, requests, activeUsers, connections, database }: SystemUsage): string {
  const byStatus = Object.entries(tenants.byStatus).map(([status, count]) => `${count} ${status}`);
  return lines([
    ['tenants', [String(tenants.total), ...byStatus].join(', ')],
    ['last hour', figuresText(requests.hour)],
    ['last 24 hours', figuresText(requests.day)],
    ['active users', `${activeUsers} today`],
    ['connections', `${connections.used} of ${connections.max}`],
    ...connections.byRole.map(({ role, state, connections: count }): [string, string] => [`  ${role}`, `${count} ${state}`]),
    ['database', `${database.bytes} bytes, ${percent(database.cacheHitRatio)} of reads from memory, ${database.deadlocks} deadlocks`],
  ]);
}

function surveyText({ tables, counted, unmeasured }: UsageSurvey): string {
  return [`surveyed ${counted} of ${tables} tables`, ...unmeasured.map(({ table, reason }) => `  ${table}: ${reason}`)].join('\n');
}

function figuresText({ calls, errors, errorRate, averageMs, p95Ms, p99Ms }: RequestFigures): string {
  if (calls === 0) return 'no calls';
  const ms = (value: number | null): string => (value === null ? '-' : `${Math.round(value)} ms`);
  return `${calls} calls, ${errors} errors (${percent(errorRate)}), ${ms(averageMs)} on average, p95 ${ms(p95Ms)}, p99 ${ms(p99Ms)}`;
}

function percent(ratio: number | null): string {
  return ratio === null ? '-' : `${(100 * ratio).toFixed(1)} %`;
}

function lines(entries: readonly (readonly [label: string, value: string])[]): string {
  const width = Math.max(...entries.map(([label]) => label.length));
  return entries.map(([label, value]) => `${label.padEnd(width)}  ${value}`).join('\n');
}
