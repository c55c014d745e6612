import pg from 'pg';
import type { Scope } from '../context.ts';
import { splitStatements } from '../lexer.ts';
import { type CallSite, takeCallSite } from './call-site.ts';
import { modeOf, parseRolloutState, type RolloutMode, type RolloutState } from './mode.ts';
import { parseTenantColumns, type TenantColumns } from './tables.ts';
import { type Report, Tally } from './tally.ts';

export interface RolloutOptions {
  /**
   * Lets operators roll the wall out, and back, without a deploy (`partywall rollout`): the pool asks the database every second which tenants are
   * observed, and sends their statements over `observe`, a login that no policy binds (the system role of the model).
   */
  readonly rollout?: {
    /** What `pg.Pool` takes; what is left out is as for the pool itself. */
    readonly observe: pg.PoolConfig;
    /** Share of the SELECTs of observed tenants that are run again behind the wall, to compare; default 0.01. */
    readonly rerun?: number;
  };
}

/** How long a change of a mode takes to be heard, in the worst case beside the question itself (milliseconds). */
const pollMs = 1_000;
/** A question that takes longer has failed (milliseconds). */
const pollTimeoutMs = 2_000;
/** Tables come and go by migrations: how many polls their list is kept while no mode changes. */
const tablesPolls = 30;
const flushMs = 2_000;
/** After reports that could not be delivered the next one waits longer, up to this (milliseconds). */
const flushMsMax = 30_000;
/** Of the statements that are right as far as is known, one in so many has its call site taken. */
const siteEvery = 16;
/** About 100 bytes each. */
const modesMax = 10_000;
/** Texts that were seen to do wrong, whose call site is taken before those of others. */
const suspectsMax = 500;
/** Call sites taken each second: putting one into words costs 150 µs, and an application without contexts sends nothing that is right. */
const sitesPerSecond = 50;

/** What a pool has to say to the database. */
export interface RolloutPaths {
  /** Of the application's login: the modes are heard over it, so that observing can be ended when the observer cannot connect. */
  readonly app: pg.ClientConfig;
  /** Over the observer's login. Rejects where it cannot be reached, or has no connection to spare. */
  report(report: string): Promise<void>;
}

/**
 * The roll-out as one pool follows it. States: *idle* until the pool is first used, then *following* until `end`. While following, a state that
 * could not be read again stays what it was; none at all means enforce.
 */
export class Rollout {
  readonly tally = new Tally();
  readonly #paths: RolloutPaths;
  readonly #suspects = new Set<string>();
  #state: RolloutState | undefined;
  /** Of tenants, in the present state. */
  readonly #modes = new Map<string, RolloutMode>();
  #columns: TenantColumns = new Map();
  #openNames: ReadonlySet<string> = new Set();
  #ready: Promise<void> | undefined;
  #known = false;
  #ended = false;
  #client: pg.Client | undefined;
  #polls = 0;
  #pollTimer: NodeJS.Timeout | undefined;
  #flushTimer: NodeJS.Timeout | undefined;
  #flushDelay = flushMs;
  #statements = 0;
  #sites = { second: 0, taken: 0 };

  constructor(paths: RolloutPaths) {
    this.#paths = paths;
  }

  /** The first answer is there, or has failed: until then a pool waits with what it is asked for. */
  get known(): boolean {
    return this.#known;
  }

  /** Begins to follow; resolves, whatever the answer, when the modes have been asked for once. */
  ready(): Promise<void> {
    this.#ready ??= this.#follow();
    return this.#ready;
  }

  get keyType(): string {
    return this.#state?.keyType ?? 'text';
  }

  get columns(): TenantColumns {
    return this.#columns;
  }

