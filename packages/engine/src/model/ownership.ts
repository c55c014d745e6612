import type { Relation } from '../catalog/catalog.ts';
import { columnOf } from '../catalog/catalog.ts';
import type { Path } from './model.ts';
import { isActorColumn, isPeopleTable } from './people.ts';
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
 * whoever did something (created_by), all hops. A long certain way is better than a short one that may be null.
 */
type Cost = readonly [nullable: number, unheld: number, actor: number, hops: number];

interface Edge {
  readonly reference: Reference;
  readonly cost: Cost;
}

/** Finds for every open table the ways to the tenant over references of any length. Paths never lead in a circle. */
export function reachTenants(land: Landscape): ReadonlyMap<TableName, Ownership> {
  const edges = new Map<TableName, Edge[]>();
  for (const table of land.open) edges.set(table, edgesFrom(land, table));
  const { cost, rank } = settle(land, edges);

  const leads = new Map<TableName, TableName[]>();
  const reached = new Map<TableName, Ownership>();
  for (const table of [...land.open].filter((each) => rank.has(each)).sort((left, right) => (rank.get(left) ?? 0) - (rank.get(right) ?? 0))) {
    const usable = (edges.get(table) ?? []).filter(({ reference }) => rank.has(reference.table)).sort(byCertainty(cost));
    const chosen = choose({ table, usable, rank, leads });
    const owners = chosen.some(isCertain) ? [] : ownersOf(land, table, rank, leads);
    leads.set(
      table,
      [...chosen, ...owners].map(({ reference }) => reference.table),
    );
    reached.set(table, {
      paths: [...chosen, ...owners]
        .slice(0, pathsMax)
        .map(({ reference: { table: parent, columns, references: keys } }) => ({ table: parent, columns, references: keys })),
      certain: chosen.some(isCertain),
      why: describe(chosen, owners, usable),
    });
  }
  return reached;
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
    const byActor = isPeopleTable(target) && isActorColumn(first, target);
    return { reference, cost: [reference.nullable ? 1 : 0, reference.constraint === undefined ? 1 : 0, byActor ? 1 : 0, 1] };
  });
}

/**
 * Where every way out may be null, rows that one row each refers to (settings of a team) take the tenant of who refers to them.
 * Only tables that reached the tenant before, without this one, can say so.
 */
function ownersOf(
  { tables, references, root }: Landscape,
  table: TableName,
  rank: ReadonlyMap<TableName, number>,
  leads: ReadonlyMap<TableName, readonly TableName[]>,
): Edge[] {
  const own = rank.get(table) ?? 0;
  const relation = tables.get(table);
  // Whoever refers to people does not own them.
  if (!relation || isPeopleTable(relation)) return [];
  return references.to(table).flatMap(({ from, reference }) => {
    const at = rank.get(from);
    if (at === undefined || at >= own || reference.constraint === undefined || leadsTo(from, table, leads)) return [];
    if (from !== root && !isUniqueIn(tables.get(from), reference.columns)) return [];
    const back: Reference = { columns: reference.references, table: from, references: reference.columns, nullable: true, constraint: reference.constraint };
    return { reference: back, cost: [1, 0, 0, 1] };
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

/** One way that is never null is enough; otherwise all ways that do not lead back here. */
function choose({
  table,
  usable,
  rank,
  leads,
}: {
  table: TableName;
  usable: readonly Edge[];
  rank: ReadonlyMap<TableName, number>;
  leads: Map<TableName, TableName[]>;
}): Edge[] {
  const own = rank.get(table) ?? 0;
  const chosen = usable.filter(({ reference }) => (rank.get(reference.table) ?? 0) < own);
  for (const edge of usable) if (!chosen.includes(edge) && !leadsTo(edge.reference.table, table, leads)) chosen.push(edge);
  const ordered = usable.filter((edge) => chosen.includes(edge));
  const certain = ordered.find(isCertain);
  return certain ? [certain] : ordered.slice(0, pathsMax);
}

function leadsTo(from: TableName, to: TableName, leads: ReadonlyMap<TableName, readonly TableName[]>, seen = new Set<TableName>()): boolean {
  if (from === to) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return (leads.get(from) ?? []).some((next) => leadsTo(next, to, leads, seen));
}

function isCertain({ reference }: Edge): boolean {
  return !reference.nullable && reference.constraint !== undefined;
}

function byCertainty(cost: ReadonlyMap<TableName, Cost>) {
  const total = ({ reference, cost: own }: Edge) => add(cost.get(reference.table) ?? [0, 0, 0, 0], own);
  return (left: Edge, right: Edge): number => Number(isCertain(right)) - Number(isCertain(left)) || compare(total(left), total(right));
}

function add(left: Cost, right: Cost): Cost {
  return [left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3]];
}

function compare(left: Cost, right: Cost): number {
  return left[0] - right[0] || left[1] - right[1] || left[2] - right[2] || left[3] - right[3];
}

function describe(chosen: readonly Edge[], owners: readonly Edge[], usable: readonly Edge[]): string {
  const ways = [...chosen.map(({ reference }) => way(reference)), ...owners.map(({ reference: { table } }) => `${table} referring to it`)];
  const others = usable.filter((edge) => !chosen.includes(edge)).map(({ reference }) => way(reference));
  const main = ways.length === 1 ? `${ways[0]} leads to the tenant` : `the first of ${ways.slice(0, pathsMax).join(', ')} that gives one leads to the tenant`;
  const nullable =
    chosen.some(isCertain) || chosen.every(({ reference }) => !reference.nullable)
      ? ''
      : '; each may be missing, and rows without a tenant are listed before contract';
  const also = others.length > 0 ? `; rows on which ${others.slice(0, 3).join(', ')} disagree are listed before contract` : '';
  const unheld = chosen.some(({ reference }) => reference.constraint === undefined) ? '; no foreign key holds what is only named so' : '';
  return `${main}${nullable}${also}${unheld}`;
}

function way({ columns, table, constraint }: Reference): string {
  return `${columns.join(', ')} (${constraint === undefined ? 'named after ' : ''}${table})`;
}
