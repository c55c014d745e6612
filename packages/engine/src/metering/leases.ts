import type { ControlDatabase } from '../db/operation.ts';
import { paceRequest } from './rate-limit.ts';

/** Whether a tenant may make one more call. */
export type CallVerdict =
  | { readonly kind: 'admitted' }
  | { readonly kind: 'too_fast'; readonly retryAfterMs: number }
  | { readonly kind: 'used_up'; readonly limit: number; readonly usage: number; readonly reset: Date };

export interface CallLeaseOptions {
  /** How often a process tells what it used, and learns what is in force; milliseconds. */
  readonly reportMs?: number;
  /** A report failed; what it would have told goes with the next one. */
  readonly onError?: (error: unknown) => void;
}

/** Within this, every process holds a new limit or rate. */
export const reportMsDefault = 2_000;
/** A tenant that made no call for so long holds no lease and is forgotten. By then a minute's worth of requests is free again. */
const idleMs = 60_000;
/** Tenants of one report. */
const reportTenantsMax = 1_000;
/** Part of a lease that is left when the next one is asked for, beside the requests. */
const renewAt = 0.25;
/** From this part of the limit on, what is not used goes back with every report: another process may need it. */
const scarceAt = 0.9;

/** What this process holds of a tenant's calls in one month. */
interface Holding {
  readonly tenant: string;
  readonly month: Month;
  /** Null: there is no limit. */
  max: number | null;
  /** Handed out to all processes, as last heard. */
  leased: number;
  rate: number | null;
  /** Calls that may be made without asking. */
  left: number;
  /** Size of the last lease. */
  size: number;
  /** Used since the last report; `unleased` of these without a lease, because there was no limit. */
  used: number;
  unleased: number;
  /** Of the rate; see `paceRequest`. */
  paidUntil: number | undefined;
  lastAt: number;
  /** Refused until then without asking again. */
  refusedUntil: number;
  asking: Promise<void> | undefined;
}

interface Month {
  /** Its first day, `YYYY-MM-DD`, UTC. */
  readonly day: string;
  readonly endsAt: number;
}

const admitted: CallVerdict = { kind: 'admitted' };

/**
 * The API calls and the request rate of tenants, as one process holds them.
 *
 * The limit of a month is held in the database: calls are handed out there as leases, in a statement that never hands out more than the
 * limit. A process that holds a lease decides by itself, at once. It asks for the next lease when a quarter is left, tells what it used every
 * `reportMs`, and gives back what it does not need: when a tenant is idle, when the limit is near, when the month ends, when it closes.
 * A crash loses at most one lease for each tenant: calls that count as made and were not. What was used and not told is lost
 * with it, from the display only.
 *
 * Open from the start until `close`, which gives everything back; the caller has stopped taking by then.
 */
export class CallLeases {
  readonly #database: ControlDatabase;
  readonly #reportMs: number;
  readonly #onError: (error: unknown) => void;
  readonly #holdings = new Map<string, Holding>();
  /** First questions that are under way: all requests of a tenant share one. */
  readonly #first = new Map<string, Promise<Holding | undefined>>();
  /** Of months that have ended, to be told once more. */
  #ended: Holding[] = [];
  readonly #timer: NodeJS.Timeout;
  #reporting: Promise<void> | undefined;
  #nextReport: Promise<void> | undefined;

  constructor(database: ControlDatabase, options: CallLeaseOptions = {}) {
    this.#database = database;
    this.#reportMs = options.reportMs ?? reportMsDefault;
    this.#onError = options.onError ?? (() => undefined);
    this.#timer = setInterval(() => void this.report().catch(this.#onError), this.#reportMs);
    this.#timer.unref();
  }

  /**
   * Takes one call of a tenant. At once while the process holds a lease; else a promise, which rejects where the database does not answer.
   * A tenant that is not in the directory is not held to anything.
   */
  take(tenant: string): CallVerdict | Promise<CallVerdict> {
    const now = this.#database.clock().getTime();
    const holding = this.#holding(tenant, now);
    if (!holding) return this.#lease(tenant, now).then((known) => (known ? this.#decide(known, now) : admitted));
    return this.#decide(holding, now);
  }

