import { type Catalog, type Constraint, columnOf, holdsRows, type Relation } from '../catalog/catalog.ts';
import { PartywallError } from '../errors.ts';
import { differencesOfRoot } from './check-root.ts';
import { differencesOfScoped } from './check-scoped.ts';
import { type Comparison, changed, type ModelDifference, migrationHint } from './difference.ts';
import { governing, listedTables } from './listed-tables.ts';
import type { TableRule, TenancyModel } from './model.ts';
import { partsOf, type TableName } from './table-name.ts';
import { generalTenantColumn, tenantColumnNames } from './tenant-columns.ts';
import { differencesOfUnitTable } from './unit.ts';
import { compact } from './words.ts';

export interface CheckOptions {
  /** What the application's migrations should have made by now, whether the model speaks of it or not. */
  readonly expected?: readonly { readonly table: TableName; readonly columns?: readonly string[] }[];
}

/** The model and the database side by side: what `partywall check` reports, in a stable order. Empty where they agree. */
export function checkModel(model: TenancyModel, catalog: Catalog, options: CheckOptions = {}): ModelDifference[] {
  const comparison: Comparison = { model, catalog, words: tenantWords(model, catalog) };
  const differences = [
    ...differencesOfRoot(model, catalog),
    ...differencesOfUnitTable(model, catalog),
    ...[...model.tables].flatMap(([table, rule]) => differencesOfRule(comparison, table, rule)),
    ...unlisted(comparison),
    ...missing(catalog, options.expected ?? []),
  ];
  return differences.sort(
    (left, right) =>
      compare(left.severity, right.severity) || compare(left.table, right.table) || compare(left.kind, right.kind) || compare(left.message, right.message),
  );
}

/**
 * For an application's start-up: refuses to go on where the model does not cover the database.
 *
 * @throws PartywallError model_unclassified for tables that the model does not classify, model_drift for other errors of `checkModel`
 */
export function assertModelComplete(model: TenancyModel, catalog: Catalog, options: CheckOptions = {}): void {
  const errors = checkModel(model, catalog, options).filter(({ severity }) => severity === 'error');
  const open = errors.filter(({ kind }) => kind === 'unknown' || kind === 'unclassified' || kind === 'outside');
  const failed = open.length > 0 ? open : errors;
  const [first] = failed;
  if (!first) return;
  const rest = failed.length > 1 ? ` and ${failed.length - 1} more` : '';
  throw new PartywallError(
    open.length > 0 ? 'model_unclassified' : 'model_drift',
    `comparing the tenancy model with ${catalog.database}: ${describeDifference(first)}${rest}`,
    { details: failed.map(describeDifference) },
  );
}

/** A line for a person. */
export function describeDifference({ table, message }: ModelDifference): string {
  return `${table} ${message}`;
}

function differencesOfRule(comparison: Comparison, table: TableName, rule: TableRule): ModelDifference[] {
  const { model, catalog } = comparison;
  const relation = catalog.relations.get(table);
  if (!relation) return [gone(catalog, table, rule)];
  if (!holdsRows(relation)) return [changed(table, 'is a view, and views follow what they read', 'remove its line; the wall reaches views by what they read')];
  if (relation.extension !== undefined)
    return [changed(table, `belongs to the extension ${relation.extension}`, 'remove its line; extensions own their tables')];
  switch (rule.scope) {
    case 'scoped':
      return differencesOfScoped(model, catalog, relation, rule);
    case 'unclassified':
      return [
        {
          kind: 'unclassified',
          table,
          message: `is unclassified${rule.why === undefined ? '' : `: ${rule.why}`}`,
          hint: answers(rule.candidates),
          severity: 'error',
        },
      ];
    case 'shared':
      return holes(comparison, relation, 'shared', 'error');
    case 'platform':
      // People refer to tenants in passing (the one they looked at last), so this is said and not refused.
      return rule.access === 'none' ? [] : holes(comparison, relation, "the platform's and open to the application", 'warning');
  }
}

function gone(catalog: Catalog, table: TableName, rule: TableRule): ModelDifference {
  const { schema } = partsOf(table);
  const where = catalog.schemas.has(schema) ? catalog.database : `${catalog.database}, which has no schema ${schema} at all`;
  return {
    kind: 'vanished',
    table,
    message: `is ${rule.scope} in the model but not in the database ${where}`,
    hint: 'if it was dropped, remove its line; if it is new, the migration that makes it has not run on this database',
    severity: 'error',
  };
}

