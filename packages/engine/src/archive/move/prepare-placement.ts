import type pg from 'pg';
import { connect, describeTarget } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { ident, identList } from '../../db/sql.ts';
import { createSystemDatabase, hasSystemDatabase } from '../../durable/system-database.ts';
import { PartywallError } from '../../errors.ts';
import { quoted, type TableName, tableName } from '../../model/table-name.ts';
import { copyInto, copyRows } from '../../tenants/transfer/copy-rows.ts';
import type { Row } from '../../tenants/transfer/layout.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import { verify } from '../../verify/verify.ts';
import { observingFact } from '../../wall/runtime/rollout-sql.ts';
import { settleRestoredSql } from '../../wall/runtime.ts';
import { type MadeRole, makeRoles, refuseOccupied, refuseUnable } from '../recover/target.ts';
import { runSchema } from '../schema/run-schema.ts';
import { schemaDdl } from '../schema/schema-ddl.ts';
import { type SchemaDdl, schemaFingerprint } from '../schema/schema-document.ts';
import { withoutRollout } from '../schema/without-rollout.ts';

/**
 * What a preparation remembers while it runs, in the database that it fills: an item of the schema and its record are one transaction, so that a kill
 * anywhere repeats none. The schema goes at the end.
 */
const progressSchema = 'partywall_prepare';
/** What the wall and the control plane begin with beside their tables: facts of the wall, versions, plans, quotas and rules. No tenant is in them. */
const ownTables = ['facts', 'migrations', 'plans', 'quotas', 'alert_rules'].map((name) =>
  tableName(name === 'facts' ? 'partywall' : 'partywall_control', name),
);
/** What would be untrue there: the modes of this database stay with it. */
const leftOut: Readonly<Record<string, string>> = { 'partywall.facts': `t.name <> '${observingFact}'` };
const listedMax = 20;

export interface PrepareInput {
  /** Connection string of the placement's database, as a superuser. */
  readonly into: string;
  /** More tables whose rows come along: the one in which the application notes its migrations. */
  readonly also?: readonly TableName[] | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface PrepareOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly step: string; readonly done: number; readonly of: number }) => void) | undefined;
}

export interface PrepareReport {
  readonly target: string;
  /** Whether the target was empty, held the beginning of a preparation, or the same schema already. */
  readonly found: 'empty' | 'begun' | 'same';
  readonly applied: boolean;
  /** Statements of the schema that are made, and how many of them there are. */
  readonly statements: number;
  /** Tables whose rows come along, and how many came. */
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
  readonly roles: readonly MadeRole[];
  readonly systemDatabase: boolean;
  /** What the schema has and no statement makes, a line each. */
  readonly notes: readonly string[];
  /** What the wall lacks there by its static rules, a line each; null: not looked at. */
  readonly findings: readonly string[] | null;
}

/**
 * Makes a database ready for tenants that move there: the schema of this one with wall and control plane, the rows of shared tables, plans and rules, the
 * system database. No tenant's row comes along. A database that has that schema already gets what is missing of the rows; killed anywhere, the same call
 * goes on.
 *
 * @throws PartywallError move_refused (the database holds something else; the list names it), restore_refused, permission_missing, and what `connect` throws
 */
export async function preparePlacement(operation: Operation, input: PrepareInput, options: PrepareOptions = {}): Promise<PrepareReport> {
  const { pool, model } = operation.database;
  const client = await connect(input.into, { purpose: 'prepare a placement' });
  const live = await pool.connect();
  try {
    // A placement has modes of its own, and begins without.
    const schema = withoutRollout(await schemaDdl(live));
    const found = await lookAt(client, schema, describeTarget(input.into));
    const tables = tablesOf(operation, input);
    await live.query('begin isolation level repeatable read, read only');
    await pinTexts(live);
    const base = { target: describeTarget(input.into), found, statements: schema.items.length, notes: schema.unsupported };
    if (input.dryRun) {
      if (found === 'empty') await refuseUnable(client, schema);
      const counts = await countRows(live, tables);
      return { ...base, applied: false, tables: counts, roles: [], systemDatabase: await hasSystemDatabase(client), findings: null };
    }
    const roles = found === 'same' ? [] : await makeAll(client, live, { schema, tables, found, options });
    const copied = found === 'same' ? await fillAll(client, live, tables) : await countRows(client, tables);
    await client.query(settleRestoredSql);
    await createSystemDatabase(client, model.roles.service);
    const { findings } = await verify({ model, adminUrl: input.into, staticOnly: true });
    return {
      ...base,
      applied: true,
      tables: copied,
      roles,
      systemDatabase: true,
      findings: findings.map(({ rule, target, message }) => `${rule} ${target}: ${message}`),
    };
  } finally {
    // In the middle of a COPY there is nothing else to do with it.
    live.release(true);
    await client.end();
  }
}

