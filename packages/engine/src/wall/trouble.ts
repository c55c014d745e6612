import type pg from 'pg';
import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { isWallName } from './names.ts';
import type { WantedTable, WantedWall } from './shape.ts';

/**
 * Rows that the wall cannot hold as they are: without a tenant, of a tenant that does not exist, referring to another tenant's row or to
 * one that is missing. They are found before anything is validated, listed, and taken aside only on request (quarantine.ts).
 */
export interface TroubledRows {
  readonly table: TableName;
  readonly kind: 'no tenant' | 'unknown tenant' | 'crosses tenants' | 'missing parent';
  /** The reference that crosses or leads nowhere; a way to the tenant without a constraint is described. */
  readonly constraint: string | undefined;
  readonly count: number;
  /** Primary keys (or row addresses) of the first of them, as JSON text. */
  readonly sample: readonly string[];
}

const sampleRowsMax = 10;

export interface TroubleQuestion {
  readonly table: WantedTable;
  readonly kind: TroubledRows['kind'];
  readonly constraint: string | undefined;
  /** Condition on `pw_row`, a row of the table itself. */
  readonly where: string;
}

/** The questions, each a condition on the row `pw_row`; also what verify asks again after contract. */
export function troubleQuestions(model: TenancyModel, catalog: Catalog, wanted: WantedWall): TroubleQuestion[] {
  const root = `${quoted(model.tenant.table)} pw_root where pw_root.${ident(model.tenant.key)}`;
  return [...wanted.tables.values()].flatMap((table) => {
    if (columnOf(table.relation, table.column) === undefined || table.relation.isPartition) return [];
    const tenant = `pw_row.${ident(table.column)}`;
    const own: TroubleQuestion[] = table.rule
      ? [
          { table, kind: 'no tenant', constraint: undefined, where: `${tenant} is null` },
          { table, kind: 'unknown tenant', constraint: undefined, where: `${tenant} is not null and not exists (select from ${root} = ${tenant})` },
        ]
      : [];
    return [...own, ...references(table, wanted).flatMap((reference) => referenceQuestions(catalog, table, wanted, reference))];
  });
}

interface Reference {
  readonly name: string;
  readonly table: TableName;
  readonly columns: readonly string[];
  readonly references: readonly string[];
  /** Whether the database promises that the parent is there. */
  readonly enforced: boolean;
}

/** Foreign keys between scoped tables, plain or with the tenant already, and ways to the tenant that no foreign key holds. */
function references({ relation, rule }: WantedTable, wanted: WantedWall): Reference[] {
  // A key of contract's that has not taken the place of its plain one yet asks the same.
  const keys = relation.constraints.flatMap(({ name, foreign, columns, inherited, enforced }) =>
    foreign && !inherited && !isWallName(name, ['fk']) && wanted.tables.get(foreign.table)?.rule
      ? [{ name, table: foreign.table, columns, references: foreign.columns, enforced }]
      : [],
  );
  const paths = (rule?.paths ?? []).flatMap(({ table, columns, references: target }) => {
    const held = keys.some((key) => key.table === table && columns.every((column, at) => key.references[key.columns.indexOf(column)] === target[at]));
    if (held || !wanted.tables.get(table)?.rule) return [];
    return [{ name: `(${columns.join(', ')}) → ${table}`, table, columns, references: target, enforced: false }];
  });
  return [...keys, ...paths];
}

function referenceQuestions(catalog: Catalog, table: WantedTable, wanted: WantedWall, reference: Reference): TroubleQuestion[] {
  const target = wanted.tables.get(reference.table);
  const relation = catalog.relations.get(reference.table);
  if (!target || !relation || columnOf(relation, target.column) === undefined) return [];
  const pairs = reference.columns
    .map((column, at) => ({ column, references: reference.references[at] ?? '' }))
    .filter((pair) => pair.column !== table.column || pair.references !== target.column);
  if (pairs.length === 0) return [];
  const tenant = `pw_row.${ident(table.column)}`;
  const parentTenant = `pw_parent.${ident(target.column)}`;
  const parents = `${rowsOf(relation)} pw_parent where ${pairs.map((pair) => `pw_parent.${ident(pair.references)} = pw_row.${ident(pair.column)}`).join(' and ')}`;
  const refers = pairs.map((pair) => `pw_row.${ident(pair.column)} is not null`).join(' and ');
  // With a key that is unique in each tenant only, a row of its own tenant may be beside the other's.
  const isOwn = `${parentTenant} = ${tenant}`;
  const about = { table, constraint: reference.name };
  return [
    {
      ...about,
      kind: 'crosses tenants',
      where: `${tenant} is not null and exists (select from ${parents} and ${parentTenant} is not null) and not exists (select from ${parents} and ${isOwn})`,
    },
    // A key that was never proven, or that a replica session went around, leads nowhere for some rows.
    ...(reference.enforced ? [{ ...about, kind: 'missing parent' as const, where: `${refers} and not exists (select from ${parents})` }] : []),
  ];
}

/** A foreign key is about the rows of the table itself; of a partitioned one, about all. */
export function rowsOf(relation: Relation): string {
  return `${relation.kind === 'table' ? 'only ' : ''}${quoted(relation.table)}`;
}

export async function findTroubledRows(client: pg.ClientBase, model: TenancyModel, catalog: Catalog, wanted: WantedWall): Promise<TroubledRows[]> {
  const found: TroubledRows[] = [];
  for (const { table, kind, constraint, where } of troubleQuestions(model, catalog, wanted)) {
    const { rows } = await client.query<{ count: number; sample: string[] | null }>(
      `select count(*)::int as count, (array_agg(key))[1:${sampleRowsMax}] as sample from (select ${rowKey(table.relation)} as key from ${rowsOf(table.relation)} pw_row where ${where}) troubled`,
    );
    const [row] = rows;
    if (row && row.count > 0) found.push({ table: table.relation.table, kind, constraint, count: row.count, sample: row.sample ?? [] });
  }
  return found;
}

/** A line for a person: table, kind, count, the first keys. */
export function describeTrouble(rows: TroubledRows): string {
  const which = {
    'no tenant': 'no tenant',
    'unknown tenant': 'a tenant that does not exist',
    'crosses tenants': `a reference to another tenant's row by ${rows.constraint}`,
    'missing parent': `a reference to a missing row by ${rows.constraint}`,
  }[rows.kind];
  const count = `${rows.count} ${rows.count === 1 ? 'row has' : 'rows have'}`;
  return `${rows.table}: ${count} ${which}: ${rows.sample.join(', ')}${rows.count > rows.sample.length ? ', …' : ''}`;
}

/** SQL of a row's key as JSON text, its address where it has none. */
function rowKey(relation: Relation): string {
  const primary = relation.constraints.find((constraint) => constraint.kind === 'primary');
  if (!primary) return 'pw_row.ctid::text';
  const columns = primary.columns.map((column) => `pw_row.${ident(column)}`);
  return columns.length === 1 ? `to_json(${columns.join()})::text` : `json_build_array(${columns.join(', ')})::text`;
}
