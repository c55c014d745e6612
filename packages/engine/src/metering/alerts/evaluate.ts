import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { auditNewBlocks } from '../../audit/attempts/blocks.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { type AppliedJudgement, applyJudgement } from './apply-judgement.ts';
import { type AlertOverride, type AlertRule, judge, type StandingAlert } from './judge.ts';
import { measure } from './measure.ts';
import { overrideColumns, ruleColumns } from './rules.ts';

export interface Evaluation extends AppliedJudgement {
  readonly evaluatedAt: string;
  /** Open alerts that went on. */
  readonly kept: number;
}

/** An answer about alerts is at most this old, or the evaluation is made anew. */
export const freshMs = 60_000;

/** Evaluations go one after another: each sees what the one before opened. */
const lockSql = "select pg_advisory_xact_lock(hashtextextended('partywall_control.alerts', 0))";
const tryLockSql = "select pg_try_advisory_xact_lock(hashtextextended('partywall_control.alerts', 0)) as locked";

const standingSql = `select a.id, a.rule, a.tenant_id as tenant, a.subject, a.status, a.severity, a.value, a.threshold, a.details,
  a.rising_since as "risingSince", a.falling_since as "fallingSince", (a.tenant_id = '' or coalesce(d.status = 'active', false)) as active
from partywall_control.alerts a left join partywall_control.directory d on d.tenant_id = a.tenant_id
where a.status <> 'resolved' and ($1::text is null or a.tenant_id = $1)`;

/**
 * Measures everything that a rule looks at, opens, escalates and resolves alerts, and writes down who is to be told, in one transaction.
 * However often and from wherever it is called, an alert is opened, escalated and resolved once.
 *
 * @param input `tenant`: look at this one alone, leaving the system out
 * @throws PartywallError tenant_unknown
 */
export async function evaluateAlerts(operation: Operation, input: { readonly tenant?: string | undefined } = {}): Promise<Evaluation> {
  const tenant = input.tenant ?? null;
  return transaction(operation.database.pool, async (client) => {
    await client.query(lockSql);
    if (tenant !== null) await assertTenant(client, tenant);
    return evaluate(client, operation, tenant);
  });
}

/**
 * Sees to it that alerts are at most `maxAgeMs` old: evaluates all where the last evaluation is older and nobody else is at it. For whoever
 * reads alerts, so that an answer does not depend on a schedule being set up.
 *
 * @returns when they were last evaluated; null where that has never finished
 */
export async function refreshAlerts(operation: Operation, maxAgeMs = freshMs): Promise<string | null> {
  const { database } = operation;
  const known = await evaluatedAt(database.pool);
  if (known && ageMs(operation, known) < maxAgeMs) return known.toISOString();
  return transaction(database.pool, async (client) => {
    const { rows } = await client.query<{ locked: boolean }>(tryLockSql);
    const latest = await evaluatedAt(client);
    if (!rows[0]?.locked || (latest && ageMs(operation, latest) < maxAgeMs)) return latest?.toISOString() ?? null;
    const bySystem: Operation = { ...operation, actor: { kind: 'system', id: 'alerts' } };
    return (await evaluate(client, bySystem, null)).evaluatedAt;
  });
}

async function evaluate(client: pg.ClientBase, operation: Operation, tenant: string | null): Promise<Evaluation> {
  const now = operation.database.clock();
  const { rows: rules } = await client.query<AlertRule>(`select ${ruleColumns} from partywall_control.alert_rules`);
  const { rows: overrides } = await client.query<AlertOverride>(`select ${overrideColumns} from partywall_control.alert_overrides`);
  const measurements = await measure(client, { rules, overrides, tenant, now });
  const { rows: standing } = await client.query<StandingAlert>(standingSql, [tenant]);
  const judgement = judge({ rules, overrides, measurements, standing, now });
  const applied = await applyJudgement(client, judgement, now);
  if (tenant === null) {
    await client.query(
      'insert into partywall_control.alert_evaluation (evaluated_at) values ($1) on conflict (only_one) do update set evaluated_at = excluded.evaluated_at',
      [now],
    );
  }
  if (tenant === null) await auditNewBlocks(client, operation);
  const { opened, escalated, resolved } = applied;
  if (opened + escalated + resolved > 0) {
    await appendAudit(client, operation, { tenant, action: 'alert.evaluate', details: { opened, escalated, resolved } });
  }
  return { ...applied, kept: judgement.keep.filter((kept) => kept.standing.status === 'open').length, evaluatedAt: now.toISOString() };
}

async function assertTenant(client: pg.ClientBase, tenant: string): Promise<void> {
  const { rowCount } = await client.query('select from partywall_control.directory where tenant_id = $1', [tenant]);
  if (rowCount === 0) throw new PartywallError('tenant_unknown', `evaluating the alerts of tenant ${JSON.stringify(tenant)}`);
}

async function evaluatedAt(client: pg.ClientBase | pg.Pool): Promise<Date | undefined> {
  const { rows } = await client.query<{ evaluated_at: Date }>('select evaluated_at from partywall_control.alert_evaluation');
  return rows[0]?.evaluated_at;
}

function ageMs({ database }: Operation, at: Date): number {
  return database.clock().getTime() - at.getTime();
}
