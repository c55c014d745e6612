import type pg from 'pg';
import { recoveryClasses, tierPromises } from '../tiers.ts';
import type { Measurement } from './judge.ts';
import type { Sight } from './measure.ts';

/**
 * What the rules of the archive look at. Nothing is measured before there is an archive (`backup_schedule` has its row), and of data classes none
 * that no backup ever held, but for the database: that one is promised to everybody. What belongs to no tenant is backed up daily at the least, as for the
 * tier `starter`, whatever the settings are.
 */

/** Who has no recovery point at all is measured from when it came, or from when the archive did. Low ages are left in the database. */
const pointsSql = `with promised as (
  select * from jsonb_to_recordset($1) as c (tier text, class text, seconds double precision)
  where c.class = 'database' or exists (select from partywall_control.recovery_points k where k.class = c.class)
), active as (
  select d.tenant_id, greatest(d.created_at, s.since) as since, p.tier
  from partywall_control.backup_schedule s cross join partywall_control.directory d join partywall_control.plans p on p.name = d.plan where d.status = 'active'
), subjects as (
  select a.tenant_id, a.since, c.class, c.seconds from active a join promised c on c.tier = a.tier where $3::text is null or a.tenant_id = $3
  union all
  select null, s.since, c.class, c.seconds from partywall_control.backup_schedule s join promised c on c.tier = 'starter' where $3 is null
), ages as (
  select j.tenant_id, j.class, r.backup, r.at, j.seconds, extract(epoch from $2 - coalesce(r.at, j.since))::double precision as age
  from subjects j left join partywall_control.recovery_points r on r.tenant_id is not distinct from j.tenant_id and r.class = j.class
)
select coalesce(g.tenant_id, '') as tenant, g.class, g.backup, g.at, g.seconds, g.age * 100 / g.seconds as percent from ages g where g.age * 100 / g.seconds > $4`;

const failuresSql = `select count(*)::integer as failed, max(r.started_at) as at from partywall_control.backup_runs r
where r.state = 'failed' and r.started_at > coalesce((select max(v.started_at) from partywall_control.backup_runs v where v.state = 'verified'), '-infinity')`;

const scheduleSql =
  'select s.ticked_at as at, extract(epoch from $1 - s.ticked_at)::double precision / 60 as minutes from partywall_control.backup_schedule s where s.ticked_at is not null';

/** One that somebody stopped says nothing of the backup. */
const drillsSql = `select count(*)::integer as failed, max(r.finished_at) as at from partywall_control.drills r
where r.outcome = 'failed' and r.report ->> 'error' is distinct from 'it was interrupted'
  and r.started_at > coalesce((select max(p.started_at) from partywall_control.drills p where p.outcome = 'passed'), '-infinity')`;

export async function measureBackups(client: pg.ClientBase, sight: Sight): Promise<Measurement[]> {
  const measured = await measurePoints(client, sight);
  if (sight.tenant !== null) return measured;
  const system = (metric: string, value: number, details: Measurement['details']): Measurement[] =>
    sight.rules.filter((rule) => rule.metric === metric).map(({ name }) => ({ rule: name, tenant: '', subject: '', value, details }));
  const failures = await client.query<{ failed: number; at: Date | null }>(failuresSql);
  for (const { failed, at } of failures.rows) measured.push(...system('backup_failures', failed, { failed, lastFailedAt: at }));
  const drills = await client.query<{ failed: number; at: Date | null }>(drillsSql);
  for (const { failed, at } of drills.rows) measured.push(...system('drill_failures', failed, { failed, lastFailedAt: at }));
  const schedule = await client.query<{ at: Date; minutes: number }>(scheduleSql, [sight.now]);
  for (const { at, minutes } of schedule.rows) measured.push(...system('backup_schedule', minutes, { lastRunAt: at }));
  return measured;
}

async function measurePoints(client: pg.ClientBase, { rules, overrides, tenant, now }: Sight): Promise<Measurement[]> {
  const watching = rules.filter(({ metric }) => metric === 'recovery_point');
  if (watching.length === 0) return [];
  const names = new Set(watching.map(({ name }) => name));
  const thresholds = [...watching, ...overrides.filter(({ rule }) => names.has(rule))].flatMap(({ warning, critical }) => warning ?? critical ?? []);
  const promised = Object.entries(tierPromises).flatMap(([tier, { rpoSeconds }]) =>
    recoveryClasses.map((name) => ({ tier, class: name, seconds: rpoSeconds[name] })),
  );
  const { rows } = await client.query<{ tenant: string; class: string; backup: string | null; at: Date | null; seconds: number; percent: number }>(pointsSql, [
    JSON.stringify(promised),
    now,
    tenant,
    Math.min(...thresholds),
  ]);
  return rows.flatMap((row) =>
    watching.map(({ name }) => ({
      rule: name,
      tenant: row.tenant,
      subject: row.class,
      value: row.percent,
      details: { backup: row.backup, at: row.at, rpoMinutes: row.seconds / 60 },
    })),
  );
}
