import pg from 'pg';
import { Admissions } from './admissions.ts';
import { BootGate } from './boot-gate.ts';
import { bindCallback, isCallback } from './caller.ts';
import { AllowedStatements } from './clients/allowed-statements.ts';
import { StatementNames } from './clients/statement-names.ts';
import { currentScope, inScope, type Scope } from './context.ts';
import { TenantContextError } from './errors.ts';
import { heardLoss } from './lost-connection.ts';
import { type PlacementOptions, Placements, withoutTarget } from './placement.ts';
import { givenText } from './query.ts';
import { isQueryObject } from './queued-query.ts';
import { atCallSite, type CallSite, carriedCallSite } from './rollout/call-site.ts';
import { ObserverGate } from './rollout/observer-gate.ts';
import { Rerun } from './rollout/rerun.ts';
import { Rollout, type RolloutOptions } from './rollout/rollout.ts';
import { StatementWatch } from './rollout/statement-watch.ts';
import { createSealer } from './seal/sealer.ts';
import { type PoolState, poolState, queryInScope, rolloutWatch, WalledClient, type WalledOptions } from './walled-client.ts';

const setup: Scope = { kind: 'setup' };

/** Refusals after which a statement is sent to the database that they name. */
const hopsMax = 2;

export interface ConnectOptions {
  /**
   * Whether `connect` outside any context is refused as `query` is (default false: a connection may be taken first, and used inside
   * contexts later). For libraries that lose a connection whose BEGIN is refused, as Drizzle does.
   */
  readonly connectInContext?: boolean;
}

export type WalledPoolConfig = pg.PoolConfig & WalledOptions & PlacementOptions & ConnectOptions & RolloutOptions;

/**
 * A `pg.Pool` whose connections are walled clients. Takes what `pg.Pool` takes, but no `Client`, no `pipeline` and no pg-native.
 * What the application sends on a new connection (`onConnect`, `verify`, the `connect` event) needs no context. A lost connection never
 * ends the process, also where nobody listens for `error`; then it is said once by a warning.
 *
 * With `placements` it follows tenants into other databases: each has a pool of its own, with the same options and the same gate, and events
 * of these are events of this pool. `connect` leads to where the tenant of the context is known to be; where that was not known yet, the
 * first statement of the transaction is refused with `TenantPlacedElsewhereError`, and beginning again leads there.
 *
 * With `rollout` it follows the modes of the database. Tenants that are observed are served by a second pool, of the observer's login; a
 * connection keeps the mode that it was taken in until it is handed back.
 *
 * @example
 * const pool = createWalledPool({ connectionString: process.env.DATABASE_URL });
 * await run({ tenant }, () => pool.query('select * from invoices where paid_at is null'));
 */
export function createWalledPool(config: WalledPoolConfig = {}): pg.Pool {
  return new WalledPool(config);
}

type Connected = (error: Error | undefined, client: pg.PoolClient | undefined, release: (error?: Error | boolean) => void) => void;

