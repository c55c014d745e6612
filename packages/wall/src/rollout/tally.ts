import { normalizeStatement } from '../normalize.ts';
import { type CallSite, locationOf } from './call-site.ts';
import type { RolloutMode } from './mode.ts';

/**
 * What an observing pool sees. In mode *observe* it is what the wall would refuse; an enforcing pool adds the codes of the errors it has answered
 * with (`tenant_context`, `cross_tenant`, ...).
 *
 * - `no_context`: a statement outside any context;
 * - `row_without_context`: rows of a walled table read in a system context;
 * - `foreign_row`: rows that were returned and belong to another tenant than the context's;
 * - `foreign_write`, `write_without_context`: statements that wrote, moved or deleted rows of another tenant, or outside any;
 * - `cross_context`: a statement in another context than its transaction's; `unknown_tenant`: a tenant that the database does not know;
 * - `statement`: a statement that a walled pool does not send;
 * - `fewer_rows`, `other_result`, `refused_read`: a SELECT that gave fewer rows, as many with other contents, or an error, when it was run again
 *   behind the wall.
 */
export type ObservedKind =
  | 'no_context'
  | 'row_without_context'
  | 'foreign_row'
  | 'foreign_write'
  | 'write_without_context'
  | 'cross_context'
  | 'unknown_tenant'
  | 'statement'
  | 'fewer_rows'
  | 'other_result'
  | 'refused_read';

export interface Observation {
  readonly mode: RolloutMode;
  readonly kind: string;
  readonly text: string;
  readonly relation?: string;
  readonly site?: CallSite | undefined;
  readonly count?: number;
}

/** As `partywall.report_observations` takes it. */
export interface Report {
  readonly traffic: readonly { readonly mode: RolloutMode; readonly queries: number; readonly errors: number; readonly buckets: readonly number[] }[];
  readonly seen: readonly Seen[];
}

interface Seen {
  readonly mode: RolloutMode;
  readonly kind: string;
  readonly relation: string;
  readonly location: string;
  readonly statement: string;
  count: number;
}

/** Upper bounds in milliseconds of the latency buckets; one more holds what took longer. */
export const latencyBucketsMs: readonly number[] = [
  0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1_000, 2_000, 5_000, 10_000,
];

/** Places that are told apart until the next report; the rest is counted by kind alone. */
const placesMax = 300;
/** Statements that are put into their normal form until the next report, which costs more than all else here. */
const samplesMax = 200;

/** What has been counted since the last report. */
export class Tally {
  #seen = new Map<string, Seen>();
  #normal = new Map<string, string>();
  #traffic = { observe: emptyTraffic(), enforce: emptyTraffic() };

  add({ mode, kind, text, relation = '', site, count = 1 }: Observation): void {
    const known = this.#normal.get(text);
    const statement = known ?? (this.#normal.size < samplesMax ? normalizeStatement(text) : '');
    if (known === undefined && this.#normal.size < samplesMax) this.#normal.set(text, statement);
    this.#count({ mode, kind, relation, location: locationOf(site), statement, count });
  }

  /** One statement that was answered. */
  answered(mode: RolloutMode, milliseconds: number, failed: boolean): void {
    const traffic = this.#traffic[mode];
    traffic.queries += 1;
    if (failed) traffic.errors += 1;
    let bucket = 0;
    while (bucket < latencyBucketsMs.length && milliseconds > (latencyBucketsMs[bucket] ?? 0)) bucket += 1;
    traffic.buckets[bucket] = (traffic.buckets[bucket] ?? 0) + 1;
  }

  /** All that was counted, which is forgotten; undefined where nothing was. */
  take(): Report | undefined {
    const traffic = (['enforce', 'observe'] as const).flatMap((mode) => (this.#traffic[mode].queries > 0 ? [{ mode, ...this.#traffic[mode] }] : []));
    if (traffic.length === 0 && this.#seen.size === 0) return undefined;
    const report = { traffic, seen: [...this.#seen.values()] };
    this.#seen = new Map();
    this.#normal = new Map();
    this.#traffic = { observe: emptyTraffic(), enforce: emptyTraffic() };
    return report;
  }

  /** Counts a report again that could not be delivered. */
  putBack({ traffic, seen }: Report): void {
    for (const { mode, queries, errors, buckets } of traffic) {
      const own = this.#traffic[mode];
      own.queries += queries;
      own.errors += errors;
      own.buckets = own.buckets.map((count, at) => count + (buckets[at] ?? 0));
    }
    for (const one of seen) this.#count(one);
  }

  #count(one: Seen): void {
    const place = this.#seen.size < placesMax ? one : { ...one, relation: '', location: '', statement: '' };
    const exact = keyOf(one);
    const key = this.#seen.has(exact) ? exact : keyOf(place);
    const before = this.#seen.get(key);
    if (before) before.count += one.count;
    else this.#seen.set(key, { ...place });
  }
}

function keyOf({ mode, kind, relation, location, statement }: Seen): string {
  return [mode, kind, relation, location, statement].join('\0');
}

function emptyTraffic(): { queries: number; errors: number; buckets: number[] } {
  return { queries: 0, errors: 0, buckets: Array.from({ length: latencyBucketsMs.length + 1 }, () => 0) };
}
