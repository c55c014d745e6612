import type pg from 'pg';

/**
 * A pool of `pg` in the form in which Knex takes somebody else's pool. Knex 3.3 takes a `pg.Pool` as it is too, and then gives the connection
 * of a stream back twice: under load the second time is somebody else's turn, and their connection is given to a third. Here a connection
 * can be given back once each time it is taken. Knex does not end this pool.
 *
 * @example
 * const db = knex({ client: 'pg', connectionPool: knexPool(createWalledPool({ connectionString })) });
 */
export function knexPool(pool: pg.Pool): KnexPool {
  const taken = new Map<object, pg.PoolClient>();
  return {
    acquire: () => {
      const take = async (): Promise<object> => {
        const client = await pool.connect();
        const turn = turnOf(client);
        taken.set(turn, client);
        return turn;
      };
      return { promise: take(), abort: () => undefined };
    },
    release: (turn) => {
      const client = taken.get(turn);
      if (!client) return false;
      taken.delete(turn);
      client.release(disposed in turn && turn[disposed] ? true : undefined);
      return true;
    },
    destroy: async () => undefined,
    numFree: () => pool.idleCount,
    numUsed: () => pool.totalCount - pool.idleCount,
    numPendingAcquires: () => pool.waitingCount,
  };
}

export interface KnexPool {
  acquire(): { readonly promise: Promise<object>; abort(): void };
  release(turn: object): boolean;
  destroy(): Promise<void>;
  numFree(): number;
  numUsed(): number;
  numPendingAcquires(): number;
}

/** Where Knex notes that a connection is not to be used again. */
const disposed = '__knex__disposed';

/** The client for as long as it is taken: an object of its own, by which one turn is told from the next. What Knex writes on it ends with it. */
function turnOf(client: pg.PoolClient): object {
  const methods = new Map<unknown, unknown>();
  return new Proxy<Record<PropertyKey, unknown>>(
    {},
    {
      get: (own, name) => {
        if (Object.hasOwn(own, name)) return own[name];
        const value: unknown = Reflect.get(client, name);
        if (typeof value !== 'function') return value;
        const bound = methods.get(value) ?? value.bind(client);
        methods.set(value, bound);
        return bound;
      },
      has: (own, name) => name in own || name in client,
    },
  );
}