  /** Tells what was used until now, and takes in what is in force. */
  report(): Promise<void> {
    if (!this.#reporting) return this.#startReport();
    // The one that runs may have been sent before what was used last.
    this.#nextReport ??= this.#reporting
      .catch(() => undefined)
      .then(() => {
        this.#nextReport = undefined;
        return this.#startReport();
      });
    return this.#nextReport;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reporting?.catch(() => undefined);
    await this.#nextReport?.catch(() => undefined);
    await Promise.all([...this.#holdings.values()].map(({ asking }) => asking?.catch(() => undefined)));
    await this.#report(true);
  }

  #startReport(): Promise<void> {
    this.#reporting = this.#report(false).finally(() => {
      this.#reporting = undefined;
    });
    return this.#reporting;
  }

  #decide(holding: Holding, now: number): CallVerdict | Promise<CallVerdict> {
    holding.lastAt = now;
    if (holding.rate !== null) {
      const { paidUntil, retryAfterMs } = paceRequest(holding.paidUntil, holding.rate, now);
      holding.paidUntil = paidUntil;
      if (retryAfterMs > 0) return { kind: 'too_fast', retryAfterMs };
    }
    return this.#spend(holding, now);
  }

  #spend(holding: Holding, now: number): CallVerdict | Promise<CallVerdict> {
    if (holding.max === null) {
      holding.used += 1;
      holding.unleased += 1;
      return admitted;
    }
    if (holding.left > 0) {
      holding.left -= 1;
      holding.used += 1;
      if (holding.left <= holding.size * renewAt && holding.left > 0) this.#ask(holding).catch(this.#onError);
      return admitted;
    }
    if (holding.refusedUntil > now) {
      return { kind: 'used_up', limit: holding.max, usage: Math.max(holding.leased, holding.max), reset: new Date(holding.month.endsAt) };
    }
    return this.#ask(holding).then(() => this.#spend(holding, this.#database.clock().getTime()));
  }

  #holding(tenant: string, now: number): Holding | undefined {
    const holding = this.#holdings.get(tenant);
    if (!holding || now < holding.month.endsAt) return holding;
    this.#holdings.delete(tenant);
    this.#ended.push(holding);
    return undefined;
  }

  #lease(tenant: string, now: number): Promise<Holding | undefined> {
    const running = this.#first.get(tenant);
    if (running) return running;
    const holding = emptyHolding(tenant, now);
    const asked = this.#request(holding)
      .then((known) => {
        if (!known) return undefined;
        this.#holdings.set(tenant, holding);
        return holding;
      })
      .finally(() => this.#first.delete(tenant));
    this.#first.set(tenant, asked);
    return asked;
  }

  #ask(holding: Holding): Promise<void> {
    holding.asking ??= this.#request(holding)
      .then(() => undefined)
      .finally(() => {
        holding.asking = undefined;
      });
    return holding.asking;
  }

  async #request(holding: Holding): Promise<boolean> {
    const { rows } = await this.#database.pool.query<InForce & { granted: string | null }>({
      name: 'partywall_lease_calls',
      text: 'select granted, max, leased, requests_per_minute from partywall_control.lease_calls($1, $2, $3)',
      values: [holding.tenant, holding.month.day, holding.left],
    });
    const row = rows[0];
    if (!row) return false;
    const granted = Number(row.granted ?? 0);
    holding.left += granted;
    holding.size = holding.left;
    learn(holding, row);
    if (granted === 0 && holding.max !== null && holding.leased >= holding.max) holding.refusedUntil = this.#database.clock().getTime() + this.#reportMs;
    return true;
  }

  async #report(closing: boolean): Promise<void> {
    const now = this.#database.clock().getTime();
    for (const { tenant } of this.#holdings.values()) this.#holding(tenant, now);
    const ended = this.#ended;
    this.#ended = [];
    const held = [...this.#holdings.values()];
    const all = [...ended, ...held];
    for (let from = 0; from < all.length; from += reportTenantsMax) {
      const batch = all.slice(from, from + reportTenantsMax);
      const told = batch.map((holding) => this.#tell(holding, closing || this.#gives(holding, now)));
      try {
        await this.#send(batch, told);
      } catch (error) {
        for (const [at, holding] of batch.entries()) restore(holding, told[at]);
        this.#ended.push(...ended.slice(from));
        throw error;
      }
    }
    for (const holding of held) if (closing || isForgotten(holding, now)) this.#holdings.delete(holding.tenant);
  }

  /** Whether what is left goes back. */
  #gives(holding: Holding, now: number): boolean {
    if (holding.max === null || now >= holding.month.endsAt || now - holding.lastAt >= idleMs) return true;
    return holding.leased >= holding.max * scarceAt && now - holding.lastAt >= this.#reportMs;
  }

  /** Takes what is to be told out of the holding, before the question is sent: calls made meanwhile are for the next report. */
  #tell(holding: Holding, gives: boolean): Told {
    const back = gives && !holding.asking ? holding.left : 0;
    const told = { used: holding.used, unleased: holding.unleased, back };
    holding.used = 0;
    holding.unleased = 0;
    holding.left -= back;
    return told;
  }

  async #send(batch: readonly Holding[], told: readonly Told[]): Promise<void> {
    if (batch.length === 0) return;
    const { rows } = await this.#database.pool.query<InForce & { tenant_id: string; month: string }>({
      name: 'partywall_report_calls',
      text: 'select tenant_id, month::text, max, leased, requests_per_minute from partywall_control.report_calls($1, $2, $3, $4)',
      values: [
        batch.map(({ tenant }) => tenant),
        batch.map(({ month }) => month.day),
        told.map(({ used }) => used),
        told.map(({ unleased, back }) => unleased - back),
      ],
    });
    const known = new Map(rows.map((row) => [`${row.month} ${row.tenant_id}`, row]));
    for (const holding of batch) {
      const row = known.get(`${holding.month.day} ${holding.tenant}`);
      if (row) learn(holding, row);
      // Deleted: nothing is held of it any more.
      else if (this.#holdings.get(holding.tenant) === holding) this.#holdings.delete(holding.tenant);
    }
  }
}

