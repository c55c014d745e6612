import pg from 'pg';
import { Admissions } from './admissions.ts';
import { BootGate } from './boot-gate.ts';
import { bindCallback, isCallback } from './caller.ts';
import { currentScope, inScope, type Scope } from './context.ts';
import { TenantContextError } from './errors.ts';
import { isQueryObject } from './queued-query.ts';
import { type PoolState, poolState, queryInScope, WalledClient, type WalledOptions } from './walled-client.ts';

const setup: Scope = { kind: 'setup' };

/**
 * A `pg.Pool` whose connections are walled clients. Takes what `pg.Pool` takes, but no `Client`, no `pipeline` and no pg-native.
 * What the application sends on a new connection (`onConnect`, `verify`, the `connect` event) needs no context.
 *
 * @example
 * const pool = createWalledPool({ connectionString: process.env.DATABASE_URL });
 * await run({ tenant }, () => pool.query('select * from invoices where paid_at is null'));
 */
export function createWalledPool(config: pg.PoolConfig & WalledOptions = {}): pg.Pool {
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
        const scope = currentScope();
        const callback = given.find(isCallback);
        if (!scope) {
          const refusal = new TenantContextError({ message: 'sending a statement outside any context' });
          if (!callback) return Promise.reject(refusal);
          process.nextTick(callback, refusal);
          return undefined;
        }
        return callback || isQueryObject(given[0]) ? Reflect.apply(query, this, given) : this.#query(scope, given[0], given[1]);
      },
    });
  }

  constructor(config: pg.PoolConfig & WalledOptions) {
    const { onConnect, verify } = config;
    const state: PoolState = { gate: new BootGate(), admissions: new Admissions({ preparedStatements: config.preparedStatements ?? true }) };
    super({
      ...config,
      Client: WalledClient,
      ...(onConnect && { onConnect: (client) => inScope(setup, () => onConnect(client)) }),
      ...(verify && { verify: (client, done) => inScope(setup, () => verify(client, done)) }),
      ...{ [poolState]: state },
    });
  }

  /** A waiting caller is served by whoever hands a connection back: the callback goes on in the caller's context, not in theirs. */
  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Connected): void;
  override connect(callback?: Connected): Promise<pg.PoolClient> | undefined {
    if (!callback) return super.connect();
    super.connect(bindCallback(callback));
    return undefined;
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    return event === 'connect' ? inScope(setup, () => super.emit(event, ...values)) : super.emit(event, ...values);
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
