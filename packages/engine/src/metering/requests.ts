import { randomUUID } from 'node:crypto';
import type { ControlDatabase } from '../db/operation.ts';
import { UsageFlush } from './usage-flush.ts';

/** Upper bounds of the buckets in milliseconds, as `partywall_control.latency_bounds()` has them. */
export const latencyBoundsMs = [5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000, Number.POSITIVE_INFINITY] as const;

/** How often what was counted is written: what a crash loses at most. */
const flushIntervalMs = 5_000;
/** Lines of one batch, each a tenant and a minute; half of them are written early. */
const linesMax = 20_000;
/** Minutes that are kept apart while the database cannot be reached; later ones are counted in the last. */
const minutesMax = 1_440;
/** People of the day that are remembered, so that each is written once. */
const usersMax = 100_000;

const minuteMs = 60_000;
const dayMs = 86_400_000;

export interface CountedRequest {
  /** Null where it acts on none. */
  readonly tenant: string | null;
  /** A person of that tenant, if one asked. */
  readonly user: string | undefined;
  readonly milliseconds: number;
  /** Answered with a status of 500 or above. */
  readonly failed: boolean;
}

export interface MeterOptions {
  readonly flushIntervalMs?: number;
  readonly linesMax?: number;
  /** Hears why a batch could not be written; it is kept and sent again. */
  readonly onFailure?: (error: unknown) => void;
}

interface Line {
  calls: number;
  errors: number;
  millis: number;
  readonly buckets: number[];
}

interface Batch {
  readonly number: number;
  readonly lines: string;
  readonly users: string;
}

/** Stands for requests without a tenant. */
const nobody = '';

/**
 * Counts the requests of this process in memory and writes them in batches: per tenant and minute calls, errors, response times, and who was
 * active. A request costs two lookups in maps.
 *
 * *Nothing is dropped in silence.* A batch that could not be written is kept and sent again under its number, by which the database knows one that
 * it has already, so a lost answer does not count twice. Memory is bounded: beyond `linesMax` requests are counted as nobody's, and
 * `unattributed` says how many. A process that is killed loses what it counted since its last batch, `flushIntervalMs` at most; one that is
 * stopped loses nothing.
 *
 * States: *stopped* (counts, writes on `flush` alone), *started* (writes on its own too).
 */
export class RequestMeter {
  readonly #database: ControlDatabase;
  readonly #options: Required<MeterOptions>;
  readonly #flush: UsageFlush;
  readonly #process = randomUUID();
  readonly #minutes = new Map<number, Map<string, Line>>();
  #minute = -1;
  #lines = new Map<string, Line>();
  #size = 0;
  /** Who was seen on `#day`, by tenant, and which of them are still to be written. */
  readonly #seen = new Map<string, Set<string>>();
  #seenSize = 0;
  #day = -1;
  #users: { tenant: string; day: string; user: string }[] = [];
  #batches = 0;
  #unsent: Batch | undefined;
  /** Requests of a tenant that memory had no room for; they are counted under no tenant. */
  unattributed = 0;

  constructor(database: ControlDatabase, options: MeterOptions = {}) {
    this.#database = database;
    this.#options = { flushIntervalMs, linesMax, onFailure: () => undefined, ...options };
    this.#flush = new UsageFlush(() => this.#send(), this.#options.onFailure);
  }

  /** Counts one request; never waits and never throws. */
  count({ tenant, user, milliseconds, failed }: CountedRequest): void {
    const now = this.#database.clock().getTime();
    const minute = Math.floor(now / minuteMs);
    if (minute !== this.#minute) this.#turn(minute);
    const line = this.#lines.get(tenant ?? nobody) ?? this.#open(tenant ?? nobody);
    line.calls += 1;
    line.millis += milliseconds;
    if (failed) line.errors += 1;
    let bucket = 0;
    while (milliseconds > (latencyBoundsMs[bucket] ?? Number.POSITIVE_INFINITY)) bucket += 1;
    line.buckets[bucket] = (line.buckets[bucket] ?? 0) + 1;
    if (user !== undefined && tenant !== null && !(this.#day === Math.floor(now / dayMs) && this.#seen.get(tenant)?.has(user))) this.#see(tenant, user, now);
  }

  /** Writes on its own from now on; does not keep the process alive. */
  start(): void {
    this.#flush.start(this.#options.flushIntervalMs);
  }

  /** Writes all that was counted before the call. Rejects where the database does not take it; it is kept then. */
  flush(): Promise<void> {
    return this.#flush.flush();
  }

  /** Stops writing on its own and writes what is left. Rejects where that is lost. */
  stop(): Promise<void> {
    return this.#flush.stop();
  }

  #turn(minute: number): void {
    this.#minute = minute;
    const known = this.#minutes.get(minute);
    if (known) this.#lines = known;
    else if (this.#minutes.size < minutesMax) {
      this.#lines = new Map();
      this.#minutes.set(minute, this.#lines);
    }
  }

  #open(tenant: string): Line {
    if (this.#size * 2 >= this.#options.linesMax && this.#flush.started) this.#flush.soon();
    if (this.#size >= this.#options.linesMax && tenant !== nobody) {
      this.unattributed += 1;
      return this.#lines.get(nobody) ?? this.#open(nobody);
    }
    const line = { calls: 0, errors: 0, millis: 0, buckets: latencyBoundsMs.map(() => 0) };
    this.#lines.set(tenant, line);
    this.#size += 1;
    return line;
  }

  #see(tenant: string, user: string, now: number): void {
    const day = Math.floor(now / dayMs);
    if (day !== this.#day || this.#seenSize >= usersMax) {
      this.#seen.clear();
      this.#seenSize = 0;
      this.#day = day;
    }
    // Whoever finds no room is written with a later request of theirs.
    if (this.#users.length >= usersMax) return;
    const seen = this.#seen.get(tenant) ?? new Set();
    this.#seen.set(tenant, seen.add(user));
    this.#seenSize += 1;
    this.#users.push({ tenant, user, day: new Date(day * dayMs).toISOString().slice(0, 10) });
  }

  async #send(): Promise<void> {
    // What failed before goes first and by itself: its number stands for exactly these lines.
    for (const take of [() => this.#unsent, () => this.#take()]) {
      const batch = take();
      if (!batch) continue;
      this.#unsent = batch;
      await this.#database.pool.query('select partywall_control.add_requests($1, $2, $3, $4)', [this.#process, batch.number, batch.lines, batch.users]);
      this.#unsent = undefined;
    }
  }

  #take(): Batch | undefined {
    if (this.#size === 0) return undefined;
    const lines = [...this.#minutes].flatMap(([minute, tenants]) => {
      const at = new Date(minute * minuteMs).toISOString();
      return [...tenants].map(([tenant, line]) => ({ tenant: storable(tenant) ? tenant : nobody, minute: at, ...line }));
    });
    const users = this.#users.filter(({ tenant, user }) => storable(tenant) && storable(user));
    this.#minutes.clear();
    this.#minute = -1;
    this.#size = 0;
    this.#users = [];
    this.#batches += 1;
    return { number: this.#batches, lines: JSON.stringify(lines), users: JSON.stringify(users) };
  }
}

/** PostgreSQL refuses a NUL and half of a surrogate pair, and one refused line would keep all others of its batch out. */
function storable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}
