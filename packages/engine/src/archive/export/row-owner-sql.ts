import type { Catalog } from '../../catalog/catalog.ts';
import { columnOf } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { Path, ScopedRule, TenancyModel } from '../../model/model.ts';
import type { TableName } from '../../model/table-name.ts';

/** Whose row it is, in SQL that PostgreSQL and SQLite both take: by the tenant column where the table has one, else through its parents. */
export interface RowOwner {
  /** Condition: the row of `table` called `row` is the tenant's. `tenant` is SQL for its key. */
  isOf(table: TableName, row: string, tenant: string): string;
  /** The tenant of the row; NULL where nothing says it. */
  of(table: TableName, row: string): string;
}

/**
 * For a database that no wall stands in: columns that the wall would add are not there yet.
 *
 * @param sqlName the table as SQL names it
 */
export function rowOwner(model: TenancyModel, catalog: Catalog, sqlName: (table: TableName) => string): RowOwner {
  let names = 0;
  const on = (path: Path, parent: string, row: string): string =>
    path.columns.map((column, at) => `${parent}.${ident(path.references[at] ?? '')} = ${row}.${ident(column)}`).join(' and ');
  const isOf: RowOwner['isOf'] = (table, row, tenant) => {
    const way = wayOf(model, catalog, table);
    if (typeof way === 'string') return `${row}.${ident(way)} = ${tenant}`;
    const [path, ...others] = way;
    // One way reads as a semi-join, which has a better plan than a value for each row.
    if (!path || others.length > 0) return `${of(table, row)} = ${tenant}`;
    names += 1;
    const parent = `p${names}`;
    return `exists (select 1 from ${sqlName(path.table)} ${parent} where ${on(path, parent, row)} and ${isOf(path.table, parent, tenant)})`;
  };
  const of: RowOwner['of'] = (table, row) => {
    const way = wayOf(model, catalog, table);
    if (typeof way === 'string') return `${row}.${ident(way)}`;
    const each = way.map((path) => {
      names += 1;
      const parent = `p${names}`;
      const value = of(path.table, parent);
      return `(select ${value} from ${sqlName(path.table)} ${parent} where ${on(path, parent, row)} and ${value} is not null limit 1)`;
    });
    return each.length === 1 ? each.join('') : `coalesce(${each.join(', ')})`;
  };
  return { isOf, of };
}

/** The tenant column, where the table has it, else the ways through parents. */
function wayOf(model: TenancyModel, catalog: Catalog, table: TableName): string | readonly Path[] {
  if (table === model.tenant.table) return model.tenant.key;
  const rule = model.tables.get(table);
  const relation = catalog.relations.get(table);
  if (rule?.scope !== 'scoped' || !relation)
    throw new PartywallError('model_drift', `looking for the tenant of rows of ${table}: no scoped table of the database`);
  if (columnOf(relation, rule.column)) return rule.column;
  const ways = waysUp(table, rule);
  if (ways.length > 0) return ways;
  throw new PartywallError(
    'phase_refused',
    `looking for the tenant of rows of ${table}: it has no column ${rule.column} yet, and no parent says whose they are`,
  );
}

/** A row above in the same table is found only by recursion; it has the same tenant as what the other ways find. */
function waysUp(table: TableName, rule: ScopedRule): readonly Path[] {
  return rule.paths.filter((path) => path.table !== table);
}
