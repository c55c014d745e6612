import type pg from 'pg';
import { auditTables } from '../audit/records.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import { countingSql, refuseVirtualColumns } from '../metering/counting-sql.ts';
import { countNewQuotas } from '../metering/quotas-recount.ts';
import { maySeeSessions, usageSql } from '../metering/usage-sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { directorySql } from '../tenants/directory-sql.ts';
import { lifecycleSql, mayEndSessions } from '../tenants/lifecycle-sql.ts';
import { boundSql } from '../tenants/transfer/bound.ts';
import { restoringSql } from '../tenants/transfer/restoring-sql.ts';
import { type Migration, readMigrations } from './migrations.ts';
import { makeOperator, operatorViewsSql } from './operator-views.ts';
import { giveToRestorer, makeRestorer } from './restorer-role.ts';

/**
 * The control plane's own schemas: `partywall_control` and `partywall_people` (sign-in), private to the owner and the service role, and the
 * views that operators read in schema `partywall`. Numbered migrations first, then what is derived from the model, which is written anew
 * each time. Installing twenty times at once is safe.
 */
export interface InstallReport {
  /** Migrations that this run applied; none on a finished database. */
  readonly applied: readonly Pick<Migration, 'number' | 'name'>[];
}

const lock = "select pg_advisory_xact_lock(hashtextextended('partywall:control', 0))";

const ledger = [
  'create schema if not exists partywall_control',
  'create schema if not exists partywall_people',
  `create table if not exists partywall_control.migrations (
  number integer primary key,
  name text not null,
  hash text not null,
  applied_at timestamptz not null default now()
)`,
];

/**
 * Brings the control plane's schema up to this version, in one transaction.
 *
 * @param client a role that may act as the one that raised the wall, which owns what is made here too
 * @throws PartywallError phase_refused (no wall yet, or a newer or another version is installed), model_invalid (a quota that cannot be counted)
 */
export async function installControl(client: pg.ClientBase, model: TenancyModel): Promise<InstallReport> {
  const migrations = await readMigrations();
  await client.query('begin');
  try {
    await client.query(lock);
    const { owner, keyType } = await raisedWall(client);
    await client.query(mayEndSessions(owner));
    await client.query(maySeeSessions(model));
    await makeOperator(client, model);
    await makeRestorer(client, model);
    await client.query(`set local role ${ident(owner)}`);
    await client.query("set local search_path to ''");
    for (const statement of ledger) await client.query(statement);
    const missing = await missingMigrations(client, migrations);
    for (const { number, name, sql, hash } of missing) {
      await client.query(sql);
      await client.query('insert into partywall_control.migrations (number, name, hash) values ($1, $2, $3)', [number, name, hash]);
    }
    await refuseVirtualColumns(client, model);
    for (const statement of [...derivedSql(model), ...grants(model), ...operatorViewsSql(model, keyType)]) await client.query(statement);
    await client.query('set local role none');
    await giveToRestorer(client, model, owner);
    await client.query('commit');
    await countNewQuotas(client, owner);
    return { applied: missing.map(({ number, name }) => ({ number, name })) };
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

/** What follows from the model, in the order it is run; every statement repeatable. */
function derivedSql(model: TenancyModel): string[] {
  return [...directorySql(model), ...lifecycleSql(model), ...countingSql(model), ...usageSql(model), ...restoringSql(model), ...boundSql(model)];
}

/**
 * Refuses to work on a database whose control plane is missing or of another version.
 *
 * @throws PartywallError control_missing
 */
export async function assertControl(client: pg.ClientBase | pg.Pool): Promise<void> {
  const missing = await pendingMigrations(client);
  if (missing.length === 0) return;
  throw new PartywallError('control_missing', `looking for the control plane: ${missing.length} of its migrations are not applied`, {
    details: missing.map(({ number, name }) => `${String(number).padStart(4, '0')}_${name}`),
  });
}

/**
 * Migrations that this version has and the database has not.
 *
 * @throws PartywallError control_foreign
 */
export async function pendingMigrations(client: pg.ClientBase | pg.Pool): Promise<readonly Migration[]> {
  const { rows } = await client.query<{ there: boolean }>("select to_regclass('partywall_control.migrations') is not null as there");
  const migrations = await readMigrations();
  return rows[0]?.there ? missingMigrations(client, migrations) : migrations;
}

async function missingMigrations(client: pg.ClientBase | pg.Pool, migrations: readonly Migration[]): Promise<Migration[]> {
  const { rows } = await client.query<{ number: number; name: string; hash: string }>('select number, name, hash from partywall_control.migrations');
  const applied = new Map(rows.map((row) => [row.number, row]));
  const foreign = rows.filter(({ number, hash }) => migrations.find((known) => known.number === number)?.hash !== hash);
  if (foreign.length > 0) {
    throw new PartywallError('control_foreign', 'comparing the control plane with this version: another version installed parts of it', {
      details: foreign.map(({ number, name }) => `${String(number).padStart(4, '0')}_${name}`),
    });
  }
  return migrations.filter(({ number }) => !applied.has(number));
}

/**
 * The role that raised the wall: its functions look past every policy, and so must those of the control plane; and the type of a tenant's key, as
 * `format_type` prints it.
 */
async function raisedWall(client: pg.ClientBase): Promise<{ owner: string; keyType: string }> {
  const { rows } = await client.query<{ owner: string; keyType: string }>(
    `select pg_catalog.pg_get_userbyid(c.relowner) as owner, pg_catalog.format_type(a.atttypid, a.atttypmod) as "keyType"
from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' where c.oid = to_regclass('partywall.registry')`,
  );
  if (rows[0]) return rows[0];
  throw new PartywallError('phase_refused', 'installing the control plane: this database has no wall', { hint: 'run `partywall apply --phase expand` first' });
}

/** The service role works on the tables; nobody else sees them. What operators read are the views of schema partywall. */
function grants(model: TenancyModel): string[] {
  const service = ident(model.roles.service);
  return ['partywall_control', 'partywall_people'].flatMap((schema) => [
    `revoke all on schema ${schema} from public`,
    `revoke all on all functions in schema ${schema} from public`,
    `grant usage on schema ${schema} to ${service}`,
    `grant select, insert, update, delete on all tables in schema ${schema} to ${service}`,
    `grant usage, select, update on all sequences in schema ${schema} to ${service}`,
    `grant execute on all functions in schema ${schema} to ${service}`,
    // The audit log changes through its functions alone: whoever holds the service's connection can add to a chain, not rewrite it.
    ...(schema === 'partywall_control' ? auditTables.map((table) => `revoke insert, update, delete on ${table} from ${service}`) : []),
  ]);
}
