import type pg from 'pg';
import { withoutFullMask } from '../../audit/attempts/attempts.ts';
import type { AlertRule, Measurement } from './judge.ts';

/** Sources that are told apart in one evaluation, those with most attempts first. */
const sourcesMax = 20;
/** Routes, actors and tenants that are named for one source. */
const namedMax = 5;

const attemptsSql = `select a.source, a.kind = 'gone' as gone, sum(a.times)::double precision as attempts, max(a.last_at) as at,
  (array_agg(distinct a.route) filter (where a.route is not null))[1:$3] as routes, (array_agg(distinct a.actor) filter (where a.actor is not null))[1:$3] as actors,
  (array_agg(distinct a.tenant) filter (where a.tenant is not null))[1:$3] as tenants,
  (select max(b.until) from partywall.attempt_blocks b where b.source >>= a.source and b.until > now()) as "blockedUntil"
from partywall.attempts a where a.last_at > $1 and a.at > $1::timestamptz - interval '1 day'
group by a.source, a.kind = 'gone' order by gone desc, attempts desc, a.source limit $2`;

interface Row {
  readonly source: string | null;
  /** Attempts whose records gave way to later ones. */
  readonly gone: boolean;
  readonly attempts: number;
  readonly at: Date;
  readonly routes: string[] | null;
  readonly actors: string[] | null;
  readonly tenants: string[] | null;
  readonly blockedUntil: Date | null;
}

/** Attempts on other tenants by source, in the rule's window: each source is an alert of its own. None where the wall is older than the records. */
export async function measureAttempts(client: pg.ClientBase, rules: readonly AlertRule[], now: Date): Promise<Measurement[]> {
  const watching = rules.filter(({ metric }) => metric === 'cross_tenant_attempts');
  if (watching.length === 0) return [];
  const { rows: found } = await client.query<{ there: boolean }>("select to_regclass('partywall.attempts') is not null as there");
  if (!found[0]?.there) return [];
  const measured: Measurement[] = [];
  for (const { name, windowMinutes } of watching) {
    const since = new Date(now.getTime() - windowMinutes * 60_000);
    const { rows } = await client.query<Row>(attemptsSql, [since, sourcesMax, namedMax]);
    measured.push(
      ...rows.map(({ source, gone, attempts, ...details }) => ({
        rule: name,
        tenant: '',
        subject: gone ? 'whose records gave way to a flood' : source === null ? 'of unknown source' : `from ${withoutFullMask(source)}`,
        value: attempts,
        details,
      })),
    );
  }
  return measured;
}
