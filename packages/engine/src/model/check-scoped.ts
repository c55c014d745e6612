import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { changed, type ModelDifference, migrationHint } from './difference.ts';
import { sameKeyFamily } from './key-types.ts';
import { governing } from './listed-tables.ts';
import type { Path, ScopedRule, TenancyModel } from './model.ts';
import { differencesOfUnitColumn } from './unit.ts';

const lineHint = 'correct its line in partywall.config.ts, or run `partywall init --update`';

/** A scoped table: its column, the ways to the tenant, its uniques. */
export function differencesOfScoped(model: TenancyModel, catalog: Catalog, relation: Relation, rule: ScopedRule): ModelDifference[] {
  if (relation.kind === 'foreign' || relation.kind === 'matview') {
    const kind = relation.kind === 'foreign' ? 'foreign table' : 'materialised view';
    return [changed(relation.table, `is a ${kind}, which cannot hold a wall`, "make it the platform's, without access")];
  }
  return [
    ...differencesOfColumn(model, catalog, relation, rule),
    ...rule.paths.flatMap((path) => differencesOfPath(catalog, relation, path)),
    ...differencesOfUnitColumn(model, catalog, relation, rule),
    ...[...rule.uniques.keys()]
      .filter((name) => !relation.indexes.some((index) => index.unique && (index.name === name || index.constraint === name)))
      .map((name) => changed(relation.table, `has no unique constraint or index ${name}, which the model names`, lineHint)),
  ];
}

function differencesOfColumn(model: TenancyModel, catalog: Catalog, relation: Relation, rule: ScopedRule): ModelDifference[] {
  const column = columnOf(relation, rule.column);
  const facts = catalog.runtime?.facts;
  const contracted = facts?.['phase'] === 'contract';
  if (!column) {
    if (!rule.added) return [expectedColumn(relation, rule.column, `the migration that adds it has not run on database ${catalog.database}`)];
    return contracted ? [expectedColumn(relation, rule.column, 'Partywall had added it; run `partywall apply` again')] : [];
  }
  const found: ModelDifference[] = [];
  const root = catalog.relations.get(model.tenant.table);
  const key = root && columnOf(root, model.tenant.key);
  if (key && !sameKeyFamily(column.type, key.type)) {
    found.push(
      changed(relation.table, `has ${rule.column} of type ${column.type}, the tenant key is ${key.type}`, `alter the column to ${key.type}, or name another`),
    );
  }
  if (contracted && !column.notNull) {
    found.push(
      changed(relation.table, `allows null in its tenant column ${rule.column} again`, 'run `partywall diff`, then `partywall apply --phase contract`'),
    );
  }
  if (rule.added && catalog.runtime === undefined && column.default === undefined) {
    found.push(
      changed(
        relation.table,
        `has a column ${rule.column} already, which the model would add`,
        'leave out `through` to use it as it is, or give `column` another name',
      ),
    );
  }
  return found;
}

function differencesOfPath(catalog: Catalog, relation: Relation, path: Path): ModelDifference[] {
  const target = catalog.relations.get(path.table);
  const found = path.columns
    .filter((column) => !columnOf(relation, column))
    .map((column) => expectedColumn(relation, column, `the way through ${path.table} needs it; its migration has not run on database ${catalog.database}`));
  if (!target) return [...found, changed(relation.table, `goes through ${path.table}, which is not in the database ${catalog.database}`, lineHint)];
  const lost = path.references.filter((column) => !columnOf(target, column));
  found.push(...lost.map((column) => changed(relation.table, `goes through ${path.table}, which has no column ${column}`, lineHint)));
  if (found.length > 0) return found;
  const mismatch = path.columns.find(
    (column, at) => !sameKeyFamily(columnOf(relation, column)?.type ?? '', columnOf(target, path.references[at] ?? '')?.type ?? ''),
  );
  if (mismatch !== undefined) return [changed(relation.table, `goes through ${path.table} by ${mismatch}, whose type does not match`, lineHint)];
  const other = relation.constraints.find(
    ({ foreign, columns }) => foreign && sameNames(columns, path.columns) && targetOf(catalog, foreign.table) !== targetOf(catalog, path.table),
  );
  if (other) return [changed(relation.table, `goes through ${path.table}, but by ${other.name} the same columns refer to ${other.foreign?.table}`, lineHint)];
  return isHeld(catalog, relation, path) ? [] : [unheld(relation, path)];
}

/** A foreign key holds the way, in its direction or against it; once walled, with the tenant column beside. */
function isHeld(catalog: Catalog, relation: Relation, path: Path): boolean {
  const target = catalog.relations.get(path.table);
  return (
    target !== undefined && (holds(catalog, relation, target, path.columns, path.references) || holds(catalog, target, relation, path.references, path.columns))
  );
}

function holds(catalog: Catalog, from: Relation, to: Relation, columns: readonly string[], references: readonly string[]): boolean {
  return from.constraints.some(({ foreign, columns: own }) => {
    if (!foreign || targetOf(catalog, foreign.table) !== targetOf(catalog, to.table)) return false;
    return columns.every((column, at) => own.some((name, place) => name === column && foreign.columns[place] === references[at]));
  });
}

function unheld(relation: Relation, path: Path): ModelDifference {
  return {
    kind: 'changed',
    table: relation.table,
    message: `goes through ${path.table} by ${path.columns.join(', ')}, which no foreign key holds`,
    hint: 'add the foreign key, or know that rows may name a parent that is not there',
    severity: 'warning',
  };
}

function targetOf(catalog: Catalog, table: Path['table']): Path['table'] {
  return governing(catalog, table)?.table ?? table;
}

function sameNames(left: readonly string[], right: readonly string[]): boolean {
  return left.length === right.length && left.every((name) => right.includes(name));
}

function expectedColumn(relation: Relation, column: string, reason: string): ModelDifference {
  return changed(relation.table, `expected column ${column} is not there: ${reason}`, `${migrationHint}; or correct its line in partywall.config.ts`);
}
