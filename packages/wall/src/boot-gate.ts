import type pg from 'pg';
import { WallError, WallNotHeldError } from './errors.ts';
import type { Sealer } from './seal/sealer.ts';

/**
 * Before a pool hands out its first connection, it asks the database, as the role it has connected as, whether the wall binds that
 * role. A wall that does not hold looks exactly like one that does until somebody reads another tenant's rows.
 *
 * A role that fails is asked again by the next connection: a repaired database needs no restart. Once passed, the gate stays
 * open; what changes later is for `partywall verify`.
 */
export class BootGate {
  readonly #sealer: Sealer | undefined;
  #open = false;

  /** @param sealer of a pool with keys; the gate chooses the one that the database has */
  constructor(sealer?: Sealer) {
    this.#sealer = sealer;
  }

  /** Resolves when the wall holds for the client's role, else rejects with `WallNotHeldError`. */
  async pass(client: pg.ClientBase): Promise<void> {
    if (this.#open) return;
    try {
      await check(client, this.#sealer);
    } catch (cause) {
      if (cause instanceof WallError) throw cause;
      throw new WallNotHeldError({ message: `checking the wall before handing out a connection: ${cause instanceof Error ? cause.message : cause}`, cause });
    }
    this.#open = true;
  }
}

async function check(client: pg.ClientBase, sealer: Sealer | undefined): Promise<void> {
  const role = await one<Role>(client, roleSql);
  const refuse = (reason: string, hint?: string): never => {
    throw new WallNotHeldError({ message: `connecting as role ${JSON.stringify(role.name)}: ${reason}`, ...(hint !== undefined && { hint }) });
  };
  if (role.superuser) refuse('it, or the role it logged in as, is a superuser, whom no policy binds');
  if (role.bypass) refuse('it, or the role it logged in as, has BYPASSRLS');
  if (role.reaches !== null) refuse(`it can SET ROLE to ${JSON.stringify(role.reaches)}, whom no policy binds`, 'revoke that membership');
  if (role.row_security !== 'on')
    refuse(`row_security is ${role.row_security} in its sessions`, 'reset that default of the role, the database or the connection');
  if (role.standing_tenant !== null) {
    refuse(
      `its sessions begin inside tenant ${JSON.stringify(role.standing_tenant)}`,
      'reset partywall.tenant_id on the role, the database and the connection string',
    );
  }
  if (role.conforming_strings !== 'on') refuse('standard_conforming_strings is off, so the wall cannot tell where a string ends', 'set it on');
  if (!role.installed) refuse('schema partywall is not installed in this database', 'run `partywall apply --phase expand`');
  if (!role.admitted) refuse('it may not execute the functions of schema partywall', 'run `partywall apply`, which grants them to the app role of the model');

  const { facts } = await one<{ facts: Facts }>(client, 'select partywall.boot_facts() as facts');
  if (facts.protected && role.standing_context !== null) {
    refuse('its sessions begin inside a tenant: backtrace_functions is set', 'reset backtrace_functions on the server, the database and the role');
  }
  if (facts.sealed && !sealer) {
    refuse('the database is sealed, and the pool has no key', 'pass `seal: process.env.PARTYWALL_SEAL_KEY` to the pool: docs/guide/sealed-context.md');
  }
  if (sealer ? !role.enters_sealed : !role.enters) {
    refuse('it may not execute the functions of schema partywall', 'run `partywall apply`, which grants them to the app role of the model');
  }
  if (sealer && !sealer.choose(facts.seal_keys ?? [])) {
    const known = facts.seal_keys?.length ? `only ${facts.seal_keys.join(', ')}` : 'none';
    refuse(`the pool has key ${sealer.ids.join(', ')} of the seal, and the database ${known}`, '`partywall seal add --key-file` gives the database a key');
  }
  const tables = facts.walled_tables ?? [];
  if (facts.phase !== 'expand' && tables.length === 0) refuse('no table has been walled in this database', 'run `partywall apply`');
  const found = await client.query<Table>(tablesSql, [JSON.stringify(tables)]);
  for (const table of found.rows) {
    const name = `${table.schema}.${table.name}`;
    if (table.owned)
      refuse(`it owns table ${name}, or is a member of its owner, and so can take the wall down`, 'give the table to the owner role of the model');
    // Before contract no table forces its policies: the role is right already, the tables follow.
    if (!table.active && facts.phase !== 'expand') refuse(`row level security does not bind it on table ${name}`, 'run `partywall verify`');
  }
}

interface Facts {
  readonly phase: string | null;
  readonly walled_tables: readonly { schema: string; name: string }[] | null;
  readonly protected?: boolean;
  readonly sealed?: boolean;
  /** Numbers of the keys whose seals the database takes. */
  readonly seal_keys?: readonly number[];
}

interface Table {
  readonly schema: string;
  readonly name: string;
  readonly active: boolean;
  readonly owned: boolean;
}

interface Role {
  readonly name: string;
  readonly superuser: boolean;
  readonly bypass: boolean;
  readonly reaches: string | null;
  readonly row_security: string;
  readonly standing_tenant: string | null;
  readonly standing_context: string | null;
  readonly conforming_strings: string;
  readonly installed: boolean;
  readonly admitted: boolean;
  readonly enters: boolean;
  readonly enters_sealed: boolean;
}

const mayExecute = (
  names: string,
  count: number,
): string => `(select count(*) = ${count} from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'partywall' and p.proname in (${names})
      and pg_catalog.has_schema_privilege(n.oid, 'USAGE') and pg_catalog.has_function_privilege(p.oid, 'EXECUTE'))`;

/**
 * Both users count: RESET ROLE goes back to the one that logged in. From 16 on, membership alone does not allow SET ROLE; inheriting a
 * superuser's membership gives no attribute, so SET is what matters there.
 */
const roleSql = `select current_user::text as name,
  bool_or(r.rolsuper) as superuser,
  bool_or(r.rolbypassrls) as bypass,
  (select min(other.rolname)::text from pg_catalog.pg_roles other
    where (other.rolsuper or other.rolbypassrls) and other.rolname not in (current_user, session_user)
      and pg_catalog.pg_has_role(session_user, other.oid, case when pg_catalog.current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end)
  ) as reaches,
  pg_catalog.current_setting('row_security') as row_security,
  nullif(pg_catalog.current_setting('partywall.tenant_id', true), '') as standing_tenant,
  nullif(pg_catalog.current_setting('backtrace_functions', true), '') as standing_context,
  pg_catalog.current_setting('standard_conforming_strings') as conforming_strings,
  exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'partywall' and p.proname = 'enter_since') as installed,
  ${mayExecute("'tenant_id', 'boot_facts'", 2)} as admitted,
  ${mayExecute("'enter_since', 'enter_unit'", 2)} as enters,
  ${mayExecute("'enter_sealed'", 1)} as enters_sealed
from pg_catalog.pg_roles r where r.rolname in (current_user, session_user)`;

/** By the catalog and not by `regclass`, which needs USAGE on the schema. A table that is gone has no rows to wall. */
const tablesSql = `select n.nspname as schema, c.relname as name,
  pg_catalog.row_security_active(c.oid) as active,
  pg_catalog.pg_has_role(session_user, c.relowner, 'MEMBER') as owned
from pg_catalog.jsonb_to_recordset($1::jsonb) as walled (schema text, name text)
join pg_catalog.pg_namespace n on n.nspname = walled.schema
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = walled.name
order by 1, 2`;

async function one<Row extends pg.QueryResultRow>(client: pg.ClientBase, text: string): Promise<Row> {
  const { rows } = await client.query<Row>(text);
  const [row] = rows;
  if (!row) throw new Error('no answer');
  return row;
}
