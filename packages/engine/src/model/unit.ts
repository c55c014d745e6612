import { z } from 'zod';
import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { PartywallError } from '../errors.ts';
import { tableReference } from './control.ts';
import { changed, type ModelDifference, migrationHint } from './difference.ts';
import { sameKeyFamily } from './key-types.ts';
import { governing } from './listed-tables.ts';
import type { ScopedRule, TenancyModel } from './model.ts';
import type { TableName } from './table-name.ts';

/**
 * The second-level scope inside a tenant, such as business units. A context with a unit sees the rows of that unit, and those that belong to the
 * tenant as a whole; one without sees the whole tenant. Rows of tables that name no unit column are the tenant's in every unit.
 */
export interface UnitTable {
  /** A scoped table; inside a unit its only row is the unit's own. */
  readonly table: TableName;
  /** The column that unit columns hold; primary or unique key of the table. */
  readonly key: string;
}

/** As a person writes it: `{ table: 'public.business_units', key: 'id' }`. */
export const unitConfig = z
  .strictObject({ table: tableReference, key: z.string().min(1).max(63).optional() })
  .transform(({ table, key }): UnitTable => ({ table, key: key ?? 'id' }));

/** The column by which a scoped table's rows belong to a unit: the key on the unit table itself. */
export function unitColumnOf(model: Pick<TenancyModel, 'unit'>, table: TableName, rule: Pick<ScopedRule, 'unit'>): string | undefined {
  if (!model.unit) return undefined;
  return table === model.unit.table ? model.unit.key : rule.unit;
}

/** @throws PartywallError model_invalid where lines about units contradict each other */
export function refuseUnitContradictions(model: TenancyModel): void {
  const { unit } = model;
  const refuse = (message: string): never => {
    throw new PartywallError('model_invalid', `reading the tenancy config: ${message}`);
  };
  if (unit && model.tables.get(unit.table)?.scope !== 'scoped') refuse(`unit names ${unit.table}, which is not a scoped table`);
  for (const [table, rule] of model.tables) {
    if (rule.scope !== 'scoped' || rule.unit === undefined) continue;
    if (!unit) refuse(`${table} names the unit column ${rule.unit}, and there is no \`unit\` that says which table the units are`);
    if (table === unit?.table) refuse(`${table} is the table of the units; its own unit is its key, so it names no unit column`);
    if (rule.unit === rule.column) refuse(`${table} names ${rule.unit} as tenant column and as unit column`);
  }
}

const lineHint = 'correct its line in partywall.config.ts';

/** The table of the units: there, with a key that says which unit it is. */
export function differencesOfUnitTable(model: TenancyModel, catalog: Catalog): ModelDifference[] {
  const { unit } = model;
  const relation = unit && catalog.relations.get(unit.table);
  // A table that is gone is said of its own line.
  if (!unit || !relation) return [];
  if (!columnOf(relation, unit.key)) return [changed(unit.table, `has no column ${unit.key}, which the model names as the key of the units`, lineHint)];
  const rule = model.tables.get(unit.table);
  const tenant = rule?.scope === 'scoped' ? rule.column : undefined;
  const isUnique = relation.indexes.some(
    ({ unique, valid, predicate, columns }) =>
      unique && valid && !predicate && columns.includes(unit.key) && columns.every((name) => name === unit.key || name === tenant),
  );
  return isUnique ? [] : [changed(unit.table, `does not keep ${unit.key} unique, so it cannot be the key of the units`, lineHint)];
}

/** A unit column: there, of the key's type, and held by a foreign key, which carries the tenant once the wall stands. */
export function differencesOfUnitColumn(model: TenancyModel, catalog: Catalog, relation: Relation, rule: ScopedRule): ModelDifference[] {
  const { unit } = model;
  if (!unit || rule.unit === undefined) return [];
  const column = columnOf(relation, rule.unit);
  const units = catalog.relations.get(unit.table);
  const key = units && columnOf(units, unit.key);
  if (!column) return [changed(relation.table, `expected column ${rule.unit}, its unit, is not there`, `${migrationHint}; or ${lineHint}`)];
  if (!key) return [];
  if (!sameKeyFamily(column.type, key.type)) {
    return [
      changed(
        relation.table,
        `has ${rule.unit} of type ${column.type}, the key of the units is ${key.type}`,
        `alter the column to ${key.type}, or name another`,
      ),
    ];
  }
  const keys = unitKeys(catalog, relation, rule.unit, unit);
  const found = { kind: 'changed' as const, table: relation.table, severity: 'warning' as const };
  if (keys.length === 0) {
    return [
      {
        ...found,
        message: `has units in ${rule.unit}, which no foreign key holds`,
        hint: `add a foreign key to ${unit.table}, or know that rows may name a unit that is not there or another tenant's`,
      },
    ];
  }
  const contracted = catalog.runtime?.facts?.['phase'] === 'contract';
  if (!contracted || keys.some(({ columns }) => columns.includes(rule.column))) return [];
  return [
    {
      ...found,
      message: `refers to ${unit.table} without the tenant`,
      hint: 'run `partywall apply --phase contract`: a row could name the unit of another tenant',
    },
  ];
}

/** Foreign keys by which a column names a unit. */
export function unitKeys(catalog: Catalog, relation: Relation, column: string, unit: UnitTable): readonly Relation['constraints'][number][] {
  return relation.constraints.filter(
    ({ foreign, columns }) =>
      foreign && (governing(catalog, foreign.table)?.table ?? foreign.table) === unit.table && foreign.columns[columns.indexOf(column)] === unit.key,
  );
}
