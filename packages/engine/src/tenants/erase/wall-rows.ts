import type pg from 'pg';
import { modesLock, observingFact } from '../../wall/runtime/rollout-sql.ts';

/** A uuid is written in many ways; what a request claimed is kept as it was sent. */
const isClaimed = `a.kind = 'tenant' and case when $1::text ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
  then translate(lower(a.claimed), '{}-', '') = translate($1, '-', '') else a.claimed = $1 end`;
/** As `rollout integrity` keeps it: of a number it is as good as the number. */
const hash = "left(encode(sha256(convert_to($1::text, 'UTF8')), 'hex'), 16)";

/**
 * What each table of schema `partywall` holds of a tenant. Statements end it ($1: the key as text), the first of them on the table's own rows; `follows`:
 * it goes with the tenant's own row; `none`: nothing is in it that tells a tenant.
 *
 * Attempts stay as evidence against their source, with the time and the count, and without whom they were made by or against.
 */
export const wallTables: Readonly<Record<string, readonly string[] | 'follows' | 'none'>> = {
  registry: 'follows',
  job_visits: 'follows',
  // By the tables that its rows came from: `deleteQuarantined`.
  quarantine: 'follows',
  rollout: [
    "delete from partywall.rollout r where r.scope = 'tenant' and r.target = $1",
    `update partywall.facts f set value = 'false', changed_at = now() where f.name = '${observingFact}' and $1::text is not null
  and not exists (select from partywall.rollout r where r.scope <> 'table' and r.mode = 'observe')`,
  ],
  attempts: [
    `update partywall.attempts a set tenant = nullif(a.tenant, $1), actor = case when a.tenant = $1 then null else a.actor end,
  claimed = case when ${isClaimed} then null else a.claimed end, route = null, request_id = null
where a.tenant = $1 or (${isClaimed})`,
  ],
  // Receipts name tenants that failed, and those that were silent.
  job_runs: [
    `update partywall.job_runs r set receipt = r.receipt || jsonb_build_object(
  'failures', (select coalesce(jsonb_agg(f.one order by f.at), '[]') from jsonb_array_elements(r.receipt -> 'failures') with ordinality f (one, at)
    where f.one ->> 'tenant' is distinct from $1),
  'alerts', (select coalesce(jsonb_agg(case when a.one ? 'tenants' then a.one || jsonb_build_object('tenants', (a.one -> 'tenants') - $1::text) else a.one end order by a.at), '[]')
    from jsonb_array_elements(r.receipt -> 'alerts') with ordinality a (one, at)))
where r.receipt -> 'failures' @> jsonb_build_array(jsonb_build_object('tenant', $1::text))
  or r.receipt -> 'alerts' @> jsonb_build_array(jsonb_build_object('tenants', jsonb_build_array($1::text)))`,
  ],
  integrity_counts: [`update partywall.integrity_counts c set tenants = c.tenants - ${hash} where c.tenants ? ${hash}`],
  attempt_blocks: 'none',
  attempt_settings: 'none',
  // What an operator has written there by hand is the operator's to look through.
  demo_seed_log: 'none',
  recovery_map: 'none',
  facts: 'none',
  // HMACs of senders and their ids.
  messages: 'none',
  rollout_counts: 'none',
  // Statements without their values.
  rollout_observations: 'none',
  rollout_stages: 'none',
  rollout_thresholds: 'none',
  rollout_traffic: 'none',
  seal_keys: 'none',
};

/** Ends what schema `partywall` holds of a tenant beside its registry, in an older wall as far as it has the tables. Returns how many rows named it. */
export async function forgetInWall(client: pg.ClientBase, tenant: string): Promise<number> {
  await client.query(`select pg_catalog.pg_advisory_xact_lock(${modesLock})`);
  const { rows } = await client.query<{ name: string }>("select c.relname as name from pg_catalog.pg_class c where c.relnamespace = 'partywall'::regnamespace");
  const there = new Set(rows.map(({ name }) => name));
  let named = 0;
  for (const [table, held] of Object.entries(wallTables)) {
    if (typeof held === 'string' || !there.has(table)) continue;
    for (const [at, statement] of held.entries()) {
      const { rowCount } = await client.query(statement, [tenant]);
      if (at === 0) named += rowCount ?? 0;
    }
  }
  return named;
}
