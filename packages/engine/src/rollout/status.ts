import { latencyBucketsMs, type RolloutMode } from '@partywall/wall';
import type pg from 'pg';
import { readCatalog } from '../catalog/read-catalog.ts';
import type { TenancyModel } from '../model/model.ts';
import { observePolicyName } from '../wall/runtime/rollout-sql.ts';
import { wantedWall } from '../wall/shape.ts';
import { type ModeRow, observes, readModes } from './state.ts';
import { triggerSteps } from './watch-tables.ts';

export interface RolloutStatus {
  readonly modes: readonly ModeRow[];
  /** Registered tenants by the mode that holds for each: `enforced + observed = of`. */
  readonly tenants: { readonly enforced: number; readonly observed: number; readonly of: number };
  /** Tables whose rows the application sees whatever its tenant. */
  readonly openTables: readonly string[];
  /** Tables whose logging triggers are not what they should be: refusals of writes are not, or needlessly, looked for. */
  readonly unwatchedTables: readonly string[];
  readonly traffic: readonly TrafficSummary[];
  /** What was seen, by mode and kind, most frequent first. */
  readonly seen: readonly { readonly mode: RolloutMode; readonly kind: string; readonly count: number }[];
  /** Places in the application that it comes from, most frequent first; of all time, and no more than `placesMax`. */
  readonly places: readonly ObservedPlace[];
  readonly since: Date;
}

export interface TrafficSummary {
  readonly mode: RolloutMode;
  readonly queries: number;
  readonly errors: number;
  /** Upper bound of the bucket that the share falls into (milliseconds); null where it is the last, which has none. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

export interface ObservedPlace {
  readonly mode: RolloutMode;
  readonly kind: string;
  readonly relation: string;
  readonly location: string;
  readonly statement: string;
  readonly count: number;
  readonly firstSeen: Date;
  readonly lastSeen: Date;
}

const placesMax = 50;

/** The modes and what came of them. Reads only. @param since of traffic and counts */
export async function rolloutStatus(client: pg.ClientBase, input: { readonly model: TenancyModel; readonly since: Date }): Promise<RolloutStatus> {
  const { model, since } = input;
  const modes = await readModes(client);
  const wanted = wantedWall(model, await readCatalog(client));
  const counted = await client.query<{ enforced: number; of: number }>(tenantsSql);
  const { enforced = 0, of = 0 } = counted.rows[0] ?? {};
  const seen = await client.query<RolloutStatus['seen'][number]>(
    'select mode, kind, sum(count)::float8 as count from partywall.rollout_counts where minute >= $1 group by mode, kind order by count desc, mode, kind',
    [since],
  );
  const places = await client.query<ObservedPlace>(
    `select mode, kind, relation, location, statement, count::float8 as count, first_seen as "firstSeen", last_seen as "lastSeen"
     from partywall.rollout_observations order by count desc, fingerprint limit ${placesMax}`,
  );
  return {
    modes,
    tenants: { enforced, observed: of - enforced, of },
    openTables: [...wanted.tables.values()].flatMap(({ relation }) =>
      relation.policies.some(({ name }) => name === observePolicyName) ? [relation.table] : [],
    ),
    unwatchedTables: triggerSteps(model, wanted, observes(modes)).map(({ table }) => table),
    traffic: await readTraffic(client, since),
    seen: seen.rows,
    places: places.rows,
    since,
  };
}

/** How the statements of each mode went since then. */
export async function readTraffic(client: pg.ClientBase | pg.Pool, since: Date): Promise<TrafficSummary[]> {
  return (await readBuckets(client, since)).map(({ mode, queries, errors, buckets }) => ({
    mode,
    queries,
    errors,
    p50Ms: latencyPercentile(buckets, 0.5),
    p99Ms: latencyPercentile(buckets, 0.99),
  }));
}

/** Statements of one mode; `buckets` by `latencyBucketsMs`. */
export interface ModeTraffic {
  readonly mode: RolloutMode;
  readonly queries: number;
  readonly errors: number;
  readonly buckets: readonly number[];
}

/** The statements of each mode in the minutes from `since` on. */
export async function readBuckets(client: pg.ClientBase | pg.Pool, since: Date): Promise<ModeTraffic[]> {
  const { rows } = await client.query<ModeTraffic>(
    `select t.mode, sum(t.queries)::float8 as queries, sum(t.errors)::float8 as errors,
       (select array_agg(b.sum order by b.at) from (select u.at, sum(u.count)::float8 as sum from partywall.rollout_traffic o
         cross join lateral unnest(o.buckets) with ordinality as u (count, at) where o.mode = t.mode and o.minute >= $1 group by u.at) b) as buckets
     from partywall.rollout_traffic t where t.minute >= $1 group by t.mode order by t.mode`,
    [since],
  );
  return rows;
}

/** Upper bound of the bucket that the share of all statements ends in; null where that is the last one, or there are none. */
export function latencyPercentile(buckets: readonly number[], share: number): number | null {
  const wanted = buckets.reduce((sum, count) => sum + count, 0) * share;
  let passed = 0;
  for (const [at, count] of buckets.entries()) {
    passed += count;
    if (count > 0 && passed >= wanted) return latencyBucketsMs[at] ?? null;
  }
  return null;
}

/** The rule of `modeOf` in SQL, for all tenants at once. A bit string of 32 becomes a bigint without a sign. */
const tenantsSql = `with general as (
  select coalesce((select r.mode from partywall.rollout r where r.scope = 'all'), 'enforce') as mode,
    (select r.target::int from partywall.rollout r where r.scope = 'percent') as percent)
select count(*) filter (where coalesce(own.mode,
    case when ('x' || left(encode(sha256(convert_to(t.tenant_id::text, 'UTF8')), 'hex'), 8))::bit(32)::bigint % 100 < g.percent then 'enforce' end, g.mode) = 'enforce')::int as enforced,
  count(*)::int as of
from partywall.registry t cross join general g
left join partywall.rollout own on own.scope = 'tenant' and own.target = t.tenant_id::text`;
