import pg from 'pg';
import { Admissions } from './admissions.ts';
import { BootGate } from './boot-gate.ts';
import { bindCallback, isCallback } from './caller.ts';
import { currentScope, inScope, type Scope } from './context.ts';
import { TenantContextError } from './errors.ts';
import { type PoolState, poolState, WalledClient, type WalledOptions } from './walled-client.ts';

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
        if (currentScope()) return Reflect.apply(query, this, given);
        const refusal = new TenantContextError({ message: 'sending a statement outside any context' });
        const callback = given.find(isCallback);
        if (!callback) return Promise.reject(refusal);
        process.nextTick(callback, refusal);
        return undefined;
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
}
