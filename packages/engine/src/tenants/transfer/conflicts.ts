import type pg from 'pg';
import type { Catalog, Constraint } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import type { TableChange } from './changes.ts';
import { gone, match, moved, type StagedTable } from './difference-sql.ts';
import { foreignKeys, only, plainUniques } from './tables.ts';

/** What is listed of each kind and table; there may be as many as the tenant has rows. */
const listedMax = 5;
const keyLengthMax = 120;

/**
 * What would stop a restore or reach into a neighbour, a line each, found before anything is changed: keys and unique values that another
 * tenant has taken meanwhile, references to what is no more, rows of others that refer to what would be deleted.
 */
export async function findConflicts(client: pg.ClientBase, { tenant, catalog, tables, changes }: Searched): Promise<string[]> {
  const staged = byName(tables);
  const counted = new Map(changes?.map((change) => [change.table, change]));
  return answers(client, tenant, tables, (table) => {
    const change = counted.get(table.relation.table);
    return [
      // What is there already has its values to itself.
      ...(change && change.inserted + change.updated === 0 ? [] : takenQuestions(table)),
      ...foreignKeys(table.relation).flatMap((reference) => missingParent(table, reference, staged, catalog) ?? []),
      ...(change?.deleted === 0 ? [] : pointingIn(table, gone(table), 'would be deleted', staged, catalog)),
    ];
  });
}

export interface Searched {
  readonly tenant: string;
  readonly catalog: Catalog;
  readonly tables: readonly StagedTable[];
  /** What the staged rows change, where it was counted: what cannot be in the way is not searched. */
  readonly changes?: readonly TableChange[] | undefined;
}

/** The same for rows that can only be brought back by deleting them first. */
export async function findMovedConflicts(client: pg.ClientBase, tenant: string, catalog: Catalog, tables: readonly StagedTable[]): Promise<string[]> {
  const staged = byName(tables);
  return answers(client, tenant, tables, (table) => {
    const condition = moved(table);
    return condition === undefined ? [] : pointingIn(table, condition, 'has exchanged unique values', staged, catalog);
  });
}

async function answers(
  client: pg.ClientBase,
  tenant: string,
  tables: readonly StagedTable[],
  ask: (table: StagedTable) => readonly Question[],
): Promise<string[]> {
  const conflicts: string[] = [];
  for (const table of tables) {
    for (const { sql, says } of ask(table)) {
      const { rows } = await client.query<{ what: string }>(`${sql} limit ${listedMax}`, [tenant]);
      conflicts.push(...rows.map(({ what }) => `${table.relation.table}: ${what} ${says}`));
    }
  }
  return conflicts;
}

function byName(tables: readonly StagedTable[]): ReadonlyMap<TableName, StagedTable> {
  return new Map(tables.map((table) => [table.relation.table, table]));
}

interface Question {
  /** One column `what`, a row for each conflict; $1 is the tenant. */
  readonly sql: string;
  readonly says: string;
}

/** Keys and values that are unique among all tenants and that a row of another one has. */
function takenQuestions(table: StagedTable): Question[] {
  const uniques = plainUniques(table.relation).filter(({ primary }) => !primary);
  return [table.key, ...uniques.map(({ columns }) => columns)].flatMap((columns) => taken(table, columns) ?? []);
}

function taken(table: StagedTable, columns: readonly string[]): Question | undefined {
  if (columns.includes(table.tenantColumn) || !stagedColumns(table, columns)) return undefined;
  return {
    sql: `select ${described('s', columns)} as what from ${table.stage} s join ${only(table.relation)} t on ${match(table, columns)} where t.${ident(table.tenantColumn)} is distinct from $1`,
    says: 'belongs to another tenant now',
  };
}

type Reference = Constraint & { readonly foreign: NonNullable<Constraint['foreign']> };

/** A staged row refers to one that is neither in the export nor, where it is no tenant's, in the database. */
function missingParent(
  table: StagedTable,
  { columns, foreign, validated, enforced }: Reference,
  staged: ReadonlyMap<TableName, StagedTable>,
  catalog: Catalog,
): Question | undefined {
  const parent = staged.get(foreign.table);
  const relation = catalog.relations.get(foreign.table);
  // One that is not validated leaves the rows alone that are there; the server judges what is written.
  if (!validated || !enforced || !stagedColumns(table, columns) || !relation || (parent && !stagedColumns(parent, foreign.columns))) return undefined;
  // A partition's rows are staged under its parent's name.
  if (!parent && relation.isPartition) return undefined;
  const on = columns.map((name, at) => `p.${ident(foreign.columns[at] ?? '')} = s.${ident(name)}`).join(' and ');
  return {
    sql: `select ${described('s', columns)} as what from ${table.stage} s where $1::text is not null and ${columns.map((name) => `s.${ident(name)} is not null`).join(' and ')}
and not exists (select from ${parent?.stage ?? quoted(foreign.table)} p where ${on})`,
    says: `refers to a row of ${foreign.table} that is not ${parent ? 'among those that come back' : 'there any more'}`,
  };
}

/** Rows of others that refer to a row which would be deleted: by cascade they would go too, or lose their reference. */
function pointingIn(table: StagedTable, condition: string, why: string, staged: ReadonlyMap<TableName, StagedTable>, catalog: Catalog): Question[] {
  return [...catalog.relations.values()].flatMap((child) => {
    const own = staged.get(child.table);
    return foreignKeys(child).flatMap(({ columns, foreign }) => {
      if (foreign.table !== table.relation.table || child.isPartition) return [];
      // A reference that holds the tenant on both sides never leaves it.
      if (own && foreign.columns[columns.indexOf(own.tenantColumn)] === table.tenantColumn) return [];
      const on = columns.map((name, at) => `c.${ident(name)} = t.${ident(foreign.columns[at] ?? '')}`).join(' and ');
      const others = own ? `and c.${ident(own.tenantColumn)} is distinct from $1` : '';
      return [
        {
          sql: `select ${described('t', table.key)} as what from ${only(table.relation)} t where ${condition} and exists (select from ${only(child)} c where ${on} ${others})`,
          says: `${why}, and a row of ${child.table} that stays refers to it`,
        },
      ];
    });
  });
}

function stagedColumns(table: StagedTable, names: readonly string[]): boolean {
  return names.every((name) => table.columns.some((column) => column.name === name));
}

/** `(id) = (7)`. */
function described(row: string, columns: readonly string[]): string {
  const names = columns.map(ident).join(', ').replaceAll("'", "''");
  return `pg_catalog.format('(${names.replaceAll('%', '%%')}) = (%s)', left(concat_ws(', ', ${columns.map((name) => `${row}.${ident(name)}::text`).join(', ')}), ${keyLengthMax}))`;
}
