import type pg from 'pg';
import type { TenancyModel } from '../model/model.ts';

/** Who asks, as the audit log names them. `operator` is whoever may use the command with the service's connection string. */
export interface Actor {
  readonly kind: 'user' | 'api_key' | 'operator' | 'system';
  readonly id: string;
  readonly name?: string | undefined;
  /** Network address the request came from. */
  readonly address?: string | undefined;
}

/** A database under the control plane. */
export interface ControlDatabase {
  /** Connections of the service role, whom no policy binds, made by `controlPool`. */
  readonly pool: pg.Pool;
  readonly model: TenancyModel;
  readonly clock: () => Date;
  /** Folder of the keys, outside the database: what signs certificates. */
  readonly keyring: string;
}

/** One thing that somebody does through the control plane. */
export interface Operation {
  readonly database: ControlDatabase;
  readonly actor: Actor;
  readonly requestId?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `work` in one READ COMMITTED transaction and commits, or rolls back and throws what it threw. A COMMIT that the server answers with
 * ROLLBACK is an error here.
 */
export async function transaction<Result>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    return await transactionOn(client, work, (lost) => {
      broken = lost;
    });
  } finally {
    client.release(broken);
  }
}

/** The same on a connection that the caller holds. @param onBroken told why the connection is of no use any more */
export async function transactionOn<Client extends pg.ClientBase, Result>(
  client: Client,
  work: (client: Client) => Promise<Result>,
  onBroken?: (lost: Error) => void,
): Promise<Result> {
  try {
    await client.query('begin isolation level read committed');
    const result = await work(client);
    const { command } = await client.query('commit');
    if (command !== 'COMMIT') throw new Error('the transaction was rolled back where it should have been committed');
    return result;
  } catch (error) {
    await client.query('rollback').catch((lost: unknown) => onBroken?.(lost instanceof Error ? lost : new Error(String(lost))));
    throw error;
  }
}