/** @throws PartywallError move_refused */
async function lookAt(client: pg.ClientBase, schema: SchemaDdl, target: string): Promise<PrepareReport['found']> {
  const { rows } = await client.query<{ locked: boolean; begun: boolean }>(
    `select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('partywall:prepare', 0)) as locked, pg_catalog.to_regclass($1) is not null as begun`,
    [`${progressSchema}.done`],
  );
  if (!rows[0]?.locked) throw new PartywallError('move_refused', `preparing ${target}: another preparation of it is running`);
  if (rows[0].begun) return 'begun';
  const there = withoutRollout(await schemaDdl(client));
  if (schemaFingerprint(there) === schemaFingerprint(schema)) return 'same';
  try {
    await refuseOccupied(client);
    return 'empty';
  } catch (cause) {
    if (!(cause instanceof PartywallError) || cause.code !== 'restore_refused') throw cause;
    throw new PartywallError('move_refused', `preparing ${target}: it holds something, and not the schema of this database`, {
      cause,
      details: difference(schema, there),
      hint: 'name an empty database, or bring that one to the same schema by the application’s migrations',
    });
  }
}

function difference(wanted: SchemaDdl, there: SchemaDdl): string[] {
  const text = ({ items }: SchemaDdl): Map<string, string> => new Map(items.map(({ id, statements }) => [id, statements.join(';\n')]));
  const [left, right] = [text(wanted), text(there)];
  const lines = [
    ...[...left].flatMap(([id, statements]) => (right.get(id) === statements ? [] : [right.has(id) ? `${id} is another one there` : `${id} is not there`])),
    ...[...right.keys()].flatMap((id) => (left.has(id) ? [] : [`${id} is there alone`])),
  ];
  return [...lines.slice(0, listedMax), ...(lines.length > listedMax ? [`and ${lines.length - listedMax} more`] : [])];
}

/** @throws PartywallError move_refused */
function tablesOf({ database: { model } }: Operation, { also = [] }: PrepareInput): TableName[] {
  const tenants = also.find((table) => model.tables.get(table)?.scope === 'scoped' || table === model.tenant.table || table.startsWith('partywall'));
  if (tenants !== undefined) throw new PartywallError('move_refused', `preparing a placement: rows of ${tenants} are of tenants, and come with them`);
  const shared = [...model.tables].flatMap(([table, rule]) => (rule.scope === 'shared' ? [table] : []));
  return [...ownTables, ...new Set([...shared, ...also])];
}

interface Making {
  readonly schema: SchemaDdl;
  readonly tables: readonly TableName[];
  readonly found: 'empty' | 'begun';
  readonly options: PrepareOptions;
}

async function makeAll(client: pg.Client, live: pg.ClientBase, { schema, tables, found, options }: Making): Promise<MadeRole[]> {
  if (found === 'empty') {
    await refuseUnable(client, schema);
    await client.query(`begin; create schema ${progressSchema}; create table ${progressSchema}.done (item text primary key); commit`);
  }
  const roles = await makeRoles(client, schema);
  const { rows } = await client.query<{ item: string }>(`select item from ${progressSchema}.done`);
  const done = new Set(rows.map(({ item }) => item));
  const remember = async (item: string): Promise<void> => {
    await client.query(`insert into ${progressSchema}.done values ($1)`, [item]);
  };
  const make = (phase: 'before' | 'after'): Promise<void> =>
    runSchema(client, schema, phase, {
      signal: options.signal,
      made: done,
      remember: ({ id }) => remember(id),
      onProgress: (at, of) => options.onProgress?.({ step: phase === 'before' ? 'making the tables' : 'making keys, indexes and rights', done: at, of }),
    });
  await make('before');
  for (const [at, table] of tables.entries()) {
    options.signal?.throwIfAborted();
    const step = `rows of ${table}`;
    if (!done.has(step)) {
      await within(client, async () => {
        await copyTable(client, live, table);
        await remember(step);
      });
    }
    options.onProgress?.({ step: 'copying shared rows', done: at + 1, of: tables.length });
  }
  await make('after');
  await client.query(`drop schema ${progressSchema} cascade`);
  return roles;
}