function emptyHolding(tenant: string, now: number): Holding {
  const unknown = { max: null, leased: 0, rate: null, paidUntil: undefined, refusedUntil: 0, asking: undefined };
  return { tenant, month: monthOf(now), ...unknown, left: 0, size: 0, used: 0, unleased: 0, lastAt: now };
}

/** What the database answers to a question and to a report. */
interface InForce {
  readonly max: string | null;
  readonly leased: string;
  readonly requests_per_minute: number | null;
}

function learn(holding: Holding, row: InForce): void {
  const max = row.max === null ? null : Number(row.max);
  if (max !== holding.max) holding.refusedUntil = 0;
  holding.max = max;
  holding.leased = Number(row.leased);
  holding.rate = row.requests_per_minute;
}

interface Told {
  readonly used: number;
  readonly unleased: number;
  readonly back: number;
}

/** Of a report that failed. What went back stays gone: the report may have arrived, and nobody may use a call twice. */
function restore(holding: Holding, told: Told | undefined): void {
  holding.used += told?.used ?? 0;
  holding.unleased += told?.unleased ?? 0;
}

function isForgotten(holding: Holding, now: number): boolean {
  return now - holding.lastAt >= idleMs && holding.left === 0 && holding.used === 0 && !holding.asking;
}

function monthOf(now: number): Month {
  const at = new Date(now);
  const day = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1)).toISOString().slice(0, 10);
  return { day, endsAt: Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1, 1) };
}
