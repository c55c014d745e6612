import type pg from 'pg';
import { dollarQuote, ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { recoveredPrefix } from '../ledger/recovered.ts';
import { isFree, isOurs } from '../schema/draft.ts';
import type { SchemaDdl } from '../schema/schema-document.ts';
import type { RecoveryPlan } from './plan-recovery.ts';

/**
 * What a restore remembers while it runs, in a schema of its own in the database that it fills: a step and its record are one transaction, so that a
 * kill anywhere repeats no step and leaves none out. The schema goes at the end.
 */
export const progressSchema = 'partywall_recover';

export interface Target {
  /** Steps that have ended: ids of schema items, refs of subjects, names of steps. */
  readonly done: ReadonlySet<string>;
  /** Whether an earlier run began it. */
  readonly resumed: boolean;
  /** An earlier run ended it, and its tenants wait to be reconciled. */
  readonly finished: boolean;
}

/**
 * Takes hold of the database: it is empty, or holds the beginning of the same restore.
 *
 * @throws PartywallError restore_refused (not empty, another restore, an older server, an extension that it does not have), permission_missing
 */
export async function takeTarget(client: pg.ClientBase, plan: RecoveryPlan): Promise<Target> {
  const { rows } = await client.query<{ locked: boolean }>(
    "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('partywall:recover', 0)) as locked",
  );
  if (!rows[0]?.locked) throw new PartywallError('restore_refused', 'restoring a database: another restore into it is running');
  const begun = await beginning(client);
  const want = `${plan.backup.manifest.id} ${plan.backup.sha256} ${plan.tiers.map(({ tier }) => tier).join(',')}`;
  if (begun !== undefined && begun !== want) {
    throw new PartywallError(
      'restore_refused',
      `restoring backup ${plan.backup.manifest.id}: the database holds the beginning of another restore, ${begun.split(' ', 1)[0]}`,
      {
        hint: 'run that one again, or drop the database and begin with an empty one',
      },
    );
  }
  if (begun === undefined && (await isFinished(client, plan.backup.manifest.id))) return { done: new Set(), resumed: true, finished: true };
  if (begun === undefined) {
    await refuseOccupied(client);
    await refuseUnable(client, plan.schema);
    await client.query('begin');
    await client.query(`create schema ${progressSchema}; create table ${progressSchema}.run (what text not null);
create table ${progressSchema}.done (item text primary key, counts jsonb not null default '{}', at timestamptz not null default clock_timestamp())`);
    await client.query(`insert into ${progressSchema}.run values ($1)`, [want]);
    await client.query('commit');
    return { done: new Set(), resumed: false, finished: false };
  }
  const done = await client.query<{ item: string }>(`select item from ${progressSchema}.done`);
  return { done: new Set(done.rows.map(({ item }) => item)), resumed: true, finished: false };
}

/** Records a step in the transaction that makes it. */
export async function remember(client: pg.ClientBase, item: string, counts: Readonly<Record<string, number>> = {}): Promise<void> {
  await client.query(`insert into ${progressSchema}.done (item, counts) values ($1, $2)`, [item, JSON.stringify(counts)]);
}

/** A run that was cut off after its last step left nothing to do but to say so. */
async function isFinished(client: pg.ClientBase, backup: string): Promise<boolean> {
  const { rows } = await client.query<{ there: boolean }>("select pg_catalog.to_regclass('partywall.registry') is not null as there");
  if (!rows[0]?.there) return false;
  const { rowCount } = await client.query('select from partywall.registry g where starts_with(g.reason, $1) limit 1', [`${recoveredPrefix}${backup},`]);
  return rowCount === 1;
}

async function beginning(client: pg.ClientBase): Promise<string | undefined> {
  const { rows } = await client.query<{ there: boolean }>('select pg_catalog.to_regclass($1) is not null as there', [`${progressSchema}.run`]);
  if (!rows[0]?.there) return undefined;
  const run = await client.query<{ what: string }>(`select what from ${progressSchema}.run`);
  return run.rows[0]?.what;
}

/** Only an empty database: whatever is there would be mixed with what comes. */
export async function refuseOccupied(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ what: string }>(
    `select 'schema ' || quote_ident(n.nspname) as what from pg_catalog.pg_namespace n where n.nspname <> 'public' and ${isOurs('n')} and ${isFree('pg_namespace', 'n.oid')}
union all select c.oid::regclass::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'public' and ${isFree('pg_class', 'c.oid')}
union all select p.oid::regprocedure::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname = 'public' and ${isFree('pg_proc', 'p.oid')}
union all select 'type ' || t.oid::regtype from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
  where n.nspname = 'public' and t.typtype in ('e', 'd') and ${isFree('pg_type', 't.oid')}
union all select 'large object ' || l.oid from pg_catalog.pg_largeobject_metadata l limit 20`,
  );
  if (rows.length === 0) return;
  throw new PartywallError('restore_refused', `restoring a database: the target is not empty, it holds ${rows[0]?.what}`, {
    details: rows.map(({ what }) => what),
    hint: 'create an empty database and name that one',
  });
}

