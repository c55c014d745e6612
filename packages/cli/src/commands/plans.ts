import {
  changePlan,
  deletePlan,
  listPlans,
  type Operation,
  PartywallError,
  type Plan,
  type PlanChange,
  type PlanTier,
  planTiers,
  putPlan,
  type StoredPlan,
  showPlan,
} from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { helpEnding } from './help.ts';

interface SetFlags {
  readonly title?: string;
  readonly tier?: PlanTier;
  readonly limit?: Readonly<Record<string, number | null>>;
  // Commander makes an empty text of null.
  readonly requestsPerMinute?: number | 'none';
  readonly retentionDays?: number;
  readonly auditRetentionDays?: number;
}

interface Reasoned {
  readonly reason?: string;
}

/** What a plan has that `plans set` makes and is not told otherwise. */
const newPlan = { tier: 'starter', limits: {}, requestsPerMinute: null, retentionDays: 30, auditRetentionDays: 365 } as const;
const planNamePattern = /^[a-z][a-z0-9_-]{0,39}$/;
const wholeMax = 2_147_483_647;

export function registerPlans(program: Command, start: Start): void {
  const plans = program
    .command('plans')
    .summary('List and change plans, and which one a tenant is on.')
    .description('What tenants pay for: quotas, rate, retention.');

  plans
    .command('list')
    .description('List all plans with their limits, and how many tenants are on each.')
    .addHelpText('after', helpEnding({ 0: 'listed', 2: 'could not be asked' }, ['partywall plans list', 'partywall plans list --json']))
    .action(start((ctx) => withControl(ctx, list)));

  plans
    .command('set')
    .description('Add a plan, or change what is named of the one that is there, for all tenants that are on it.')
    .argument('<name>', 'lower-case letters, digits, - and _', parseName)
    .option('--title <title>', 'what people call it')
    .addOption(new Option('--tier <tier>', 'recovery and retention promise').choices(planTiers))
    .option('--limit <quota=limit>', 'limit of a quota, or `<quota>=none`; repeatable', parseLimit)
    .option('--requests-per-minute <rate>', 'a number, or `none`', parseRateOrNone)
    .option('--retention-days <days>', 'how long a cancelled or deleted tenant can be restored', parseWhole)
    .option('--audit-retention-days <days>', 'how long audit records are kept', parseWhole)
    .addHelpText(
      'after',
      helpEnding({ 0: 'set', 2: 'could not be set' }, [
        'partywall plans set team --title Team --tier pro --limit customers=5000 --limit storage=none',
        'partywall plans set free --requests-per-minute 30',
      ]),
    )
    .action((name: string, ...given: unknown[]) => start<SetFlags>((ctx, flags) => set(ctx, name, flags))(...given));

  plans
    .command('delete')
    .description('Delete a plan that no tenant is on.')
    .argument('<name>', 'the plan', parseName)
    .option('--reason <text>', 'why, for the audit log')
    .addHelpText('after', helpEnding({ 0: 'deleted', 1: 'tenants are on it', 2: 'could not be deleted' }, ['partywall plans delete team']))
    .action((name: string, ...given: unknown[]) => start<Reasoned>((ctx, flags) => remove(ctx, name, flags))(...given));

  plans
    .command('change')
    .description('Put a tenant on another plan, up or down. What it has more of than the plan allows stays, and cannot grow.')
    .argument('<tenant>', 'key of the tenant')
    .argument('<plan>', 'the plan', parseName)
    .option('--reason <text>', 'why, for the audit log')
    .addHelpText(
      'after',
      helpEnding({ 0: 'changed', 1: 'changed, and the tenant exceeds the plan', 2: 'could not be changed' }, [
        'partywall plans change 2f1c9a4e-8f0b-4f6e-9a55-0d6a1f7f2b11 enterprise --reason "signed on Monday"',
      ]),
    )
    .action((tenant: string, plan: string, ...given: unknown[]) => start<Reasoned>((ctx, flags) => change(ctx, { tenant, plan, ...flags }))(...given));
}

