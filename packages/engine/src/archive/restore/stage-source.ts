import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { copyLines } from '../../tenants/transfer/copy-rows.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { holdStaged } from '../../tenants/transfer/stage.ts';
import { only } from '../../tenants/transfer/tables.ts';
import type { TenantSource } from '../tenant-source.ts';
import type { AlignedColumn, AlignedTable } from './align.ts';

export interface Staging {
  readonly tenant: string;
  readonly source: TenantSource;
  readonly tables: readonly AlignedTable[];
  readonly signal?: AbortSignal | undefined;
  readonly onTable?: ((progress: { readonly table: string; readonly rows: number }) => void) | undefined;
}

/**
 * Sends the rows of a source into temporary tables, gone with the transaction, in whatever pieces they come: nothing but a piece is in memory.
 * A table whose columns have changed is read as text, with the columns of the source, and converted; each value must come back from its new type
 * as what it was.
 *
 * @throws PartywallError archive_damaged (other rows than stated), restore_refused (rows of another tenant, doubled keys, values that cannot be
 * converted), and what the source throws
 */
export async function stageSource(client: pg.ClientBase, { tenant, source, tables, signal, onTable }: Staging): Promise<StagedTable[]> {
  const staged: StagedTable[] = [];
  for (const [at, table] of tables.entries()) {
    const rows = asItIs(table) ? await stagePlain(client, { source, table, at }) : await stageConverted(client, { tenant, source, table, at });
    if (rows !== table.source.count) {
      throw new PartywallError(
        'archive_damaged',
        `reading ${table.source.name} of ${source.description}: it gives ${rows} rows and states ${table.source.count}`,
      );
    }
    staged.push({ ...table.live, stage: stageOf(at), rows });
    onTable?.({ table: table.source.name, rows });
    signal?.throwIfAborted();
  }
  const refuse = (problem: string, cause?: unknown): PartywallError =>
    new PartywallError('restore_refused', `reading ${source.description}: ${problem}`, { cause });
  for (const table of staged) await holdStaged(client, table, { tenant, refuse });
  return staged;
}

interface One {
  readonly source: TenantSource;
  readonly table: AlignedTable;
  readonly at: number;
}

function stageOf(at: number): string {
  return `pg_temp.partywall_stage_${at}`;
}

function asItIs({ columns, addsTenant }: AlignedTable): boolean {
  return !addsTenant && columns.every(({ name, type, target }) => target?.name === name && target.type === type);
}

async function stagePlain(client: pg.ClientBase, { source, table: { live, source: from }, at }: One): Promise<number> {
  const columns = from.columns.map(({ name }) => ident(name)).join(', ');
  await client.query(`create temporary table partywall_stage_${at} on commit drop as select ${columns} from ${only(live.relation)} with no data`);
  return copyLines(client, `${stageOf(at)} (${columns})`, source.rows(from)).catch((error: unknown) => {
    throw refusedValue(error, from.name);
  });
}

async function stageConverted(client: pg.ClientBase, { tenant, source, table, at }: One & { readonly tenant: string }): Promise<number> {
  const { live, source: from, columns, addsTenant } = table;
  const raw = `pg_temp.partywall_raw_${at}`;
  await client.query(`create temporary table partywall_raw_${at} (${columns.map((_, index) => `c${index} text`).join(', ')}) on commit drop`);
  const rows = await copyLines(client, raw, source.rows(from)).catch((error: unknown) => {
    throw refusedValue(error, from.name);
  });
  const problems: string[] = [];
  for (const [index, column] of columns.entries()) {
    const problem = await lost(client, raw, `c${index}`, column);
    if (problem !== undefined) problems.push(`${from.name}.${column.name}: ${problem}`);
  }
  if (problems.length > 0) throw new PartywallError('restore_refused', `converting ${source.description}: ${problems[0]}`, { details: problems });
  const taken = columns.flatMap(({ target }, index) => (target ? [{ name: target.name, value: `c${index}::${target.type}` }] : []));
  if (addsTenant) taken.push({ name: live.tenantColumn, value: literal(tenant) });
  const names = taken.map(({ name }) => ident(name)).join(', ');
  await client.query(`create temporary table partywall_stage_${at} on commit drop as select ${names} from ${only(live.relation)} with no data`);
  await client.query(`insert into ${stageOf(at)} (${names}) select ${taken.map(({ value }) => value).join(', ')} from ${raw}`).catch((error: unknown) => {
    throw refusedValue(error, from.name);
  });
  await client.query(`drop table ${raw}`);
  return rows;
}

/** Why values of a column would lose something in their new type; undefined where none does. `format` writes a value as COPY does. */
async function lost(client: pg.ClientBase, raw: string, name: string, { type, target }: AlignedColumn): Promise<string | undefined> {
  if (!target || target.type === type) return undefined;
  // A type that is gone cannot be gone back to; then the text itself has to be the same. What names a type to the server is nothing but a type.
  const { rows: known } = await client.query<{ known: boolean }>('select to_regtype($1) is not null as known', [type]);
  const there = `${name}::${target.type}`;
  const back = known[0]?.known ? `(${there})::${type}` : there;
  await client.query('savepoint conversion');
  try {
    const { rowCount } = await client.query(
      `select from ${raw} where ${name} is not null and pg_catalog.format('%s', ${back}) is distinct from ${name} limit 1`,
    );
    await client.query('release savepoint conversion');
    return rowCount === 0 ? undefined : `some values would not be the same as ${target.type}, where they were ${type}`;
  } catch (error) {
    const state = sqlState(error);
    if (state === undefined || !/^(?:22|23|42)/.test(state)) throw error;
    await client.query('rollback to savepoint conversion');
    return `${type} cannot become ${target.type} (SQLSTATE ${state})`;
  }
}

/** The server's words name the value; where it is has to do. */
function refusedValue(error: unknown, table: string): unknown {
  const state = sqlState(error);
  if (state === undefined || !/^(?:22|23|42)/.test(state)) return error;
  return new PartywallError('restore_refused', `staging ${table}: the database does not take a value (SQLSTATE ${state})`, { cause: error });
}
