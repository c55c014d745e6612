import type { Relation } from '../catalog/catalog.ts';
import { columnOf } from '../catalog/catalog.ts';
import type { Path } from './model.ts';
import { isPeopleTable } from './people.ts';
import { isTellingKey, type Reference, type References } from './references.ts';
import type { TableName } from './table-name.ts';
import { isPointer } from './tenant-columns.ts';

/** How a table without a tenant column reaches the tenant. */
export interface Ownership {
  readonly paths: readonly Path[];
  /** The way is a foreign key that is never null. */
  readonly certain: boolean;
  readonly why: string;
}

/** What decides how a table reaches the tenant. */
export interface Landscape {
  readonly tables: ReadonlyMap<TableName, Relation>;
  readonly references: References;
  /** Have their tenant already: the root, and tables with a tenant column. */
  readonly settled: ReadonlySet<TableName>;
  readonly open: ReadonlySet<TableName>;
  readonly root: TableName;
}

/** Paths tried in order; more than these would be guesses. */
const pathsMax = 6;

/**
 * Cost of reaching the tenant, compared from left to right: hops that may be null, hops that no foreign key holds, hops over
 * people (whoever did something), all hops. A long certain way is better than a short one that may be null.
 */
type Cost = readonly [nullable: number, unheld: number, actor: number, hops: number];

interface Edge {
  readonly reference: Reference;
  /** Against the foreign key: whoever refers to the table owns it. */
  readonly owner: boolean;
  /** Position of its first column, so that equal ways come as the table has them. */
  readonly at: number;
  readonly cost: Cost;
}

/** Finds for every open table the ways to the tenant over references of any length. Paths never lead in a circle. */
export function reachTenants(land: Landscape): ReadonlyMap<TableName, Ownership> {
  const edges = new Map<TableName, Edge[]>();
  for (const table of land.open) edges.set(table, edgesFrom(land, table));
  const { cost, rank } = settle(land, edges);
  const rankOf = (table: TableName): number => rank.get(table) ?? Number.POSITIVE_INFINITY;
  const order = [...land.open].filter((table) => rank.has(table)).sort((left, right) => rankOf(left) - rankOf(right));
  const usable = new Map(order.map((table) => [table, (edges.get(table) ?? []).filter(({ reference }) => rank.has(reference.table)).sort(byCertainty(cost))]));

  // Ways to tables that reached the tenant earlier cannot lead in a circle. They are all laid before any other is tried.
  const ways = new Map<TableName, Edge[]>();
  for (const table of order) ways.set(table, sufficient((usable.get(table) ?? []).filter(({ reference }) => rankOf(reference.table) < rankOf(table))));
  const reached = new Map<TableName, Ownership>();
  for (const table of order) {
    const certain = (ways.get(table) ?? []).some(isCertain);
    if (!certain) {
      for (const edge of [...(usable.get(table) ?? []), ...ownersOf(land, table, rankOf)]) {
        const laid = ways.get(table) ?? [];
        if (!laid.includes(edge) && !leadsTo(edge.reference.table, table, ways)) ways.set(table, [...laid, edge]);
      }
    }
    const all = usable.get(table) ?? [];
    const laid = ways.get(table) ?? [];
    const chosen = sufficient([...all.filter((edge) => laid.includes(edge)), ...laid.filter((edge) => !all.includes(edge))]).slice(0, pathsMax);
    ways.set(table, chosen);
    reached.set(table, { paths: chosen.map(({ reference }) => toPath(reference)), certain: chosen.some(isCertain), why: describe(chosen, all) });
  }
  return reached;
}

/** One way that is never null is enough. */
function sufficient(ordered: readonly Edge[]): Edge[] {
  const certain = ordered.find(isCertain);
  return certain ? [certain] : [...ordered];
}

function toPath({ table, columns, references }: Reference): Path {
  return { table, columns, references };
}

function edgesFrom({ tables, references, root }: Landscape, table: TableName): Edge[] {
  const relation = tables.get(table);
  return references.from(table).flatMap((reference) => {
    const target = tables.get(reference.table);
    if (!relation || !target) return [];
    const [first = ''] = reference.columns;
    const column = columnOf(relation, first);
    if (!column || (reference.table === root && isPointer(column))) return [];
    // Small numbers match any table; without a foreign key a wrong one would give rows to the wrong tenant unnoticed.
    if (reference.constraint === undefined && !isTellingKey(column.type)) return [];
    return {
      reference,
      owner: false,
      at: column.number,
      cost: [reference.nullable ? 1 : 0, reference.constraint === undefined ? 1 : 0, isPeopleTable(target) ? 1 : 0, 1],
    };
  });
}

