import { type Catalog, connect, describeTarget, PartywallError, quoted, sqlState, type TenancyModel } from '@partywall/engine';
import type { Connection } from '../database.ts';
import { fail, type Line, pass, skip } from './line.ts';

interface Identity {
  readonly role: string;
  readonly database: string;
  readonly bound: boolean;
  readonly startedAt: string;
}

/** Two connections are to the same server when it started at the same moment, to the microsecond. */
const identitySql = `select current_user::text as role, current_database()::text as database, pg_postmaster_start_time()::text as "startedAt",
  not (select rolsuper or rolbypassrls from pg_catalog.pg_roles where rolname = current_user) as bound`;

/** Whether the application's own connection string leads to this database, as the app role, with row level security active. */
export async function appConnectionLine(appUrl: string | undefined, admin: Connection, catalog: Catalog, model: TenancyModel): Promise<Line> {
  const id = 'app-connection';
  if (!appUrl) return skip(id, "PARTYWALL_APP_URL is not set: the application's own connection was not tried");
  const target = describeTarget(appUrl);
  let client: Connection;
  try {
    client = await connect(appUrl, { purpose: 'doctor' });
  } catch (error) {
    if (error instanceof PartywallError) return fail(id, `PARTYWALL_APP_URL: ${error.message}`, error.hint);
    throw error;
  }
  try {
    const app = await identity(client);
    const own = await identity(admin);
    if (app.startedAt !== own.startedAt || app.database !== own.database) {
      return fail(id, `PARTYWALL_APP_URL leads to ${target}, which is not ${own.database} as DATABASE_URL reaches it`, 'let both lead to one database');
    }
    if (!app.bound) return fail(id, `PARTYWALL_APP_URL connects as ${app.role}, which row level security does not bind`, `connect as ${model.roles.app}`);
    if (app.role !== model.roles.app)
      return fail(id, `PARTYWALL_APP_URL connects as ${app.role}, the model's app role is ${model.roles.app}`, `connect as ${model.roles.app}`);
    if (catalog.runtime?.facts?.['phase'] === 'contract' && (await readsPastPolicies(client, model))) {
      return fail(id, `${app.role} reads ${model.tenant.table} with row level security off`, 'run `partywall diff` for what is missing');
    }
    return pass(id, `${target} is this database, and row level security binds ${app.role}`);
  } finally {
    await client.end();
  }
}

async function identity(client: Connection): Promise<Identity> {
  const { rows } = await client.query<Identity>(identitySql);
  const [row] = rows;
  if (!row) throw new Error('asking a connection who it is: no answer');
  return row;
}

/** With `row_security` off a query fails exactly where a policy would have filtered it. */
async function readsPastPolicies(client: Connection, model: TenancyModel): Promise<boolean> {
  await client.query('begin');
  try {
    await client.query('set local row_security = off');
    await client.query(`select 1 from ${quoted(model.tenant.table)} limit 1`);
    return true;
  } catch (error) {
    if (sqlState(error) === '42501') return false;
    throw error;
  } finally {
    await client.query('rollback');
  }
}
