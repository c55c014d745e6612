import { createHash } from 'node:crypto';
import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { ident } from '../db/sql.ts';

/**
 * Where the steps of long operations are remembered: a database of its own beside the application's, so that it is left out of its backups and
 * a restore does not bring old operations back. It belongs to the service role, who keeps its tables up to date.
 */
const suffix = '_partywall';
const nameBytesMax = 63;

/** Name of the system database of a database; a long name is cut and told apart by its hash. */
export function systemDatabaseName(database: string): string {
  const name = `${database}${suffix}`;
  if (Buffer.byteLength(name) <= nameBytesMax) return name;
  const hash = createHash('sha256').update(database).digest('hex').slice(0, 8);
  let kept = database;
  while (Buffer.byteLength(`${kept}_${hash}${suffix}`) > nameBytesMax) kept = kept.slice(0, -1);
  return `${kept.toWellFormed()}_${hash}${suffix}`;
}

/** Connection string of the system database, from one of the database itself. */
export function systemDatabaseUrl(url: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${encodeURIComponent(systemDatabaseName(decodeURIComponent(parsed.pathname.slice(1))))}`;
  return parsed.toString();
}

/** Whether the system database of the connected one is there. */
export async function hasSystemDatabase(client: pg.ClientBase): Promise<boolean> {
  const { rowCount } = await client.query('select from pg_catalog.pg_database where datname = $1', [systemDatabaseName(await currentDatabase(client))]);
  return rowCount !== 0;
}

/**
 * Makes the system database of the connected one, for the service role and nobody else. Returns whether it was missing; many may try at once.
 *
 * @param client a role that may create databases and give them to the service role, outside a transaction
 */
export async function createSystemDatabase(client: pg.ClientBase, service: string): Promise<boolean> {
  if (await hasSystemDatabase(client)) return false;
  const name = ident(systemDatabaseName(await currentDatabase(client)));
  try {
    await client.query(`create database ${name} owner ${ident(service)}`);
  } catch (error) {
    // Another run has made it meanwhile; the second code is of two that insert its row at the same time.
    if (!['42P04', '23505'].includes(sqlState(error) ?? '')) throw error;
    return false;
  }
  await client.query(`revoke all on database ${name} from public`);
  return true;
}

async function currentDatabase(client: pg.ClientBase): Promise<string> {
  const { rows } = await client.query<{ name: string }>('select pg_catalog.current_database() as name');
  return rows[0]?.name ?? '';
}
