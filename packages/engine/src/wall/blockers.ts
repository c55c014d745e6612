import { type Catalog, type Column, columnOf, holdsRows, type Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import type { TableName } from '../model/table-name.ts';
import { bootstrapEndedFact } from './facts.ts';
import { nameBytesMax } from './names.ts';
import { effectiveRule, keyTypeOf, type Note, type Scoped, type ScopedRelation, type WantedWall } from './shape.ts';
import { globalUniques, isPerTenant, sameSet } from './shape-keys.ts';

/**
 * What keeps the wall from being built, found before anything is done: each is something that would otherwise fail in the middle,
 * or give a wall with a hole. A person must change the database or the model.
 */
export function shapeBlockers(model: TenancyModel, catalog: Catalog, scoped: Scoped, root: { relation: Relation; key: Column }): Note[] {
  return [
    ...rootBlockers(root, model),
    ...[...catalog.relations.values()].flatMap((relation) => [
      ...classBlockers(model, catalog, relation),
      ...outsideReferences(model, catalog, relation, scoped),
    ]),
    ...[...scoped.values()].flatMap((entry) => [
      ...columnBlockers(entry, root.key),
      ...policyBlockers(entry),
      ...pathBlockers(entry, catalog),
      ...referenceBlockers(entry, scoped),
      ...uniqueBlockers(entry),
    ]),
  ];
}

/** Lines of the model that the database has nothing for: a name that is mistyped here may be what another line forgot. */
export function modelBlockers(model: TenancyModel, catalog: Catalog, wanted: WantedWall): Note[] {
  const installed = catalog.runtime?.keyType;
  const root = model.tenant.table;
  const other = installed !== undefined && keyTypeOf(installed) !== wanted.keyType && wanted.tables.size > 0;
  return [
    ...(other
      ? [{ table: root, message: `has keys of type ${wanted.keyType}, and schema partywall was installed for tenants with keys of type ${installed}` }]
      : []),
    ...tableBlockers(model, catalog, wanted),
  ];
}

function tableBlockers(model: TenancyModel, catalog: Catalog, wanted: WantedWall): Note[] {
  return [...model.tables].flatMap(([table, rule]) => {
    const relation = catalog.relations.get(table);
    if (!relation) return [{ table, message: 'is in the tenancy model and not in the database' }];
    if (rule.scope !== 'scoped') return [];
    const family = [...catalog.relations.values()].filter((each) => each.table === table || isBelow(each, table, catalog));
    const uniques = new Set(family.flatMap(({ indexes }) => indexes.filter(({ unique }) => unique).flatMap(({ name, constraint }) => [name, constraint])));
    const live = wanted.tables.get(table);
    const isOver = rule.added && rule.paths.length === 0 && live?.adds && !columnOf(relation, rule.column) && catalog.runtime?.facts?.[bootstrapEndedFact];
    return [
      ...[...rule.uniques.keys()]
        .filter((name) => !uniques.has(name))
        .map((name) => ({ table, message: `has no unique ${ident(name)}, which the model names` })),
      ...(Buffer.byteLength(rule.column) > nameBytesMax
        ? [{ table, message: `${ident(rule.column)} is longer than ${nameBytesMax} bytes, which a name can be` }]
        : []),
      ...(isOver ? [{ table, message: 'goes through nothing, and the bootstrap tenant ended with contract; name a way to the tenant' }] : []),
    ];
  });
}

function isBelow(relation: Relation, table: TableName, catalog: Catalog): boolean {
  return relation.parents.some((parent) => {
    const above = catalog.relations.get(parent);
    return parent === table || (above !== undefined && isBelow(above, table, catalog));
  });
}

function rootBlockers({ relation, key }: { relation: Relation; key: Column }, { tenant: { status } }: TenancyModel): Note[] {
  const { table } = relation;
  const isUnique = relation.indexes.some(
    (index) => index.unique && index.valid && !index.predicate && sameSet(index.columns, [key.name]) && !isDeferrableIndex(relation, index.name),
  );
  return [
    ...(keyTypeOf(key.type) ? [] : [{ table, message: `the tenant key has type ${key.type}; the wall knows uuid, smallint, integer, bigint and text` }]),
    ...(status && !columnOf(relation, status.column) ? [{ table, message: `the status column ${ident(status.column)} is not there` }] : []),
    ...(isUnique ? [] : [{ table, message: `the tenant key ${ident(key.name)} is not unique, so nothing can refer to a tenant` }]),
  ];
}

function isDeferrableIndex(relation: Relation, name: string): boolean {
  return relation.constraints.some((constraint) => constraint.index === name && constraint.deferrable);
}

/** Whether the model knows the relation and may put it where it does. */
function classBlockers(model: TenancyModel, catalog: Catalog, relation: Relation): Note[] {
  const { table } = relation;
  const rule = effectiveRule(model, catalog, relation);
  if (rule === undefined) {
    const isUnknown = model.schemas.includes(relation.schema) && holdsRows(relation) && !relation.extension;
    return isUnknown ? [{ table, message: 'is not in the tenancy model' }] : [];
  }
  if (rule === 'root') return [];
  if (rule.scope === 'unclassified') return [{ table, message: 'is unclassified' }];
  if (rule.scope !== 'scoped') return [];
  if (relation.kind === 'foreign' || relation.kind === 'matview') {
    const kind = relation.kind === 'foreign' ? 'foreign table' : 'materialised view';
    return [{ table, message: `a ${kind} cannot hold a wall; classify it as platform without access` }];
  }
  if (relation.kind === 'view' || rule.added || columnOf(relation, rule.column)) return [];
  return [{ table, message: `the tenant column ${ident(rule.column)} is not there` }];
}

function columnBlockers({ relation, rule, column }: ScopedRelation, key: Column): Note[] {
  const live = columnOf(relation, column);
  const keyType = keyTypeOf(key.type);
  if (!live || !keyType) return [];
  const { table } = relation;
  const fits = keyTypeOf(live.type) === keyType || (isInteger(live.type) && isInteger(keyType));
  return [
    ...(fits ? [] : [{ table, message: `${ident(column)} has type ${live.type}, the tenant key ${key.type}` }]),
    ...(rule?.added && live.generated ? [{ table, message: `${ident(column)} is generated, so nothing can be derived into it` }] : []),
  ];
}

function isInteger(type: string): boolean {
  return type === 'bigint' || type === 'integer' || type === 'smallint';
}

function policyBlockers({ relation }: ScopedRelation): Note[] {
  return relation.policies
    .filter((policy) => policy.permissive && !policy.name.startsWith('partywall_'))
    .map((policy) => ({
      table: relation.table,
      message: `policy ${ident(policy.name)} is permissive, so it would widen the wall; drop it or make it restrictive`,
    }));
}

/** A path names columns on both sides; each must be there before anything is derived from it. */
function pathBlockers({ relation, rule }: ScopedRelation, catalog: Catalog): Note[] {
  return (rule?.paths ?? []).flatMap((path) => {
    const target = catalog.relations.get(path.table);
    const lost = [
      ...path.columns.filter((column) => !columnOf(relation, column)).map((column) => `${relation.table} has no column ${ident(column)}`),
      ...path.references.filter((column) => !target || !columnOf(target, column)).map((column) => `${path.table} has no column ${ident(column)}`),
    ];
    return lost.map((message) => ({ table: relation.table, message: `cannot be derived from ${path.table}: ${message}` }));
  });
}

/** Foreign keys between scoped tables that have no form with the tenant in it. */
function referenceBlockers({ relation }: ScopedRelation, scoped: Scoped): Note[] {
  const { table } = relation;
  return relation.constraints.flatMap(({ name, foreign, inherited, columns, definition }) => {
    if (!foreign || inherited || !scoped.get(foreign.table)?.rule) return [];
    if (foreign.match === 'full' && columns.length > 1) {
      return [{ table, message: `${name} is MATCH FULL over several columns, which a key with the tenant cannot be; make it MATCH SIMPLE with a check` }];
    }
    // PostgreSQL 18; no column list can hold an unquoted keyword.
    return /, PERIOD /.test(definition) ? [{ table, message: `${name} refers to a PERIOD, which a key with the tenant cannot do yet` }] : [];
  });
}

function uniqueBlockers({ relation, rule, column }: ScopedRelation): Note[] {
  if (!rule || relation.kind !== 'partitioned') return [];
  const deferrable = globalUniques(relation, column).filter((index) => isPerTenant(rule, index) && isDeferrableIndex(relation, index.name));
  return deferrable.map((index) => ({
    table: relation.table,
    message: `${index.name} is deferrable, and a partitioned table takes no deferrable constraint without a long lock; call it global`,
  }));
}

/** References into scoped tables from tables that are not: a shared row cannot point at one tenant's, and no key may hang on a unique that goes. */
function outsideReferences(model: TenancyModel, catalog: Catalog, relation: Relation, scoped: Scoped): Note[] {
  const rule = effectiveRule(model, catalog, relation);
  if (rule === 'root' || rule?.scope === 'scoped') return [];
  return relation.constraints.flatMap(({ foreign, name }) => {
    const target = foreign && scoped.get(foreign.table);
    if (!foreign || !target?.rule) return [];
    const { table } = relation;
    if (rule?.scope === 'shared') return [{ table, message: `is shared, but ${name} refers to ${foreign.table}, which is scoped` }];
    const { rule: targetRule } = target;
    const lost = globalUniques(target.relation, target.column).find((index) => sameSet(index.columns, foreign.columns) && isPerTenant(targetRule, index));
    return lost ? [{ table, message: `${name} needs ${lost.name} of ${foreign.table} as it is, which the model makes per tenant` }] : [];
  });
}
