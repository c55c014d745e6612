import type { Operation } from '../../db/operation.ts';
import { microsecondsOf, timeOf } from '../../db/time-cursor.ts';

/**
 * What was attempted: another tenant was named, a unit of another one, or a row of another one was written. `more`: counted, past what is told one by one.
 * `gone`: attempts whose records gave way to later ones.
 */
export const attemptKinds = ['tenant', 'unit', 'row', 'more', 'gone'] as const;

/** An attempt on another tenant, as a middleware of the application recorded it (docs/guide/attempts.md). Times are ISO 8601 in UTC. */
export interface Attempt {
  readonly id: string;
  readonly at: string;
  readonly lastAt: string;
  /** Attempts that the record stands for. */
  readonly times: number;
  readonly kind: (typeof attemptKinds)[number];
  /** Address or network; null where the platform did not tell, or it was a proxy of one's own. */
  readonly source: string | null;
  /** Method and path, without the query. */
  readonly route: string | null;
  readonly actor: string | null;
  /** Tenant of the credential. */
  readonly tenant: string | null;
  /** What was named; no more than a claim. */
  readonly claimed: string | null;
  readonly requestId: string | null;
}

export interface AttemptFilter {
  /** Address or network; of a network all within. */
  readonly source?: string | undefined;
  readonly tenant?: string | undefined;
  /** First moment, ISO 8601. */
  readonly from?: string | undefined;
  readonly limit: number;
  /** Sort key of the last one of the page before. */
  readonly after?: AttemptCursor | undefined;
}

export interface AttemptCursor {
  /** Microseconds since 1970. */
  readonly at: string;
  readonly id: string;
}

/** An attempt with its sort key. */
export type ListedAttempt = Attempt & { readonly cursor: AttemptCursor };

interface Row extends Omit<Attempt, 'at' | 'lastAt' | 'times'> {
  readonly at: Date;
  readonly last_at: Date;
  readonly times: string;
  readonly micros: string;
}

/** Attempts that the filter lets through, latest first. @throws a database error of class 22 where `source` is no address */
export async function listAttempts({ database }: Pick<Operation, 'database'>, filter: AttemptFilter): Promise<ListedAttempt[]> {
  const { rows } = await database.pool.query<Row>(
    `select a.id, a.at, a.last_at, a.times, a.kind, a.source::text as source, a.route, a.actor, a.tenant, a.claimed, a.request_id as "requestId",
  ${microsecondsOf('a.at')} as micros
from partywall.attempts a
where ($1::inet is null or a.source <<= network($1::inet)) and ($2::text is null or a.tenant = $2) and ($3::timestamptz is null or a.at >= $3)
  and ($4::bigint is null or (a.at, a.id) < (${timeOf('$4')}, $5::bigint))
order by a.at desc, a.id desc limit $6`,
    [filter.source, filter.tenant, filter.from, filter.after?.at, filter.after?.id, filter.limit],
  );
  return rows.map(({ at, last_at, times, micros, ...row }) => ({
    ...row,
    source: row.source && withoutFullMask(row.source),
    at: at.toISOString(),
    lastAt: last_at.toISOString(),
    times: Number(times),
    cursor: { at: micros, id: row.id },
  }));
}

/** `198.51.100.7` of `198.51.100.7/32`. */
export function withoutFullMask(source: string): string {
  return source.replace(/(?<=\..*)\/32$/, '');
}
