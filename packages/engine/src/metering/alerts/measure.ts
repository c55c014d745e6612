import type pg from 'pg';
import type { AlertOverride, AlertRule, Measurement } from './judge.ts';
import { measureAttempts } from './measure-attempts.ts';
import { measureBackups } from './measure-backups.ts';
import { measureJobs } from './measure-jobs.ts';
import { measureRollout } from './measure-rollout.ts';
import { metrics } from './metrics.ts';

/** Reads what the rules look at, in one statement for each source and window; only active tenants are measured. */

/** Uses below the lowest threshold are left in the database: of 40,000 quotas a few hundred come out. */
const quotasSql = `select t.tenant_id, t.quota, t.used, t.max, t.percent
from (
  select q.tenant_id, q.quota, q.used, q.max, (case when q.max = 0 then 100 else q.used * 100.0 / q.max end)::double precision as percent
  from partywall_control.quota_usage($1) q where q.max is not null and q.used > 0
) t join partywall_control.directory d on d.tenant_id = t.tenant_id and d.status = 'active'
where t.percent >= $2`;

const requestsSql = `select r.tenant_id, r.calls, r.errors, r.p95_ms, coalesce(d.status = 'active', false) as active
from partywall_control.recent_requests($1) r left join partywall_control.directory d on d.tenant_id = r.tenant_id
where r.calls > 0`;

/** Sessions of the server's own processes have no user. */
const connectionsSql = `select count(*) as used, current_setting('max_connections') as max
from pg_catalog.pg_stat_activity where usesysid is not null and coalesce(backend_type, 'client backend') = 'client backend'`;

export interface Sight {
  readonly rules: readonly AlertRule[];
  readonly overrides: readonly AlertOverride[];
  /** Of one tenant alone, leaving the system out; null for everything. */
  readonly tenant: string | null;
  readonly now: Date;
}

export async function measure(client: pg.ClientBase, sight: Sight): Promise<Measurement[]> {
  const rules = sight.rules.filter(({ name, enabled }) => enabled || sight.overrides.some((override) => override.rule === name && override.enabled));
  const measured: Measurement[] = await measureQuotas(client, { ...sight, rules: rules.filter(({ metric }) => metric === 'quota') });
  const ofRequests = Map.groupBy(
    rules.filter(({ metric }) => metrics[metric].ofRequests),
    ({ windowMinutes }) => windowMinutes,
  );
  for (const [minutes, sameWindow] of ofRequests) measured.push(...(await measureRequests(client, { ...sight, rules: sameWindow }, minutes)));
  measured.push(...(await measureBackups(client, { ...sight, rules })));
  if (sight.tenant === null) measured.push(...(await measureJobs(client, rules)));
  if (sight.tenant === null)
    measured.push(
      ...(await measureConnections(client, rules)),
      ...(await measureAttempts(client, rules, sight.now)),
      ...(await measureRollout(client, rules, sight.now)),
    );
  return measured;
}

async function measureQuotas(client: pg.ClientBase, { rules, overrides, tenant }: Sight): Promise<Measurement[]> {
  if (rules.length === 0) return [];
  const names = new Map(rules.map(({ name, quota }) => [quota, name]));
  const thresholds = [...rules, ...overrides.filter(({ rule }) => rules.some(({ name }) => name === rule))].map(({ warning, critical }) => warning ?? critical);
  const lowest = Math.min(...thresholds.flatMap((threshold) => threshold ?? []));
  const { rows } = await client.query<{ tenant_id: string; quota: string; used: string; max: string; percent: number }>(quotasSql, [tenant, lowest]);
  return rows.flatMap(({ tenant_id, quota, used, max, percent }) => {
    const rule = names.get(quota) ?? names.get(null);
    return rule === undefined ? [] : [{ rule, tenant: tenant_id, subject: quota, value: percent, details: { used: Number(used), limit: Number(max) } }];
  });
}

async function measureRequests(client: pg.ClientBase, { rules, tenant, now }: Sight, windowMinutes: number): Promise<Measurement[]> {
  const since = new Date(now.getTime() - windowMinutes * 60_000);
  const { rows } = await client.query<{ tenant_id: string; calls: string; errors: string; p95_ms: number; active: boolean }>(requestsSql, [since]);
  const counts = rows.map((row) => ({ tenant: row.tenant_id, active: row.active, calls: Number(row.calls), errors: Number(row.errors), p95: row.p95_ms }));
  const all = { calls: total(counts.map(({ calls }) => calls)), errors: total(counts.map(({ errors }) => errors)) };
  const measured = counts.filter((row) => row.active && (tenant === null || row.tenant === tenant));
  return rules.flatMap((rule): Measurement[] => {
    if (rule.metric === 'total_error_rate') return tenant === null && all.calls > 0 ? [failures(rule, '', all)] : [];
    if (rule.metric === 'error_rate') return measured.map((row) => failures(rule, row.tenant, row));
    return measured.map((row) => ({
      rule: rule.name,
      tenant: row.tenant,
      subject: '',
      value: row.p95,
      calls: row.calls,
      details: { calls: row.calls, windowMinutes },
    }));
  });
}

function failures({ name, windowMinutes }: AlertRule, tenant: string, { calls, errors }: { readonly calls: number; readonly errors: number }): Measurement {
  return { rule: name, tenant, subject: '', value: (errors * 100) / calls, calls, details: { calls, errors, windowMinutes } };
}

async function measureConnections(client: pg.ClientBase, rules: readonly AlertRule[]): Promise<Measurement[]> {
  const watching = rules.filter(({ metric }) => metric === 'connections');
  if (watching.length === 0) return [];
  const { rows } = await client.query<{ used: string; max: string }>(connectionsSql);
  return rows.flatMap((row) => {
    const [used, limit] = [Number(row.used), Number(row.max)];
    return watching.map(({ name }) => ({ rule: name, tenant: '', subject: '', value: (used * 100) / limit, details: { used, limit } }));
  });
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