/** Where the schema is there: a table of the application that has rows keeps them, and of plans and rules those come that are missing. */
async function fillAll(client: pg.Client, live: pg.ClientBase, tables: readonly TableName[]): Promise<PrepareReport['tables']> {
  const filled: { table: string; rows: number }[] = [];
  for (const table of tables) {
    await within(client, async () => {
      const { rowCount } = await client.query(`select from ${quoted(table)} limit 1`);
      if (rowCount === 0) filled.push({ table, rows: await copyTable(client, live, table) });
      else if (ownTables.includes(table)) filled.push({ table, rows: await addMissing(client, live, table) });
      else filled.push({ table, rows: 0 });
    });
  }
  return filled;
}

/** Rows of an empty table; its sequences go on beyond them. */
async function copyTable(client: pg.Client, live: pg.ClientBase, table: TableName): Promise<number> {
  const columns = await storedColumns(live, table);
  const rows = await copyInto(client, `${quoted(table)} (${columns})`, rowsOf(live, table, columns));
  const { rows: sequences } = await client.query<{ sequence: string; column: string }>(
    `select d.objid::regclass::text as sequence, a.attname as column from pg_catalog.pg_depend d
join pg_catalog.pg_sequence s on s.seqrelid = d.objid and s.seqincrement > 0 join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where d.classid = 'pg_catalog.pg_class'::regclass and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = $1::regclass and d.deptype in ('a', 'i')`,
    [quoted(table)],
  );
  for (const { sequence, column } of sequences) {
    await client.query(`select pg_catalog.setval($1::regclass, max(t.${ident(column)})) from ${quoted(table)} t having max(t.${ident(column)}) > 0`, [
      sequence,
    ]);
  }
  return rows;
}

async function addMissing(client: pg.Client, live: pg.ClientBase, table: TableName): Promise<number> {
  const columns = await storedColumns(live, table);
  await client.query(`create temporary table partywall_missing on commit drop as select ${columns} from ${quoted(table)} with no data`);
  await copyInto(client, `pg_temp.partywall_missing (${columns})`, rowsOf(live, table, columns));
  const { rowCount } = await client.query(`insert into ${quoted(table)} (${columns}) select ${columns} from pg_temp.partywall_missing on conflict do nothing`);
  return rowCount ?? 0;
}

async function* rowsOf(live: pg.ClientBase, table: TableName, columns: string): AsyncGenerator<Row> {
  for await (const batch of copyRows(live, `select ${columns} from ${quoted(table)} t where ${leftOut[table] ?? true}`)) yield* batch;
}

async function storedColumns(live: pg.ClientBase, table: TableName): Promise<string> {
  const { rows } = await live.query<{ name: string }>(
    `select a.attname as name from pg_catalog.pg_attribute a where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum`,
    [quoted(table)],
  );
  return identList(rows.map(({ name }) => name));
}

async function countRows(client: pg.ClientBase, tables: readonly TableName[]): Promise<PrepareReport['tables']> {
  const counts: { table: string; rows: number }[] = [];
  for (const table of tables) {
    const { rows } = await client.query<{ count: string }>(`select count(*) as count from ${quoted(table)} t where ${leftOut[table] ?? true}`);
    counts.push({ table, rows: Number(rows[0]?.count ?? 0) });
  }
  return counts;
}

async function within(client: pg.Client, work: () => Promise<void>): Promise<void> {
  await client.query('begin');
  try {
    await pinTexts(client);
    await work();
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}
