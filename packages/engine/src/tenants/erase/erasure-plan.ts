import type { Catalog, ForeignAction, Relation } from '../../catalog/catalog.ts';
import { setApplicationPath } from '../../db/application-path.ts';
import type { TenancyModel } from '../../model/model.ts';
import type { TableName } from '../../model/table-name.ts';
import { readsScoped, wantedWall } from '../../wall/shape.ts';

/** The order in which a tenant's rows go, derived from the model and the live foreign keys; the same value is printed and carried out. */
export interface ErasurePlan {
  /**
   * Tables in order, each after all that refer to it. Tables that refer to each other, or to themselves, are one group and go in one statement:
   * foreign keys are asked at its end. The last group holds the tenant root.
   */
  readonly groups: readonly ErasureGroup[];
  /** Foreign keys from tables that belong to no tenant: their rows follow the key's action, and `no action` keeps a tenant from going. */
  readonly outside: readonly OutsideReference[];
  /** Materialised views over scoped rows: they hold copies until their owner refreshes them. */
  readonly copies: readonly TableName[];
  /** Statement under which the application's triggers find their tables. */
  readonly searchPath: string;
}

export interface ErasureGroup {
  readonly tables: readonly ErasureTable[];
  /** Rows refer to rows of the group without a cascade, so that it cannot go in batches. */
  readonly whole: boolean;
}

export interface ErasureTable {
  readonly table: TableName;
  /** Column that holds the tenant; the key on the root. */
  readonly column: string;
  /** Where its rows are: itself, its partitions or its inheritance children. */
  readonly parts: readonly { readonly table: TableName; readonly oid: number }[];
}

export interface OutsideReference {
  readonly table: TableName;
  readonly columns: readonly string[];
  readonly target: TableName;
  readonly references: readonly string[];
  /** Tenant column of the target. */
  readonly column: string;
  readonly onDelete: ForeignAction;
}

interface Edge {
  readonly from: TableName;
  readonly to: TableName;
  readonly onDelete: ForeignAction;
}

export function erasurePlan(model: TenancyModel, catalog: Catalog): ErasurePlan {
  const wanted = wantedWall(model, catalog);
  const top = (table: TableName): TableName => {
    const parent = wanted.tables.get(table)?.relation.parents.find((above) => wanted.tables.has(above));
    return parent === undefined ? table : top(parent);
  };
  const tables = new Map<TableName, ErasureTable>();
  for (const [table, { column }] of wanted.tables) if (top(table) === table) tables.set(table, { table, column, parts: [] });
  for (const [name, { relation }] of wanted.tables) {
    const table = tables.get(top(name));
    if (table && relation.kind === 'table') tables.set(table.table, { ...table, parts: [...table.parts, { table: name, oid: relation.oid }] });
  }
  const inside = [...wanted.tables.values()].flatMap(({ relation }) =>
    relation.constraints.flatMap(({ foreign }): Edge[] =>
      foreign && wanted.tables.has(foreign.table) ? [{ from: top(relation.table), to: top(foreign.table), onDelete: foreign.onDelete }] : [],
    ),
  );
  const holdsRoot = (names: readonly TableName[]): boolean => names.includes(model.tenant.table);
  const order = components([...tables.keys()], inside).sort((left, right) => Number(holdsRoot(left)) - Number(holdsRoot(right)));
  const groups = order.map((names): ErasureGroup => {
    const within = inside.filter(({ from, to }) => names.includes(from) && names.includes(to));
    return {
      tables: names.flatMap((name) => tables.get(name) ?? []),
      whole: names.length > 1 || within.some(({ onDelete }) => onDelete === 'no action' || onDelete === 'restrict'),
    };
  });
  return {
    searchPath: setApplicationPath(model),
    groups,
    outside: [...catalog.relations.values()].filter(({ table, isPartition }) => !wanted.tables.has(table) && !isPartition).flatMap(outsideReferences),
    copies: [...catalog.relations.values()]
      .filter((relation) => relation.kind === 'matview' && readsScoped(catalog, relation, wanted.tables))
      .map(({ table }) => table),
  };

  function outsideReferences(relation: Relation): OutsideReference[] {
    return relation.constraints.flatMap(({ foreign, columns }) => {
      const target = foreign && wanted.tables.get(foreign.table);
      if (!foreign || !target) return [];
      return [{ table: relation.table, columns, target: foreign.table, references: foreign.columns, column: target.column, onDelete: foreign.onDelete }];
    });
  }
}

/** Tables that reach each other, by Tarjan; a component comes after all that refer to it. */
function components(tables: readonly TableName[], edges: readonly Edge[]): TableName[][] {
  const state = new Map<TableName, { index: number; low: number; open: boolean }>();
  const stack: TableName[] = [];
  const found: TableName[][] = [];
  const visit = (table: TableName): { index: number; low: number; open: boolean } => {
    const own = { index: state.size, low: state.size, open: true };
    state.set(table, own);
    stack.push(table);
    for (const { to } of edges.filter(({ from }) => from === table)) {
      const seen = state.get(to);
      if (!seen) own.low = Math.min(own.low, visit(to).low);
      else if (seen.open) own.low = Math.min(own.low, seen.index);
    }
    if (own.low === own.index) {
      const component = stack.splice(stack.indexOf(table));
      for (const member of component) state.set(member, { ...(state.get(member) ?? own), open: false });
      found.push(component);
    }
    return own;
  };
  for (const table of tables) if (!state.has(table)) visit(table);
  // Tarjan finds what is referred to first.
  return found.reverse();
}
