import { type Catalog, holdsRows, type Relation } from '../catalog/catalog.ts';
import type { TableName } from './table-name.ts';

/**
 * Tables that a model lists: they hold rows, belong to no extension, and follow no parent. Partitions and INHERITS children
 * follow theirs, because whoever reads the parent reads them.
 */
export function listedTables(catalog: Catalog): Relation[] {
  return [...catalog.relations.values()].filter((relation) => isOwnTable(relation) && parentOf(catalog, relation) === undefined);
}

/** The listed table whose rule governs `table`: itself, or the top of what it is a partition or child of. */
export function governing(catalog: Catalog, table: TableName): Relation | undefined {
  let relation = catalog.relations.get(table);
  while (relation) {
    const parent = parentOf(catalog, relation);
    if (!parent) return relation;
    relation = parent;
  }
  return undefined;
}

/** Partitions and inheritance children by the listed table that governs them. */
export function followers(catalog: Catalog): ReadonlyMap<TableName, readonly Relation[]> {
  const byTop = new Map<TableName, Relation[]>();
  for (const relation of catalog.relations.values()) {
    if (relation.parents.length === 0) continue;
    const top = governing(catalog, relation.table);
    if (!top || top.table === relation.table) continue;
    const group = byTop.get(top.table);
    if (group) group.push(relation);
    else byTop.set(top.table, [relation]);
  }
  return byTop;
}

function isOwnTable(relation: Relation): boolean {
  return holdsRows(relation) && relation.extension === undefined;
}

function parentOf(catalog: Catalog, relation: Relation): Relation | undefined {
  for (const name of relation.parents) {
    const parent = catalog.relations.get(name);
    if (parent && isOwnTable(parent)) return parent;
  }
  return undefined;
}