async function list(operation: Operation): Promise<Answer> {
  const plans = await listPlans(operation);
  return { exit: 0, data: { plans }, text: plans.map(planText).join('\n\n') };
}

function set(ctx: CommandContext, name: string, flags: SetFlags): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const there = await showPlan(operation, name);
    const { plan, created } = await putPlan(operation, changed(name, there, flags));
    return { exit: 0, data: { plan, created }, text: `${created ? 'added' : 'changed'}\n${planText(plan)}` };
  });
}

function changed(name: string, there: StoredPlan | undefined, flags: SetFlags): Plan {
  const before: Omit<Plan, 'name'> = there ?? { ...newPlan, title: name };
  const limits = Object.entries({ ...before.limits, ...flags.limit }).flatMap(([quota, limit]) => (limit === null ? [] : [[quota, limit] as const]));
  return {
    name,
    title: flags.title ?? before.title,
    tier: flags.tier ?? before.tier,
    limits: Object.fromEntries(limits),
    requestsPerMinute: flags.requestsPerMinute === 'none' ? null : (flags.requestsPerMinute ?? before.requestsPerMinute),
    retentionDays: flags.retentionDays ?? before.retentionDays,
    auditRetentionDays: flags.auditRetentionDays ?? before.auditRetentionDays,
  };
}

function remove(ctx: CommandContext, name: string, flags: Reasoned): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const deleted = await deletePlan(operation, { name, ...flags });
    if (!deleted) throw new PartywallError('plan_unknown', `deleting plan ${name}: there is none`);
    return { exit: 0, data: { deleted: name }, text: `deleted ${name}` };
  });
}

function change(ctx: CommandContext, input: { tenant: string; plan: string } & Reasoned): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const done = await changePlan(operation, input);
    return { exit: done.exceeded.length > 0 ? 1 : 0, data: done, text: changeText(done) };
  });
}

function changeText({ tenant, before, after, exceeded }: PlanChange): string {
  const over = exceeded.map(({ quota, usage, limit }) => `  ${quota}: ${usage} where the plan allows ${limit}; it stays, and cannot grow`);
  return [`${tenant}: ${before} → ${after}`, ...over].join('\n');
}

function planText(plan: StoredPlan): string {
  const limits = Object.entries(plan.limits).map(([quota, limit]) => `${quota} ${limit}`);
  return [
    `${plan.name}  ${plan.title}, tier ${plan.tier}, ${plan.tenants} ${plan.tenants === 1 ? 'tenant' : 'tenants'}`,
    `  limits     ${limits.length > 0 ? limits.join(', ') : 'none'}`,
    `  rate       ${plan.requestsPerMinute === null ? 'no limit' : `${plan.requestsPerMinute} requests per minute`}`,
    `  retention  ${plan.retentionDays} days, audit log ${plan.auditRetentionDays} days`,
  ].join('\n');
}

function parseName(text: string): string {
  if (!planNamePattern.test(text)) throw new InvalidArgumentError('a plan is named by lower-case letters, digits, - and _');
  return text;
}

function parseLimit(text: string, before: Readonly<Record<string, number | null>> = {}): Record<string, number | null> {
  const [, quota, limit] = /^([a-z][a-z0-9_]{0,39})=(\d{1,15}|none)$/.exec(text) ?? [];
  if (quota === undefined || limit === undefined) throw new InvalidArgumentError('write <quota>=<number>, or <quota>=none');
  return { ...before, [quota]: limit === 'none' ? null : Number(limit) };
}

function parseWhole(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > wholeMax) throw new InvalidArgumentError('write a whole number');
  return value;
}

function parseRateOrNone(text: string): number | 'none' {
  return text === 'none' ? text : parseRate(text);
}

/** Requests per minute, at least one. */
export function parseRate(text: string): number {
  const rate = parseWhole(text);
  if (rate < 1) throw new InvalidArgumentError('a rate is at least one request per minute');
  return rate;
}