function answers(candidates: readonly string[]): string {
  return candidates.length === 0 ? 'give it a scope in partywall.config.ts' : `give it a scope; it could be ${candidates.join(' | ')}`;
}

/** What everybody can read must not lead to one tenant. */
function holes(comparison: Comparison, relation: Relation, scope: string, severity: ModelDifference['severity']): ModelDifference[] {
  const keys = relation.constraints.filter((constraint) => leadsToTenant(comparison, constraint));
  const held = new Set(keys.flatMap(({ columns }) => columns));
  const named = relation.columns.filter(({ name }) => !held.has(name) && comparison.words.has(compact(name)));
  const reasons = [
    ...keys.map(({ name, foreign }) => `${name} refers to ${foreign?.table}, which is a tenant's`),
    ...named.map(({ name }) => `its column ${name} is named like a tenant column`),
    ...childrenWithTenant(comparison, relation).map((child) => `its child ${child} names a tenant`),
  ];
  const hint = "scope it, or make it the platform's without access for the application";
  return reasons.map((reason) => ({ kind: 'hole', table: relation.table, message: `is ${scope}, but ${reason}`, hint, severity }));
}

function leadsToTenant({ model, catalog }: Comparison, { foreign }: Constraint): boolean {
  if (!foreign) return false;
  const target = governing(catalog, foreign.table)?.table ?? foreign.table;
  return target === model.tenant.table || model.tables.get(target)?.scope === 'scoped';
}

function tenantWords(model: TenancyModel, catalog: Catalog): ReadonlySet<string> {
  const root = catalog.relations.get(model.tenant.table);
  return new Set([...(root ? tenantColumnNames(root, model.tenant.key) : []), generalTenantColumn, compact(model.column)]);
}

function childrenWithTenant(comparison: Comparison, relation: Relation): TableName[] {
  return [...comparison.catalog.relations.values()]
    .filter((child) => !child.isPartition && child.parents.includes(relation.table))
    .filter(
      ({ constraints, columns }) =>
        constraints.some((each) => leadsToTenant(comparison, each)) || columns.some(({ name }) => comparison.words.has(compact(name))),
    )
    .map(({ table }) => table);
}

/** Tables that the model does not list: errors where it claims their schema, or where they hold tenants' rows. */
function unlisted(comparison: Comparison): ModelDifference[] {
  const { model, catalog, words } = comparison;
  return listedTables(catalog)
    .filter(({ table }) => table !== model.tenant.table && !model.tables.has(table))
    .flatMap((relation): ModelDifference[] => {
      const { table, schema } = relation;
      if (model.schemas.includes(schema)) {
        return [{ kind: 'unknown', table, message: 'is not in the model', hint: 'run `partywall init --update`, then read its line', severity: 'error' }];
      }
      const key = relation.constraints.find((constraint) => leadsToTenant(comparison, constraint));
      const column = relation.columns.find(({ name }) => words.has(compact(name)));
      if (!key && !column) return [];
      const reason = key ? `${key.name} refers to ${key.foreign?.table}` : `its column ${column?.name} is named like a tenant column`;
      return [
        {
          kind: 'outside',
          table,
          message: `is in schema ${schema}, which the model does not name, but ${reason}`,
          hint: `add ${JSON.stringify(schema)} to \`schemas\`, then run \`partywall init --update\``,
          severity: 'error',
        },
      ];
    });
}

function missing(catalog: Catalog, expected: NonNullable<CheckOptions['expected']>): ModelDifference[] {
  return expected.flatMap(({ table, columns }): ModelDifference[] => {
    const relation = catalog.relations.get(table);
    const absent = (what: string): ModelDifference => ({
      kind: 'expected',
      table,
      message: `expected ${what} is not there: the migration that adds it has not run on database ${catalog.database}`,
      hint: migrationHint,
      severity: 'error',
    });
    if (!relation) return [absent('table')];
    return (columns ?? []).filter((column) => !columnOf(relation, column)).map((column) => absent(`column ${column}`));
  });
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
