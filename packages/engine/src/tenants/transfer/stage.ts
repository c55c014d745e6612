import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { copyInto } from './copy-rows.ts';
import type { StagedTable } from './difference-sql.ts';
import { invalidExport } from './json-reader.ts';
import type { ExportHeader } from './layout.ts';
import type { ExportReader } from './read-export.ts';
import { foreignKeys, only, type TransferTable } from './tables.ts';

const differencesMax = 50;

/**
 * The tables of an export, in its order and with its order of columns, where they are those of the database.
 *
 * @throws PartywallError export_mismatch with a line for each difference, and for each table whose rows have no key to compare them by
 */
export function alignTables(header: ExportHeader, tables: readonly TransferTable[], model: string): TransferTable[] {
  const live = new Map(tables.map((table) => [String(table.relation.table), table]));
  const differences = header.model === model ? [] : ['the tenancy model is another one'];
  const aligned: TransferTable[] = [];
  for (const head of header.tables) {
    const table = live.get(head.name);
    live.delete(head.name);
    if (!table) {
      differences.push(`${head.name} is no table of tenants here`);
      continue;
    }
    const columns = new Map(table.columns.map((column) => [column.name, column]));
    for (const { name, type } of head.columns) {
      const column = columns.get(name);
      if (!column) differences.push(`${head.name}.${name} is not here`);
      else if (column.type !== type) differences.push(`${head.name}.${name} is ${type} in the export and ${column.type} here`);
    }
    const exported = new Set(head.columns.map(({ name }) => name));
    differences.push(...table.columns.flatMap(({ name }) => (exported.has(name) ? [] : [`${head.name}.${name} is not in the export`])));
    if (head.key.join('\0') !== table.key.join('\0')) differences.push(`the key of ${head.name} is another one`);
    if (table.key.length === 0) differences.push(`${head.name} has no key, so its rows cannot be told apart`);
    aligned.push({ ...table, columns: head.columns.flatMap(({ name }) => columns.get(name) ?? []) });
  }
  differences.push(...[...live.keys()].map((name) => `${name} is not in the export`));
  if (differences.length === 0) return aligned;
  throw new PartywallError('export_mismatch', `comparing the export with the database: ${differences[0]}`, { details: differences.slice(0, differencesMax) });
}

/**
 * Reads the rows into temporary tables of the same columns, gone with the transaction, and holds them to what a tenant's rows must be: every
 * row carries the tenant, no key comes twice, the hashes are those of the trailer.
 *
 * @throws PartywallError export_invalid
 */
export async function stageRows(
  client: pg.ClientBase,
  reader: ExportReader,
  tables: readonly TransferTable[],
  onTable: (table: string, rows: number) => void,
): Promise<{ readonly tables: StagedTable[]; readonly sha256: string }> {
  const staged: StagedTable[] = [];
  for (const [at, head] of reader.header.tables.entries()) {
    const table = tables[at];
    if (!table) throw new TypeError(`${head.name} is not aligned`);
    const stage = `pg_temp.partywall_stage_${at}`;
    const columns = table.columns.map(({ name }) => ident(name)).join(', ');
    await client.query(`create temporary table partywall_stage_${at} on commit drop as select ${columns} from ${only(table.relation)} with no data`);
    const rows = await copyInto(client, `${stage} (${columns})`, reader.rows(head)).catch((error: unknown) => {
      throw refusedRow(error, head.name);
    });
    staged.push({ ...table, stage, rows });
    onTable(head.name, rows);
  }
  const { sha256 } = await reader.finish();
  for (const table of staged) await holdStaged(client, table, { tenant: reader.header.tenant.id, refuse: invalidExport });
  return { tables: staged, sha256 };
}

export interface Holding {
  readonly tenant: string;
  /** The error that says what is wrong with the rows. */
  readonly refuse: (problem: string, cause?: unknown) => Error;
}

/** Holds staged rows to what a tenant's must be: every row carries the tenant, no key comes twice, the root has one. */
export async function holdStaged(client: pg.ClientBase, table: StagedTable, { tenant, refuse }: Holding): Promise<void> {
  const { relation, stage, key, isRoot, tenantColumn } = table;
  const nulls = key.map((name) => `s.${ident(name)} is null`).join(' or ') || 'false';
  const { rows } = await client.query<{ foreign: boolean; unkeyed: boolean }>(
    `select coalesce(bool_or(s.${ident(tenantColumn)} is distinct from $1), false) as foreign, coalesce(bool_or(${nulls}), false) as unkeyed from ${stage} s`,
    [tenant],
  );
  if (rows[0]?.foreign !== false) throw refuse(`a row of ${relation.table} belongs to another tenant than ${tenant.slice(0, 100)}`);
  if (isRoot && table.rows !== 1) throw refuse(`${relation.table} has ${table.rows} rows where the tenant is one`);
  if (rows[0].unkeyed) throw refuse(`a key of ${relation.table} is null`);
  if (key.length > 0) {
    await client.query(`create unique index on ${stage} (${key.map(ident).join(', ')})`).catch((error: unknown) => {
      throw sqlState(error) === '23505' ? refuse(`a key of ${relation.table} occurs twice`, error) : error;
    });
  }
  // What rows are found by. To look at long texts takes longer than all else here.
  const known = new Set(table.columns.map(({ name }) => name));
  const searched = new Set([...key, ...foreignKeys(relation).flatMap(({ columns }) => columns)]);
  const analyzed = [...searched].filter((name) => known.has(name)).map(ident);
  await client.query(`analyze ${stage}${analyzed.length > 0 ? ` (${analyzed.join(', ')})` : ''}`);
}

/** The server's words name the value; line and column are enough to find it. */
function refusedRow(error: unknown, table: string): unknown {
  const state = sqlState(error);
  if (!(error instanceof Error) || state === undefined || !/^(?:22|23|54|0A|42)/.test(state)) return error;
  const where = 'where' in error && typeof error.where === 'string' ? error.where : '';
  const [, line, column] = /, line (\d+)(?:, column (.+?)(?::|$))?/s.exec(where) ?? [];
  const place = [line && `row ${line}`, column && `column ${column.slice(0, 63)}`].filter(Boolean).join(', ');
  return invalidExport(`${table}${place && `, ${place}`}: the database does not take the value (SQLSTATE ${state})`, error);
}