  /** Mode of a statement's scope: the tenant's, or that of all for what has none. */
  mode(scope: Scope | undefined): RolloutMode {
    if (scope?.kind !== 'tenant') return modeOf(this.#state);
    // A hash for each statement would cost a twentieth of a point read.
    const known = this.#modes.get(scope.tenant);
    if (known !== undefined) return known;
    const mode = modeOf(this.#state, scope.tenant);
    if (this.#modes.size >= modesMax) this.#modes.clear();
    this.#modes.set(scope.tenant, mode);
    return mode;
  }

  /**
   * Whether a statement outside any context is let through: while all is observed, and where it names a table that is open. In that case it
   * goes as the application's own role, which the policies of all other tables still bind.
   */
  letsThrough(text: string | undefined): boolean {
    if (text === undefined) return false;
    if (this.mode(undefined) === 'observe') return true;
    return (
      this.#openNames.size > 0 && splitStatements(text).some((tokens) => tokens.some(({ kind, text: name }) => kind !== 'string' && this.#openNames.has(name)))
    );
  }

  /** The caller's stack, for a sample of the observed statements and for all that are suspected. */
  callSite(text: string | undefined, scope: Scope | undefined): CallSite | undefined {
    if (text === undefined) return undefined;
    if (scope && scope.kind !== 'none') {
      if (this.#openNames.size === 0 && this.mode(scope) === 'enforce') return undefined;
      this.#statements += 1;
      if (!this.#suspects.has(text) && this.#statements % siteEvery !== 1) return undefined;
    }
    const second = Math.floor(performance.now() / 1_000);
    if (this.#sites.second !== second) this.#sites = { second, taken: 0 };
    this.#sites.taken += 1;
    return this.#sites.taken <= sitesPerSecond ? takeCallSite() : undefined;
  }

  /** The next statement of this text has its call site taken. */
  suspect(text: string): void {
    if (this.#suspects.size < suspectsMax) this.#suspects.add(text);
  }

  /** Delivers what was counted, and follows no more. */
  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#pollTimer);
    clearTimeout(this.#flushTimer);
    const client = this.#client;
    this.#client = undefined;
    client?.ref(); // whoever waits for the end is not to be ended before it
    await Promise.all([client?.end().catch(() => undefined), this.#deliver()]);
  }

  async #follow(): Promise<void> {
    await this.#poll();
    this.#known = true;
    if (this.#ended) return;
    this.#flushTimer = setTimeout(() => void this.#flush(), this.#flushDelay).unref();
  }

  /** Never rejects: a poll that fails is made again. */
  async #poll(): Promise<void> {
    try {
      this.#client ??= await this.#connect();
      await this.#ask(this.#client);
    } catch {
      const lost = this.#client;
      this.#client = undefined;
      lost?.end().catch(() => undefined);
    }
    if (this.#ended) await this.#client?.end().catch(() => undefined);
    else this.#pollTimer = setTimeout(() => void this.#poll(), pollMs).unref();
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ ...this.#paths.app, connectionTimeoutMillis: pollTimeoutMs, query_timeout: pollTimeoutMs });
    client.on('error', () => undefined); // the next poll finds it lost
    await client.connect();
    client.unref();
    this.#polls = 0;
    return client;
  }

  async #ask(client: pg.Client): Promise<void> {
    const { rows } = await client.query<{ state: unknown }>('select partywall.rollout_state($1) as state', [this.#state?.change ?? null]);
    const state = parseRolloutState(rows[0]?.state);
    if (state || this.#polls % tablesPolls === 0) {
      const answer = await client.query<{ tables: unknown }>('select partywall.rollout_tables() as tables');
      this.#columns = parseTenantColumns(answer.rows[0]?.tables);
    }
    this.#polls += 1;
    if (!state) return;
    this.#state = state;
    this.#modes.clear();
    this.#openNames = new Set(state.tables.map((table) => table.slice(table.indexOf('.') + 1)));
  }

  async #flush(): Promise<void> {
    this.#flushDelay = (await this.#deliver()) ? flushMs : Math.min(2 * this.#flushDelay, flushMsMax);
    if (!this.#ended) this.#flushTimer = setTimeout(() => void this.#flush(), this.#flushDelay).unref();
  }

  /** False where there was something to deliver and it could not be: it is counted again, within the limits of what is counted at all. */
  async #deliver(): Promise<boolean> {
    const report: Report | undefined = this.tally.take();
    if (!report) return true;
    try {
      await this.#paths.report(JSON.stringify(report));
      return true;
    } catch {
      this.tally.putBack(report);
      return false;
    }
  }
}