class WalledPool extends pg.Pool {
  static {
    // As in WalledClient: the overloads of pg are kept, their bodies replaced.
    const { query } = pg.Pool.prototype;
    // biome-ignore lint/complexity/noThisInStatic: the compiler renames the class inside itself, and has set that name only after this block
    Object.defineProperty(this.prototype, 'query', {
      configurable: true,
      writable: true,
      value(this: WalledPool, ...given: unknown[]): unknown {
        const rollout = this.#rollout;
        const callback = given.find(isCallback);
        const text = givenText(given[0]);
        if (rollout && !rollout.known && !this.ending) {
          const site = rollout.callSite(text, currentScope());
          const answer = rollout.ready().then(() => atCallSite(site, () => Reflect.apply(this.query, this, given)));
          return callback ? undefined : answer;
        }
        const scope = currentScope() ?? this.#allowed.scopeFor(text) ?? (rollout?.letsThrough(text) ? { kind: 'none' } : undefined);
        const site = rollout && (carriedCallSite() ?? rollout.callSite(text, scope));
        if (!scope) {
          const refusal = new TenantContextError({ message: 'sending a statement outside any context' });
          rollout?.tally.add({ mode: 'enforce', kind: refusal.code, text: text ?? '', site });
          if (!callback) return Promise.reject(refusal);
          process.nextTick(callback, refusal);
          return undefined;
        }
        if (callback || isQueryObject(given[0])) return atCallSite(site, () => Reflect.apply(query, this, given));
        const sent: Sent = { config: given[0], values: given[1], site };
        if (this.#placements) return this.#follow(scope, sent);
        return (rollout ? this.#poolFor(scope) : this).#query(scope, sent);
      },
    });
  }

  readonly #placements: Placements<WalledPool> | undefined;
  readonly #allowed: AllowedStatements;
  readonly #connectInContext: boolean;
  readonly #rollout: Rollout | undefined;
  /** Of the observer's login. */
  readonly #observing: WalledPool | undefined;

  constructor(config: WalledPoolConfig, home?: Partial<PoolState>) {
    // The keys and the observer's password stay out of `options`, which errors and logs may show.
    const { seal, rollout, ...options } = config;
    const { onConnect, verify, placements } = config;
    const sealer = seal === undefined ? undefined : createSealer(seal);
    let own: Placements<WalledPool> | undefined;
    let following: Rollout | undefined;
    const state: PoolState = {
      gate: new BootGate(sealer),
      admissions: new Admissions({ preparedStatements: config.preparedStatements ?? true, sealer }),
      ...(config.nameStatements && (config.preparedStatements ?? true) && { names: new StatementNames() }),
      ...(placements && { onRefused: (...refusal) => own?.refused(...refusal) }),
      ...(rollout && { watch: () => following && new StatementWatch(following, undefined) }),
      ...home,
    };
    super({
      ...options,
      Client: WalledClient,
      ...(onConnect && { onConnect: (client) => inScope(setup, () => onConnect(client)) }),
      ...(verify && { verify: (client, done) => inScope(setup, () => verify(client, done)) }),
      ...{ [poolState]: state },
    });
    own = placements && new Placements(placements, (target, placement) => this.#place({ ...withoutTarget(config), ...target }, { ...state, placement }));
    this.#placements = own;
    this.#allowed = new AllowedStatements(config.allow);
    this.#connectInContext = config.connectInContext ?? false;
    if (!rollout) return;
    following = new Rollout({
      app: { ...options, application_name: 'partywall rollout' },
      report: (report) => inScope(setup, () => this.#reportBy(this.#observing, report)),
    });
    this.#rollout = following;
    this.#observing = this.#observer(config, { rollout: following, options: rollout, onRefused: state.onRefused });
  }

  #observer(
    config: WalledPoolConfig,
    { rollout, options, onRefused }: { rollout: Rollout; options: NonNullable<RolloutOptions['rollout']>; onRefused: PoolState['onRefused'] },
  ): WalledPool {
    const unwatched = <Result>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> =>
      (pool instanceof WalledPool ? pool : this).#unwatched(work);
    const rerun = new Rerun(() => ({ observing: pool, enforcing: this, unwatched }), rollout.tally, options.rerun);
    const pool = new WalledPool(
      // Nothing is refused here, taking a connection neither.
      { ...withoutTarget(config), ...options.observe, connectInContext: false },
      {
        gate: new ObserverGate(),
        admissions: new Admissions({ preparedStatements: config.preparedStatements ?? true, observing: true }),
        onRefused,
        watch: () => new StatementWatch(rollout, rerun),
      },
    );
    pool.on('connect', (client) => this.emit('connect', client));
    pool.on('error', (...lost) => this.emit('error', ...lost));
    return pool;
  }

  /** A pool for the tenants of a placement. */
  #place(config: WalledPoolConfig, { placement, onRefused }: PoolState): WalledPool {
    const pool = new WalledPool(config, { placement, onRefused });
    pool.on('connect', (client) => this.emit('connect', client));
    pool.on('error', (...lost) => this.emit('error', ...lost));
    return pool;
  }

  /** A waiting caller is served by whoever hands a connection back: the callback goes on in the caller's context, not in theirs. */
  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Connected): void;
  override connect(callback?: Connected): Promise<pg.PoolClient> | undefined {
    const rollout = this.#rollout;
    if (rollout && !rollout.known && !this.ending) {
      if (!callback) return rollout.ready().then(() => this.connect());
      rollout.ready().then(() => this.connect(callback));
      return undefined;
    }
    const scope = currentScope();
    if (!scope && this.#connectInContext && rollout?.mode(undefined) !== 'observe') {
      const refusal = new TenantContextError({ message: 'taking a connection outside any context' });
      if (!callback) return Promise.reject(refusal);
      process.nextTick(callback, refusal, undefined, () => undefined);
      return undefined;
    }
    const pool = this.#poolFor(scope);
    if (!callback) return pool.#connectHere(scope);
    if (pool !== this) pool.connect(callback);
    else {
      const bound = bindCallback(callback);
      super.connect((error, client, release) => bound(error, handed(client, scope), release));
    }
    return undefined;
  }

  #connectHere(scope: Scope | undefined): Promise<pg.PoolClient> {
    return super.connect().then((client) => handed(client, scope));
  }

