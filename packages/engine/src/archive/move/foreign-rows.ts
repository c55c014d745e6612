import type pg from 'pg';
import type { Catalog, Relation } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import { copyRows } from '../../tenants/transfer/copy-rows.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import type { Row } from '../../tenants/transfer/layout.ts';
import { foreignKeys } from '../../tenants/transfer/tables.ts';

/** Rows of shared and platform tables that are compared, and copied, at a time. */
const batchRows = 500;
/** Rows of shared tables may refer to others: a country to its continent. */
const depthMax = 8;
const listedMax = 20;
/** Keys of one reference that are held in memory, about 200 bytes each. */
const keysMax = 500_000;

/** Reads rows of the database that a tenant comes from. */
export type ForeignReader = (query: string) => AsyncIterable<Row[]>;

export interface ForeignRows {
  /** Rows that were copied, by table. */
  readonly copied: ReadonlyMap<TableName, number>;
  /** Rows that are there under the same key with other content, and rows that are nowhere, a line each. */
  readonly conflicts: readonly string[];
}

/**
 * What rows of a tenant refer to and no tenant owns has to be there too. Each such row is compared with the one of the database that the tenant comes
 * from: the same is left alone, a missing one is copied, another one is a conflict, because the key would then mean something else.
 *
 * @param read undefined where only the tenant's rows are at hand: then what is missing is a conflict
 */
export async function bringForeignRows(
  client: pg.ClientBase,
  { catalog, staged, read }: { readonly catalog: Catalog; readonly staged: readonly StagedTable[]; readonly read: ForeignReader | undefined },
): Promise<ForeignRows> {
  const own = new Set<string>(staged.map(({ relation }) => relation.table));
  const copied = new Map<TableName, number>();
  const conflicts: string[] = [];
  const seen = new Set<string>();

  const follow = async (relation: Relation, from: string, depth: number): Promise<void> => {
    for (const { columns, foreign } of foreignKeys(relation)) {
      const target = catalog.relations.get(foreign.table);
      if (own.has(foreign.table) || !target || target.isPartition) continue;
      const names = columns.map((name) => `s.${ident(name)}`);
      const { rows: keys } = await client.query<Record<string, string>>(
        `select distinct ${names.map((name, at) => `${name}::text as k${at}`).join(', ')} from ${from} s where ${names.map((name) => `${name} is not null`).join(' and ')} limit ${keysMax + 1}`,
      );
      const wanted = keys
        .map((row) => columns.map((_, at) => row[`k${at}`] ?? ''))
        .filter((key) => !seen.has(JSON.stringify([foreign.table, foreign.columns, key])));
      for (let at = 0; at < wanted.length; at += batchRows) {
        const batch = wanted.slice(at, at + batchRows);
        for (const key of batch) seen.add(JSON.stringify([foreign.table, foreign.columns, key]));
        await bring(target, foreign.columns, batch, depth);
      }
    }
  };

  const bring = async (target: Relation, columns: readonly string[], keys: readonly (readonly string[])[], depth: number): Promise<void> => {
    const stored = target.columns.filter(({ generated }) => !generated).map(({ name }) => name);
    const list = stored.map((name) => `t.${ident(name)}`).join(', ');
    const match = columns.map((name) => `t.${ident(name)}::text`).join(', ');
    const query = `select ${list} from ${quoted(target.table)} t where (${match}) in (${keys.map((key) => `(${key.map(literal).join(', ')})`).join(', ')})`;
    const keyed = async (rows: AsyncIterable<Row[]>): Promise<Map<string, Row>> => {
      const found = new Map<string, Row>();
      for await (const batch of rows) for (const row of batch) found.set(JSON.stringify(columns.map((name) => row[stored.indexOf(name)])), row);
      return found;
    };
    const here = await keyed(copyRows(client, query));
    const there = read ? await keyed(read(query)) : undefined;
    const missing: Row[] = [];
    for (const key of keys) {
      const [mine, theirs] = [here.get(JSON.stringify(key)), there?.get(JSON.stringify(key))];
      const what = `${target.table} (${columns.join(', ')}) = (${key.join(', ').slice(0, 100)})`;
      if (mine && (!theirs || JSON.stringify(mine) === JSON.stringify(theirs))) continue;
      if (mine) note(`${what} is another row in the other database`);
      else if (theirs) missing.push(theirs);
      else note(`${what} is not there, and a row of the tenant refers to it`);
    }
    if (missing.length === 0 || conflicts.length > 0) return;
    if (depth >= depthMax) {
      note(`${target.table}: rows refer to each other over more than ${depthMax} tables`);
      return;
    }
    const values = missing.map((row) => `(${row.map((value) => (value === null ? 'null' : literal(value))).join(', ')})`).join(', ');
    const typed = target.columns.filter(({ generated }) => !generated).map(({ name, type }, at) => `v.c${at}::${type} as ${ident(name)}`);
    const rows = `(select ${typed.join(', ')} from (values ${values}) v (${stored.map((_, at) => `c${at}`).join(', ')}))`;
    await follow(target, rows, depth + 1);
    if (conflicts.length > 0) return;
    await client.query(`insert into ${quoted(target.table)} (${stored.map(ident).join(', ')}) overriding system value select * from ${rows} r`);
    copied.set(target.table, (copied.get(target.table) ?? 0) + missing.length);
  };

  const note = (line: string): void => {
    if (conflicts.length < listedMax) conflicts.push(line);
  };

  for (const { relation, stage } of staged) await follow(relation, stage, 0);
  return { copied, conflicts };
}
