import pg from 'pg';
import { Admissions } from './admissions.ts';
import { BootGate } from './boot-gate.ts';
import { bindCallback, isCallback } from './caller.ts';
import { AllowedStatements } from './clients/allowed-statements.ts';
import { currentScope, inScope, type Scope } from './context.ts';
import { TenantContextError } from './errors.ts';
import { type PlacementOptions, Placements, withoutTarget } from './placement.ts';
import { isQueryObject } from './queued-query.ts';
import { type PoolState, poolState, queryInScope, WalledClient, type WalledOptions } from './walled-client.ts';

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

export type WalledPoolConfig = pg.PoolConfig & WalledOptions & PlacementOptions & ConnectOptions;

/**
 * A `pg.Pool` whose connections are walled clients. Takes what `pg.Pool` takes, but no `Client`, no `pipeline` and no pg-native.
 * What the application sends on a new connection (`onConnect`, `verify`, the `connect` event) needs no context.
 *
 * With `placements` it follows tenants into other databases: each has a pool of its own, with the same options and the same gate, and events
 * of these are events of this pool. `connect` leads to where the tenant of the context is known to be; where that was not known yet, the
 * first statement of the transaction is refused with `TenantPlacedElsewhereError`, and beginning again leads there.
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
    Object.defineProperty(WalledPool.prototype, 'query', {
      configurable: true,
      writable: true,
      value(this: WalledPool, ...given: unknown[]): unknown {
        const scope = currentScope() ?? this.#allowed.scopeFor(givenText(given[0]));
        const callback = given.find(isCallback);
        if (!scope) {
          const refusal = new TenantContextError({ message: 'sending a statement outside any context' });
          if (!callback) return Promise.reject(refusal);
          process.nextTick(callback, refusal);
          return undefined;
        }
        if (callback || isQueryObject(given[0])) return Reflect.apply(query, this, given);
        const placements = this.#placements;
        return placements && scope.kind === 'tenant' ? this.#follow(placements, scope, given) : this.#query(scope, given[0], given[1]);
      },
    });
  }

  readonly #placements: Placements<WalledPool> | undefined;
  readonly #allowed: AllowedStatements;
  readonly #connectInContext: boolean;

  constructor(config: WalledPoolConfig, home?: Pick<PoolState, 'placement' | 'onRefused'>) {
    const { onConnect, verify, placements } = config;
    let own: Placements<WalledPool> | undefined;
    const state: PoolState = {
      gate: new BootGate(),
      admissions: new Admissions({ preparedStatements: config.preparedStatements ?? true }),
      ...(placements && { onRefused: (...refusal) => own?.refused(...refusal) }),
      ...home,
    };
    super({
      ...config,
      Client: WalledClient,
      ...(onConnect && { onConnect: (client) => inScope(setup, () => onConnect(client)) }),
      ...(verify && { verify: (client, done) => inScope(setup, () => verify(client, done)) }),
      ...{ [poolState]: state },
    });
    own = placements && new Placements(placements, (target, placement) => this.#place({ ...withoutTarget(config), ...target }, { ...state, placement }));
    this.#placements = own;
    this.#allowed = new AllowedStatements(config.allow);
    this.#connectInContext = config.connectInContext ?? false;
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
    const scope = currentScope();
    if (!scope && this.#connectInContext) {
      const refusal = new TenantContextError({ message: 'taking a connection outside any context' });
      if (!callback) return Promise.reject(refusal);
      process.nextTick(callback, refusal, undefined, () => undefined);
      return undefined;
    }
    const placed = scope?.kind === 'tenant' && !this.ending ? this.#placements?.poolOf(scope.tenant) : undefined;
    if (!callback) return placed?.connect() ?? super.connect();
    if (placed) placed.connect(callback);
    else super.connect(bindCallback(callback));
    return undefined;
  }

  /** Ends the pools of placements too. */
  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | undefined {
    const ended = Promise.all([super.end(), this.#placements?.end()]).then(() => undefined);
    if (!callback) return ended;
    ended.then(callback, callback);
    return undefined;
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    return event === 'connect' ? inScope(setup, () => super.emit(event, ...values)) : super.emit(event, ...values);
  }

  /** Sends a query to where the tenant is known to be, and where that database does not let it in, to where it is then known to be. */
  async #follow(placements: Placements<WalledPool>, scope: Scope & { kind: 'tenant' }, [config, values]: readonly unknown[]): Promise<unknown> {
    for (let hop = 0; ; hop += 1) {
      const pool = this.#poolOf(placements, scope.tenant);
      try {
        return await pool.#query(scope, config, values);
      } catch (error) {
        if (hop >= hopsMax || !placements.isRefusal(error) || this.#poolOf(placements, scope.tenant) === pool) throw error;
      }
    }
  }

  #poolOf(placements: Placements<WalledPool>, tenant: string): WalledPool {
    return (this.ending ? undefined : placements.poolOf(tenant)) ?? this;
  }

  /**
   * pg-pool's own \`query\` for promises, which hands the scope on instead of binding two callbacks to it: an AsyncResource each, 6 µs of
   * a point read's 75.
   */
  #query(scope: Scope, config: unknown, values: unknown): Promise<unknown> {
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
          client[queryInScope](scope, config, values, settle);
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

function givenText(config: unknown): string | undefined {
  const text: unknown = typeof config === 'object' && config !== null && 'text' in config ? config.text : config;
  return typeof text === 'string' ? text : undefined;
}