  /** Runs `work` on a connection of this pool whose statements the roll-out does not count. */
  async #unwatched<Result>(work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
    const client = await this.#connectHere(currentScope());
    const watch = client instanceof WalledClient ? client[rolloutWatch] : undefined;
    if (watch) watch.paused = true;
    try {
      return await work(client);
    } finally {
      if (watch) watch.paused = false;
      client.release();
    }
  }

  async #reportBy(pool: WalledPool | undefined, report: string): Promise<void> {
    if (!pool || pool.waitingCount > 0) throw new Error('reporting what was observed: no connection to spare');
    await pool.#unwatched((client) => client.query({ ...reportStatement, values: [report] }));
  }

  /** Ends the pools of placements too. */
  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | undefined {
    const observed = this.#rollout?.end().finally(() => this.#observing?.end());
    const ended = Promise.all([super.end(), this.#placements?.end(), observed]).then(() => undefined);
    if (!callback) return ended;
    ended.then(callback, callback);
    return undefined;
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    if (heardLoss(this, event, values[0])) return true;
    return event === 'connect' ? inScope(setup, () => super.emit(event, ...values)) : super.emit(event, ...values);
  }

  /** Sends a query to where the tenant is known to be, and where that database does not let it in, to where it is then known to be. */
  async #follow(scope: Scope, sent: Sent): Promise<unknown> {
    for (let hop = 0; ; hop += 1) {
      const pool = this.#poolFor(scope);
      try {
        return await pool.#query(scope, sent);
      } catch (error) {
        if (hop >= hopsMax || !this.#placements?.isRefusal(error) || this.#poolFor(scope) === pool) throw error;
      }
    }
  }

  /** Where the scope's work is done: where its tenant is placed, else here, by the login that its mode asks for. */
  #poolFor(scope: Scope | undefined): WalledPool {
    if (this.ending) return this;
    const placed = scope?.kind === 'tenant' ? this.#placements?.poolOf(scope.tenant) : undefined;
    return placed ?? (this.#rollout?.mode(scope) === 'observe' ? this.#observing : undefined) ?? this;
  }

  /**
   * pg-pool's own \`query\` for promises, which hands the scope on instead of binding two callbacks to it: an AsyncResource each, 6 µs of
   * a point read's 75.
   */
  #query(scope: Scope, sent: Sent): Promise<unknown> {
    return new Promise((resolve, reject) => {
      super.connect((refusal, client, release) => {
        if (refusal || !(client instanceof WalledClient)) {
          reject(refusal);
          return;
        }
        let settled = false;
        const settle = (error: Error | null, result?: unknown): void => {
          if (settled) return;
          settled = true;
          client.off('error', settle);
          release(error ?? undefined);
          if (error) reject(error);
          else resolve(result);
        };
        // A connection that is lost is reported here, and to the query.
        client.once('error', settle);
        try {
          client[rolloutWatch]?.takenFor(scope);
          client[queryInScope](scope, sent, settle);
        } catch (error) {
          settle(error instanceof Error ? error : new Error(String(error)));
        }
      });
    }).catch((error: Error) => {
      Error.captureStackTrace(error); // as in pg-pool: from here the stack leads to the application's await
      throw error;
    });
  }
}

/** What a promise form of `query` was called with, and from where. */
interface Sent {
  readonly config: unknown;
  readonly values: unknown;
  readonly site: CallSite | undefined;
}

/** Tells the connection whose work it is handed out for. */
function handed<Client extends pg.PoolClient | undefined>(client: Client, scope: Scope | undefined): Client {
  if (client instanceof WalledClient) client[rolloutWatch]?.takenFor(scope);
  return client;
}

const reportStatement = { text: 'select partywall.report_observations($1)', query_timeout: 5_000 };
