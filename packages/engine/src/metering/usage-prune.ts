import type { Operation } from '../db/operation.ts';

/** How long usage is kept, in days: after that it is dropped by `pruneUsage`. */
export const usageKeptDays = {
  /** What alert rules look at. */
  minutes: 2,
  hours: 400,
  activeUsers: 60,
  /** After two days the last one of each day. */
  surveys: 400,
  slowQueries: 30,
} as const;

/** Rows that one statement deletes. */
const batchRowsMax = 10_000;
/** Statements of one run for each table; what is left then is for the next run. */
const batchesMax = 200;

export interface UsagePrune {
  readonly deleted: Readonly<Record<string, number>>;
  /** Tables where more is left than one run deletes. */
  readonly unfinished: readonly string[];
}

const expired: Readonly<Record<string, string>> = {
  request_minutes: `minute < now() - interval '${usageKeptDays.minutes} days'`,
  request_hours: `hour < now() - interval '${usageKeptDays.hours} days'`,
  active_users: `day < (now() at time zone 'UTC')::date - ${usageKeptDays.activeUsers}`,
  request_batches: `at < now() - interval '${usageKeptDays.minutes} days'`,
  usage_samples: `at in (
    select s.at from partywall_control.usage_surveys s
    where s.at < now() - interval '${usageKeptDays.surveys} days'
      or s.at < now() - interval '2 days' and (s.finished_at is null or exists (
        select from partywall_control.usage_surveys later
        where later.at > s.at and later.finished_at is not null and date_trunc('day', later.at, 'UTC') = date_trunc('day', s.at, 'UTC'))))`,
  usage_surveys: `at < now() - interval '2 days' and not exists (select from partywall_control.usage_samples s where s.at = t.at)`,
  slow_queries: `hour < now() - interval '${usageKeptDays.slowQueries} days'`,
};

/** Drops usage that is older than it is kept, in bounded batches that pass over rows somebody is writing. Run it daily. */
export async function pruneUsage(operation: Operation): Promise<UsagePrune> {
  const deleted: Record<string, number> = {};
  const unfinished: string[] = [];
  for (const [table, condition] of Object.entries(expired)) {
    let last = batchRowsMax;
    let total = 0;
    for (let batch = 0; batch < batchesMax && last === batchRowsMax; batch += 1) {
      operation.signal?.throwIfAborted();
      const { rowCount } = await operation.database.pool.query(
        `delete from partywall_control.${table} where ctid in (
  select t.ctid from partywall_control.${table} t where ${condition} limit ${batchRowsMax} for update skip locked)`,
      );
      last = rowCount ?? 0;
      total += last;
    }
    deleted[table] = total;
    if (last === batchRowsMax) unfinished.push(table);
  }
  return { deleted, unfinished };
}
