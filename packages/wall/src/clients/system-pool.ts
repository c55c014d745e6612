import pg from 'pg';
import { bindCallback, bindToCaller, isCallback } from '../caller.ts';
import { currentScope, inScope } from '../context.ts';
import { StatementRefusedError, WallError, WallNotHeldError } from '../errors.ts';
import { heardLoss } from '../lost-connection.ts';
import { isQueryObject } from '../queued-query.ts';

/** What `pg.Pool` takes, but no `Client`. The connection string is that of the system role, and of nothing else. */
export type SystemPoolConfig = Omit<pg.PoolConfig, 'Client'>;

/**
 * A pool for what belongs to no tenant and needs the tenants' tables all the same: seeds, imports, jobs over all tenants, reports to
 * the platform's owner. It has a login of its own, the system role of the model, whom no policy binds, so nothing here is filtered.
 *
 * Each statement must be sent, and each connection taken, inside `system(purpose, fn)`, which counts it by purpose (`systemUses`): outside
 * any context and inside a tenant's it is refused before anything is sent. A login that the wall binds is refused too: it would read nothing and report success.
 *
 * @example
 * const systemPool = createSystemPool({ connectionString: process.env.SYSTEM_DATABASE_URL, max: 2 });
 * const { rows } = await system('monthly report', () => systemPool.query('select id, name from tenants'));
 */
export function createSystemPool(config: SystemPoolConfig = {}): pg.Pool {
  return new SystemPool(config);
}

type Connected = (error: Error | undefined, client: pg.PoolClient | undefined, release: (error?: Error | boolean) => void) => void;

class SystemPool extends pg.Pool {
  static {
    // The overloads of pg are kept, their bodies replaced, as in the walled pool.
    const { query } = pg.Pool.prototype;
    Object.defineProperty(SystemPool.prototype, 'query', {
      configurable: true,
      writable: true,
      value(this: SystemPool, ...given: unknown[]): unknown {
        const refusal = refusalHere();
        if (!refusal) return Reflect.apply(query, this, given);
        const callback = given.find(isCallback);
        if (!callback) return Promise.reject(refusal);
        process.nextTick(callback, refusal);
        return undefined;
      },
    });
  }

  constructor(config: SystemPoolConfig) {
    const { onConnect, verify } = config;
    super({
      ...config,
      Client: SystemClient,
      ...(onConnect && { onConnect: (client) => settingUp(() => onConnect(client)) }),
      ...(verify && { verify: (client, done) => settingUp(() => verify(client, done)) }),
    });
  }

  /** A waiting caller is served by whoever hands a connection back: the callback goes on in the caller's context, not in theirs. */
  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Connected): void;
  override connect(callback?: Connected): Promise<pg.PoolClient> | undefined {
    // Refused here and not only with the first statement: a library that loses a connection whose BEGIN is refused would lose one each time.
    const refusal = refusalHere();
    if (!callback) return refusal ? Promise.reject(refusal) : super.connect();
    if (refusal) process.nextTick(callback, refusal, undefined, () => undefined);
    else super.connect(bindCallback(callback));
    return undefined;
  }

  override emit(event: string | symbol, ...values: unknown[]): boolean {
    if (heardLoss(this, event, values[0])) return true;
    return event === 'connect' ? settingUp(() => super.emit(event, ...values)) : super.emit(event, ...values);
  }
}

class SystemClient extends pg.Client {
  static {
    const { query } = pg.Client.prototype;
    Object.defineProperty(SystemClient.prototype, 'query', {
      configurable: true,
      writable: true,
      value(this: SystemClient, ...given: unknown[]): unknown {
        const refusal = refusalHere();
        const [config] = given;
        if (!refusal) {
          if (isQueryObject(config)) bindToCaller(config);
          const bound = given.map((one) => (isCallback(one) ? bindCallback(one) : one));
          return Reflect.apply(query, this, bound);
        }
        const callback = given.find(isCallback);
        if (isQueryObject(config)) process.nextTick(() => config.handleError(refusal, this.connection));
        else if (callback) process.nextTick(callback, refusal);
        else return Promise.reject(refusal);
        return isQueryObject(config) ? config : undefined;
      },
    });
  }

  /** Connects and asks whether the role is one that the wall does not bind; rejects with `WallNotHeldError`, and ends the connection, where it is not. */
  override connect(): Promise<SystemClient>;
  override connect(callback: (error: Error | null, client?: SystemClient) => void): void;
  override connect(callback?: (error: Error | null, client?: SystemClient) => void): Promise<SystemClient> | undefined {
    if (!callback) {
      return new Promise((resolve, reject) => {
        this.connect((error) => (error ? reject(error) : resolve(this)));
      });
    }
    super.connect((error: Error | null) => {
      if (error) {
        callback(error);
        return;
      }
      settingUp(() => checkRole(this)).then(
        () => callback(null, this),
        (refusal: Error) => this.end(() => callback(refusal)),
      );
    });
    return undefined;
  }
}

/** Why a statement of the running code is not sent, and no connection taken for it. */
function refusalHere(): WallError | undefined {
  const scope = currentScope();
  if (scope?.kind === 'system' || scope?.kind === 'setup') return undefined;
  const where = scope?.kind === 'tenant' ? `in the context of tenant ${JSON.stringify(scope.tenant)}` : 'outside any context';
  return new StatementRefusedError({
    message: `sending a statement by the system pool ${where}`,
    hint: 'name what it is for: system(purpose, fn); work of one tenant belongs to the walled pool',
  });
}

function settingUp<Result>(fn: () => Result): Result {
  return inScope({ kind: 'setup' }, fn);
}

async function checkRole(client: pg.ClientBase): Promise<void> {
  try {
    const { rows } = await client.query<{ name: string; unbound: boolean }>(
      'select rolname::text as name, rolsuper or rolbypassrls as unbound from pg_catalog.pg_roles where rolname = current_user',
    );
    const [role] = rows;
    if (role?.unbound) return;
    throw new WallNotHeldError({
      message: `connecting as role ${JSON.stringify(role?.name)} for the system pool: the wall binds it, so it would see no tenant’s rows and report success`,
      hint: 'connect as the system role of the model, by a connection string of its own',
    });
  } catch (cause) {
    if (cause instanceof WallError) throw cause;
    throw new WallNotHeldError({ message: `asking for the role of the system pool: ${cause instanceof Error ? cause.message : cause}`, cause });
  }
}
