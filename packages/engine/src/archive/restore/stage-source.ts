import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { copyLines } from '../../tenants/transfer/copy-rows.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { holdStaged } from '../../tenants/transfer/stage.ts';
import { only } from '../../tenants/transfer/tables.ts';
import type { TenantSource } from '../tenant-source.ts';
import type { AlignedTable } from './align.ts';

export interface Staging {
  readonly tenant: string;
  readonly source: TenantSource;
  readonly tables: readonly AlignedTable[];
  /** Default `transaction`: until it ends. */
  readonly until?: 'transaction' | 'session' | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onTable?: ((progress: { readonly table: string; readonly rows: number }) => void) | undefined;
}

/**
 * Sends the rows of a source into temporary tables, in whatever pieces they come: nothing but a piece is in memory.
 * A table whose columns have changed is read as text, with the columns of the source, and converted; each value must come back from its new type
 * as what it was.
 *
 * @throws PartywallError archive_damaged (other rows than stated), restore_refused (rows of another tenant, doubled keys, values that cannot be
 * converted), and what the source throws
 */
export async function stageSource(client: pg.ClientBase, { tenant, source, tables, until, signal, onTable }: Staging): Promise<StagedTable[]> {
  const staged: StagedTable[] = [];
  const kept = until === 'session' ? 'preserve rows' : 'drop';
  for (const [at, table] of tables.entries()) {
    const one: One = { source, table, at, kept };
    const rows = asItIs(table) ? await stagePlain(client, one) : await stageConverted(client, { ...one, tenant });
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
  /** What the temporary table does at the end of the transaction. */
  readonly kept: 'drop' | 'preserve rows';
}

function stageOf(at: number): string {
  return `pg_temp.partywall_stage_${at}`;
}

function asItIs({ columns, addsTenant }: AlignedTable): boolean {
  return !addsTenant && columns.every(({ name, type, target }) => !target || (target.name === name && target.type === type));
}

/** Columns that nothing takes are staged as texts, under names that nobody else has. */
async function stagePlain(client: pg.ClientBase, { source, table: { live, source: from, columns }, at, kept }: One): Promise<number> {
  const names = columns.map(({ name, target }, index) => ident(target ? name : `partywall:left ${index}`));
  const values = columns.map(({ target }, index) => (target ? names[index] : `null::text as ${names[index]}`));
  await client.query(`create temporary table partywall_stage_${at} on commit ${kept} as select ${values.join(', ')} from ${only(live.relation)} with no data`);
  return copyLines(client, `${stageOf(at)} (${names.join(', ')})`, source.rows(from)).catch((error: unknown) => {
    throw refusedValue(error, from.name);
  });
}

async function stageConverted(client: pg.ClientBase, { tenant, source, table, at, kept }: One & { readonly tenant: string }): Promise<number> {
  const { live, source: from, columns, addsTenant } = table;
  const raw = `pg_temp.partywall_raw_${at}`;
  await client.query(`create temporary table partywall_raw_${at} (${columns.map((_, index) => `c${index} text`).join(', ')}) on commit drop`);
  const rows = await copyLines(client, raw, source.rows(from)).catch((error: unknown) => {
    throw refusedValue(error, from.name);
  });
  const problems: string[] = [];
  const taken: { name: string; value: string }[] = [];
  for (const [index, { name, type, target }] of columns.entries()) {
    if (!target) continue;
    const found = await conversion(client, { raw, column: `c${index}`, from: type, to: target.type });
    if ('value' in found) taken.push({ name: target.name, value: found.value });
    else problems.push(`${from.name}.${name}: ${found.problem}`);
  }
  if (problems.length > 0) throw new PartywallError('restore_refused', `converting ${source.description}: ${problems[0]}`, { details: problems });
  if (addsTenant) taken.push({ name: live.tenantColumn, value: literal(tenant) });
  const names = taken.map(({ name }) => ident(name)).join(', ');
  await client.query(`create temporary table partywall_stage_${at} on commit ${kept} as select ${names} from ${only(live.relation)} with no data`);
  await client.query(`insert into ${stageOf(at)} (${names}) select ${taken.map(({ value }) => value).join(', ')} from ${raw}`).catch((error: unknown) => {
    throw refusedValue(error, from.name);
  });
  await client.query(`drop table ${raw}`);
  return rows;
}

interface Conversion {
  readonly raw: string;
  readonly column: string;
  readonly from: string;
  readonly to: string;
}

/**
 * How the texts of a column become its new type: by the cast between the two types, else by what the new type reads. Either has to lead every value back to
 * the text it was, which `format` writes as COPY does.
 */
async function conversion(client: pg.ClientBase, { raw, column, from, to }: Conversion): Promise<{ value: string } | { problem: string }> {
  // White space, the order of keys and a key's earlier values mean nothing to whoever reads JSON, and no backup of SQLite is without them.
  if (from === to || (from === 'json' && to === 'jsonb')) return { value: `${column}::${to}` };
  // A type that is gone cannot be gone back to; then the text itself has to be the same. What names a type to the server is nothing but a type.
  const { rows: known } = await client.query<{ known: boolean }>('select to_regtype($1) is not null as known', [from]);
  const ways = known[0]?.known
    ? [`${column}::${from}::${to}`, `${column}::${to}`].map((value) => ({ value, back: `(${value})::${from}` }))
    : [{ value: `${column}::${to}`, back: `${column}::${to}` }];
  let problem = '';
  for (const { value, back } of ways) {
    await client.query('savepoint conversion');
    try {
      const { rowCount } = await client.query(
        `select from ${raw} where ${column} is not null and pg_catalog.format('%s', ${back}) is distinct from ${column} limit 1`,
      );
      await client.query('release savepoint conversion');
      if (rowCount === 0) return { value };
      return { problem: `some values would not be the same as ${to}, where they were ${from}` };
    } catch (error) {
      const state = sqlState(error);
      if (state === undefined || !/^(?:22|23|42)/.test(state)) throw error;
      await client.query('rollback to savepoint conversion');
      problem = `${from} cannot become ${to} (SQLSTATE ${state})`;
    }
  }
  return { problem };
}

/** The server's words name the value; where it is has to do. */
function refusedValue(error: unknown, table: string): unknown {
  const state = sqlState(error);
  if (state === undefined || !/^(?:22|23|42)/.test(state)) return error;
  return new PartywallError('restore_refused', `staging ${table}: the database does not take a value (SQLSTATE ${state})`, { cause: error });
}