/**
 * Where every way out may be null, rows that one row each refers to (settings of a team) take the tenant of who refers to them.
 * Only tables that reached the tenant before, without this one, can say so.
 */
function ownersOf({ tables, references, root }: Landscape, table: TableName, rankOf: (table: TableName) => number): Edge[] {
  const relation = tables.get(table);
  // Whoever refers to people does not own them.
  if (!relation || isPeopleTable(relation)) return [];
  return references.to(table).flatMap(({ from, reference }) => {
    if (rankOf(from) >= rankOf(table) || reference.constraint === undefined) return [];
    if (from !== root && !isUniqueIn(tables.get(from), reference.columns)) return [];
    const back: Reference = { columns: reference.references, table: from, references: reference.columns, nullable: true, constraint: reference.constraint };
    return { reference: back, owner: true, at: 0, cost: [1, 0, 0, 1] };
  });
}

/** Dijkstra over the open tables; the rank is the order in which they were reached. */
function settle({ settled, open, references }: Landscape, edges: ReadonlyMap<TableName, readonly Edge[]>) {
  const cost = new Map<TableName, Cost>();
  const rank = new Map<TableName, number>();
  for (const table of settled) {
    cost.set(table, [0, 0, 0, 0]);
    rank.set(table, 0);
  }
  const frontier = new Map<TableName, Cost>();
  const relax = (parent: TableName): void => {
    const soFar = cost.get(parent);
    for (const { from } of references.to(parent)) {
      if (!soFar || !open.has(from) || rank.has(from)) continue;
      for (const edge of edges.get(from) ?? []) {
        if (edge.reference.table !== parent) continue;
        const total = add(soFar, edge.cost);
        const best = frontier.get(from);
        if (!best || compare(total, best) < 0) frontier.set(from, total);
      }
    }
  };
  for (const table of settled) relax(table);
  while (frontier.size > 0) {
    const [next] = [...frontier].reduce((best, entry) => ((compare(entry[1], best[1]) || (entry[0] < best[0] ? -1 : 1)) < 0 ? entry : best));
    cost.set(next, frontier.get(next) ?? [0, 0, 0, 0]);
    rank.set(next, rank.size);
    frontier.delete(next);
    relax(next);
  }
  return { cost, rank };
}

function isUniqueIn(relation: Relation | undefined, columns: readonly string[]): boolean {
  return (
    relation?.indexes.some(
      (index) =>
        index.unique && index.predicate === undefined && index.columns.length === columns.length && columns.every((column) => index.columns.includes(column)),
    ) ?? false
  );
}

function leadsTo(from: TableName, to: TableName, ways: ReadonlyMap<TableName, readonly Edge[]>, seen = new Set<TableName>()): boolean {
  if (from === to) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return (ways.get(from) ?? []).some(({ reference }) => leadsTo(reference.table, to, ways, seen));
}

function isCertain({ reference, owner }: Edge): boolean {
  return !owner && !reference.nullable && reference.constraint !== undefined;
}

function byCertainty(cost: ReadonlyMap<TableName, Cost>) {
  const total = ({ reference, cost: own }: Edge) => add(cost.get(reference.table) ?? [0, 0, 0, 0], own);
  return (left: Edge, right: Edge): number => Number(isCertain(right)) - Number(isCertain(left)) || compare(total(left), total(right)) || left.at - right.at;
}

function add(left: Cost, right: Cost): Cost {
  return [left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3]];
}

function compare(left: Cost, right: Cost): number {
  return left[0] - right[0] || left[1] - right[1] || left[2] - right[2] || left[3] - right[3];
}

function describe(chosen: readonly Edge[], usable: readonly Edge[]): string {
  const ways = chosen.map(({ reference, owner }) => (owner ? `${reference.table} referring to it` : way(reference)));
  const others = usable.filter((edge) => !chosen.includes(edge)).map(({ reference }) => way(reference));
  const main = ways.length === 1 ? `${ways[0]} leads to the tenant` : `the first of ${ways.join(', ')} that gives one leads to the tenant`;
  const missing = chosen.some(({ reference }) => !reference.nullable) ? '' : '; each may be missing, and rows without a tenant are listed before contract';
  const also = others.length > 0 ? `; rows on which ${others.slice(0, 3).join(', ')} disagree are listed before contract` : '';
  const unheld = chosen.some(({ reference }) => reference.constraint === undefined) ? '; no foreign key holds what is only named so' : '';
  return `${main}${missing}${also}${unheld}`;
}

function way({ columns, table, constraint }: Reference): string {
  return `${columns.join(', ')} (${constraint === undefined ? 'named after ' : ''}${table})`;
}
