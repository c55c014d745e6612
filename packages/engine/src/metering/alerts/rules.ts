import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { AlertOverride, AlertRule } from './judge.ts';

/** Rules are data: the documented thresholds are there from the beginning, and may be changed, switched off, removed and added to. */

const rulesMax = 100;

export const ruleColumns = `name, title, metric, quota, warning, critical, window_minutes as "windowMinutes", min_calls as "minCalls",
  for_minutes as "forMinutes", clear_minutes as "clearMinutes", enabled`;
export const overrideColumns = 'rule, tenant_id as tenant, warning, critical, enabled';

/** All rules, in the order of their names: there are at most a hundred. */
export async function listAlertRules({ database }: Operation): Promise<AlertRule[]> {
  const { rows } = await database.pool.query<AlertRule>(`select ${ruleColumns} from partywall_control.alert_rules order by name`);
  return rows;
}

/** @throws PartywallError alert_rule_unknown */
export async function showAlertRule({ database }: Operation, name: string): Promise<AlertRule> {
  const rule = await findRule(database.pool, name);
  if (!rule) throw unknownRule(name);
  return rule;
}

/**
 * Adds a rule or replaces the one of this name. Alerts that stand are judged by it from the next evaluation on.
 *
 * @throws PartywallError input_invalid (thresholds that do not rise, a second rule for a quota, too many rules)
 */
export async function setAlertRule(operation: Operation, rule: AlertRule): Promise<{ readonly rule: AlertRule; readonly created: boolean }> {
  if (rule.critical < rule.warning) {
    throw new PartywallError('input_invalid', `setting alert rule ${rule.name}: critical ${rule.critical} is below warning ${rule.warning}`);
  }
  if (rule.quota !== null && rule.metric !== 'quota') {
    throw new PartywallError('input_invalid', `setting alert rule ${rule.name}: metric ${rule.metric} is of no quota`);
  }
  return transaction(operation.database.pool, async (client) => {
    await client.query('lock table partywall_control.alert_rules in share row exclusive mode');
    const before = await findRule(client, rule.name);
    await refuseSecond(client, rule, before !== undefined);
    await client.query(
      `insert into partywall_control.alert_rules
  (name, title, metric, quota, warning, critical, window_minutes, min_calls, for_minutes, clear_minutes, enabled, changed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now())
on conflict (name) do update set title = excluded.title, metric = excluded.metric, quota = excluded.quota, warning = excluded.warning,
  critical = excluded.critical, window_minutes = excluded.window_minutes, min_calls = excluded.min_calls, for_minutes = excluded.for_minutes,
  clear_minutes = excluded.clear_minutes, enabled = excluded.enabled, changed_at = excluded.changed_at`,
      [
        rule.name,
        rule.title,
        rule.metric,
        rule.quota,
        rule.warning,
        rule.critical,
        rule.windowMinutes,
        rule.minCalls,
        rule.forMinutes,
        rule.clearMinutes,
        rule.enabled,
      ],
    );
    await appendAudit(client, operation, {
      tenant: null,
      action: 'alert_rule.set',
      target: `alert_rule:${rule.name}`,
      details: { before: before ?? null, after: rule },
    });
    return { rule, created: before === undefined };
  });
}

/** Removes a rule with its overrides; its alerts end with the next evaluation. @throws PartywallError alert_rule_unknown */
export async function deleteAlertRule(operation: Operation, name: string): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    const before = await findRule(client, name);
    const { rowCount } = await client.query('delete from partywall_control.alert_rules where name = $1', [name]);
    if (rowCount === 0) throw unknownRule(name);
    await appendAudit(client, operation, { tenant: null, action: 'alert_rule.delete', target: `alert_rule:${name}`, details: { before } });
  });
}

/** Overrides of a rule, by tenant. `after`: the tenant of the last one of the page before. */
export async function listAlertOverrides(
  { database }: Operation,
  input: { readonly rule: string; readonly after?: string | undefined; readonly limit: number },
): Promise<AlertOverride[]> {
  if (!(await findRule(database.pool, input.rule))) throw unknownRule(input.rule);
  const { rows } = await database.pool.query<AlertOverride>(
    `select ${overrideColumns} from partywall_control.alert_overrides where rule = $1 and tenant_id > $2 order by tenant_id limit $3`,
    [input.rule, input.after ?? '', input.limit],
  );
  return rows;
}

/**
 * Sets other thresholds for one tenant; null is as the rule says.
 *
 * @throws PartywallError alert_rule_unknown, tenant_unknown, input_invalid
 */
export async function setAlertOverride(operation: Operation, override: AlertOverride): Promise<AlertOverride> {
  const { rule, tenant, warning, critical, enabled } = override;
  if (warning !== null && critical !== null && critical < warning) {
    throw new PartywallError('input_invalid', `overriding alert rule ${rule}: critical ${critical} is below warning ${warning}`);
  }
  return transaction(operation.database.pool, async (client) => {
    if (!(await findRule(client, rule))) throw unknownRule(rule);
    const { rowCount } = await client.query('select from partywall_control.directory where tenant_id = $1 for key share', [tenant]);
    if (rowCount === 0) throw new PartywallError('tenant_unknown', `overriding alert rule ${rule} for tenant ${JSON.stringify(tenant)}`);
    await client.query(
      `insert into partywall_control.alert_overrides (rule, tenant_id, warning, critical, enabled) values ($1, $2, $3, $4, $5)
on conflict (rule, tenant_id) do update set warning = excluded.warning, critical = excluded.critical, enabled = excluded.enabled, changed_at = now()`,
      [rule, tenant, warning, critical, enabled],
    );
    await appendAudit(client, operation, { tenant, action: 'alert_rule.override', target: `alert_rule:${rule}`, details: { warning, critical, enabled } });
    return override;
  });
}

/** Puts a tenant back under the rule as it is; where it was not overridden nothing happens. */
export async function deleteAlertOverride(operation: Operation, input: { readonly rule: string; readonly tenant: string }): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    if (!(await findRule(client, input.rule))) throw unknownRule(input.rule);
    const { rowCount } = await client.query('delete from partywall_control.alert_overrides where rule = $1 and tenant_id = $2', [input.rule, input.tenant]);
    if (rowCount === 0) return;
    await appendAudit(client, operation, { tenant: input.tenant, action: 'alert_rule.override_end', target: `alert_rule:${input.rule}` });
  });
}

async function findRule(client: pg.ClientBase | pg.Pool, name: string): Promise<AlertRule | undefined> {
  const { rows } = await client.query<AlertRule>(`select ${ruleColumns} from partywall_control.alert_rules where name = $1`, [name]);
  return rows[0];
}

async function refuseSecond(client: pg.ClientBase, rule: AlertRule, exists: boolean): Promise<void> {
  const { rows } = await client.query<{ name: string; metric: string; quota: string | null }>('select name, metric, quota from partywall_control.alert_rules');
  if (!exists && rows.length >= rulesMax)
    throw new PartywallError('input_invalid', `setting alert rule ${rule.name}: there are ${rulesMax} rules, which is the most`);
  if (rule.metric !== 'quota') return;
  const other = rows.find(({ name, metric, quota }) => name !== rule.name && metric === 'quota' && quota === rule.quota);
  if (!other) return;
  const what = rule.quota === null ? 'the quotas that have no rule of their own' : `quota ${rule.quota}`;
  throw new PartywallError('input_invalid', `setting alert rule ${rule.name}: rule ${other.name} watches ${what}`);
}

function unknownRule(name: string): PartywallError {
  return new PartywallError('alert_rule_unknown', `looking for alert rule ${JSON.stringify(name)}`);
}
