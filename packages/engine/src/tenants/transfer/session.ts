import type pg from 'pg';
import type { ControlDatabase } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';

/** Exports and restores at once over one pool: each holds a connection for as long as the other side takes. */
const transfersMax = 4;
const running = new WeakMap<pg.Pool, number>();

/**
 * Everything that decides how a value is written as text and read back. `row_security = off` makes a role that a policy binds fail where it
 * would silently get fewer rows.
 */
const settings: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  xmloption: 'content',
  lc_monetary: 'C',
  array_nulls: 'on',
  quote_all_identifiers: 'off',
  search_path: '',
  row_security: 'off',
  transaction_timeout: '0',
  statement_timeout: '0',
  idle_in_transaction_session_timeout: '0',
};

/** Pins the texts of values for the current transaction. A setting that this server's version does not have is none. */
export async function pinTexts(client: pg.ClientBase): Promise<void> {
  await client.query(
    'select set_config(s.name, s.value, true) from unnest($1::text[], $2::text[]) s (name, value) join pg_catalog.pg_settings p on p.name = s.name',
    [Object.keys(settings), Object.values(settings)],
  );
}

/** A connection for work on a whole tenant. */
export interface Transfer {
  readonly client: pg.PoolClient;
  /** Gives the connection back, or ends it where the work did not end well: a COPY may be under way on it. Further calls do nothing. */
  close(well: boolean): void;
}

/** How many there are over the pool. */
export function transfersUnderWay({ pool }: ControlDatabase): number {
  return running.get(pool) ?? 0;
}

/** @throws PartywallError transfers_busy */
export async function openTransfer({ pool }: ControlDatabase): Promise<Transfer> {
  const count = running.get(pool) ?? 0;
  if (count >= transfersMax) throw new PartywallError('transfers_busy', `exporting or restoring a tenant: ${count} are under way`);
  running.set(pool, count + 1);
  const done = (): void => {
    running.set(pool, (running.get(pool) ?? 1) - 1);
  };
  const client = await pool.connect().catch((error: unknown) => {
    done();
    throw error;
  });
  // A connection that is lost while the other side is slow surfaces in the next statement.
  const ignore = (): void => undefined;
  client.on('error', ignore);
  let closed = false;
  return {
    client,
    close: (well) => {
      if (closed) return;
      closed = true;
      if (well) client.off('error', ignore);
      client.release(!well);
      done();
    },
  };
}

/**
 * Runs `work` on a connection for a whole tenant. Where it fails what it began is rolled back, and what the server refused leaves a connection that can be used again.
 *
 * @throws PartywallError transfers_busy, and what `work` throws
 */
export async function inTransfer<Result>(database: ControlDatabase, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
  const { client, close } = await openTransfer(database);
  try {
    const result = await work(client);
    close(true);
    return result;
  } catch (error) {
    // After anything unforeseen a COPY may be under way, behind which a statement would wait.
    const usable =
      error instanceof PartywallError &&
      (await client.query('rollback').then(
        () => true,
        () => false,
      ));
    close(usable);
    throw error;
  }
}

export interface DirectoryEntry {
  readonly name: string;
  readonly status: string;
  readonly plan: string;
  /** Under a legal hold. */
  readonly held: boolean;
}

/** @throws PartywallError tenant_unknown */
export async function directoryEntry(client: pg.ClientBase | pg.Pool, tenant: string): Promise<DirectoryEntry> {
  const { rows } = await client.query<DirectoryEntry>(
    'select name, status, plan, held_at is not null as held from partywall_control.directory where tenant_id = $1',
    [tenant],
  );
  if (!rows[0] || rows[0].status === 'erasing') throw new PartywallError('tenant_unknown', `looking for tenant ${tenant.slice(0, 100)}: there is none`);
  return rows[0];
}