/** @throws PartywallError restore_refused (an extension that the server does not have, an older server), permission_missing */
export async function refuseUnable(client: pg.ClientBase, schema: SchemaDdl): Promise<void> {
  const { rows } = await client.query<{ major: number; superuser: boolean; unbound: boolean; createRole: boolean; available: string[]; roles: string[] }>(
    `select current_setting('server_version_num')::integer / 10000 as major, r.rolsuper as superuser, r.rolsuper or r.rolbypassrls as unbound,
  r.rolsuper or r.rolcreaterole as "createRole", array(select name::text from pg_catalog.pg_available_extensions) as available,
  array(select rolname::text from pg_catalog.pg_roles) as roles
from pg_catalog.pg_roles r where r.rolname = current_user`,
  );
  const [server] = rows;
  if (!server) throw new Error('looking at the target: no role is connected');
  const missing = schema.extensions.filter(({ name }) => !server.available.includes(name));
  if (missing.length > 0) {
    throw new PartywallError('restore_refused', `restoring a database: the server does not have ${missing.map(({ name }) => `extension ${name}`).join(', ')}`, {
      details: missing.map(({ name, version }) => `${name} ${version}`),
      hint: 'install what is listed on the server, then run again',
    });
  }
  if (server.major < schema.major) {
    throw new PartywallError('restore_refused', `restoring a database of PostgreSQL ${schema.major}: the target is PostgreSQL ${server.major}`, {
      hint: 'restore into the same version, or a newer one',
    });
  }
  if (!server.unbound) throw new PartywallError('permission_missing', 'restoring a database: the connected role is bound by row level security');
  const absent = schema.roles.filter(({ name }) => !server.roles.includes(name));
  if (absent.length > 0 && !server.createRole) {
    throw new PartywallError('permission_missing', `restoring a database: ${absent.length} roles are missing, and the connected one may not make them`, {
      details: absent.map(({ name }) => name),
    });
  }
}

export interface MadeRole {
  readonly name: string;
  /** It could log in where the backup was made; here it cannot before somebody gives it a password. */
  readonly login: boolean;
  /** It was a superuser, and is one that policies do not bind. */
  readonly superuser: boolean;
}

/** Makes the roles that the schema names and the server has not: none can log in. Roles are the cluster's, so they are made whatever becomes of the rest. */
export async function makeRoles(client: pg.ClientBase, { roles }: SchemaDdl): Promise<MadeRole[]> {
  const { rows } = await client.query<{ name: string }>('select r.rolname as name from pg_catalog.pg_roles r');
  const there = new Set(rows.map(({ name }) => name));
  const missing = roles.filter(({ name }) => !there.has(name));
  for (const { name, unbound } of missing) {
    const create = `create role ${ident(name)} nologin${unbound ? ' bypassrls' : ''}`;
    await client.query(`do ${dollarQuote(`begin ${create}; exception when duplicate_object or unique_violation then null; end`)}`);
  }
  const known = new Set([...there, ...missing.map(({ name }) => name)]);
  for (const { name, memberOf } of missing) {
    for (const role of memberOf.filter((each) => known.has(each))) await client.query(`grant ${ident(role)} to ${ident(name)}`);
  }
  return missing.map(({ name, login, superuser }) => ({ name, login, superuser }));
}
