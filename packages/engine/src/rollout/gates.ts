import type pg from 'pg';
import { rolloutLimits } from '../wall/runtime/rollout-sql.ts';
import { readStages, type Stage, stageOf } from './stages.ts';
import { type ModeRow, readModes } from './state.ts';
import { type ModeTraffic, readBuckets } from './status.ts';
import { readThresholds, type Thresholds } from './thresholds.ts';

/** What the gates are judged by: a moment of the roll-out. */
export interface RolloutFacts {
  readonly modes: readonly ModeRow[];
  /** Percentage that is enforced: 0 observe, 100 enforce. */
  readonly stage: number;
  /** When the stage began; null where no roll-out was ever begun. */
  readonly stageSince: Date | null;
  /** Latest first. */
  readonly stages: readonly Stage[];
  /** Statements and refusals of the minutes from here on. */
  readonly since: Date;
  readonly now: Date;
  readonly enforced: ModeTraffic;
  readonly observed: ModeTraffic;
  /** All that was observed in the days that are kept, for a stage in which nothing is. */
  readonly observedBefore: ModeTraffic;
  readonly refusals: readonly { readonly mode: 'observe' | 'enforce'; readonly kind: string; readonly count: number }[];
  /** Attempts on other tenants; undefined where the wall is older than their records. */
  readonly attempts: number | undefined;
  readonly connections: { readonly used: number; readonly max: number };
}

/** Refusals that say that the application is not ready for the wall. */
export const notReady: readonly string[] = ['tenant_context', 'statement_refused'];

const minuteMs = 60_000;
const dayMs = 86_400_000;

export interface FactsInput {
  readonly now: Date;
  /** Instead of the window of the thresholds. */
  readonly since?: Date | undefined;
}

/**
 * Reads what the gates are judged by. The window never begins before the stage did, and with a whole minute: what went wrong before a step
 * back must not be held against the stage that it led to.
 */
export async function readRolloutFacts(client: pg.ClientBase, { now, since }: FactsInput): Promise<{ facts: RolloutFacts; thresholds: Thresholds }> {
  const thresholds = await readThresholds(client);
  const modes = await readModes(client);
  const stages = await readStages(client);
  const stage = stageOf(modes);
  const stageSince = beginOf(stage, stages, modes);
  const window = since ?? new Date(now.getTime() - thresholds.window_minutes * minuteMs);
  const begun = since === undefined && stageSince && stageSince > window ? stageSince : window;
  const from = new Date(Math.ceil(begun.getTime() / minuteMs) * minuteMs);

  const traffic = await readBuckets(client, from);
  const kept = await readBuckets(client, new Date(now.getTime() - rolloutLimits.minutesKeptDays * dayMs));
  const refusals = await client.query<RolloutFacts['refusals'][number]>(
    'select mode, kind, sum(count)::float8 as count from partywall.rollout_counts where minute >= $1 group by mode, kind order by mode, kind',
    [from],
  );
  return {
    thresholds,
    facts: {
      modes,
      stage,
      stageSince,
      stages,
      since: from,
      now,
      enforced: ofMode(traffic, 'enforce'),
      observed: ofMode(traffic, 'observe'),
      observedBefore: ofMode(kept, 'observe'),
      refusals: refusals.rows,
      attempts: await readAttempts(client, from),
      connections: await readConnections(client),
    },
  };
}

/** How many statements were refused because the application is not ready. */
export async function refusedNotReady(client: pg.ClientBase, since: Date): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    "select coalesce(sum(count), 0)::float8 as count from partywall.rollout_counts where mode = 'enforce' and kind = any($1) and minute >= $2",
    [notReady, since],
  );
  return rows[0]?.count ?? 0;
}

/** Modes that were set by another version have no stage: then it is the time of the mode. */
function beginOf(stage: number, stages: readonly Stage[], modes: readonly ModeRow[]): Date | null {
  const [latest] = stages;
  if (latest?.percent === stage) return latest.at;
  const set = modes.filter(({ scope }) => scope === 'all' || scope === 'percent').map(({ changedAt }) => changedAt.getTime());
  return set.length === 0 ? null : new Date(Math.max(...set));
}

function ofMode(traffic: readonly ModeTraffic[], mode: ModeTraffic['mode']): ModeTraffic {
  return traffic.find((one) => one.mode === mode) ?? { mode, queries: 0, errors: 0, buckets: [] };
}

async function readAttempts(client: pg.ClientBase, since: Date): Promise<number | undefined> {
  const { rows: found } = await client.query<{ there: boolean }>("select to_regclass('partywall.attempts') is not null as there");
  if (!found[0]?.there) return undefined;
  const { rows } = await client.query<{ attempts: number }>(
    "select coalesce(sum(a.times), 0)::float8 as attempts from partywall.attempts a where a.last_at >= $1 and a.kind <> 'gone'",
    [since],
  );
  return rows[0]?.attempts ?? 0;
}

/** Sessions of the server's own processes have no user. */
async function readConnections(client: pg.ClientBase): Promise<RolloutFacts['connections']> {
  const { rows } = await client.query<{ used: number; max: number }>(
    `select count(*)::int as used, current_setting('max_connections')::int as max
from pg_catalog.pg_stat_activity where usesysid is not null and coalesce(backend_type, 'client backend') = 'client backend'`,
  );
  return rows[0] ?? { used: 0, max: 1 };
}
