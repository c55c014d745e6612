import type { Column } from '../../catalog/catalog.ts';
import type { TenancyModel } from '../../model/model.ts';
import type { TransferTable } from '../../tenants/transfer/tables.ts';
import type { SourceTable } from '../tenant-source.ts';

/**
 * Which column of the source goes where, when the schema has changed since. Nothing is guessed: what could be a rename is a question, and what
 * would lose something is refused.
 */
export interface Alignment {
  /** In the live order of references. */
  readonly tables: readonly AlignedTable[];
  /** What differs and does no harm, a line each, for the plan. */
  readonly notes: readonly string[];
  /** What stands in the way, a line each. */
  readonly problems: readonly string[];
}

export interface AlignedTable {
  /** The live table, with the columns that are restored. */
  readonly live: TransferTable;
  readonly source: SourceTable;
  /** The columns of the source, in its order. */
  readonly columns: readonly AlignedColumn[];
  /** Partywall added the tenant column since the source was made: the tenant is known. */
  readonly addsTenant: boolean;
}

export interface AlignedColumn {
  readonly name: string;
  readonly type: string;
  /** The live column that takes it; undefined: none does. */
  readonly target: { readonly name: string; readonly type: string } | undefined;
}

/** What a person decides about a changed schema. */
export interface AlignChoices {
  /** Only these tables. */
  readonly tables?: readonly string[] | undefined;
  /** Live column by the column of the source that it was: `{ 'public.t.old': 'new' }`. */
  readonly rename?: Readonly<Record<string, string>> | undefined;
  /** Tables that stay as they are, and columns of the source that nothing takes: `public.t`, `public.t.old`. */
  readonly leave?: readonly string[] | undefined;
}

/** @param live the root and every scoped table of the live database, in the order of their references */
export function alignSource(source: readonly SourceTable[], live: readonly TransferTable[], model: TenancyModel, choices: AlignChoices = {}): Alignment {
  const notes: string[] = [];
  const problems: string[] = unknownNames(source, live, choices);
  const given = new Map(source.map((table) => [table.name, table]));
  const left = new Set(choices.leave);
  const wanted = (name: string): boolean => (choices.tables === undefined || choices.tables.includes(name)) && !left.has(name);
  const tables: AlignedTable[] = [];
  const fresh: string[] = [];
  for (const table of live) {
    const { table: name } = table.relation;
    if (!wanted(name)) continue;
    const from = given.get(name);
    if (!from) {
      fresh.push(name);
      notes.push(`${name} is newer than the backup: its rows stay as they are`);
      continue;
    }
    const found = alignTable(from, table, { model, choices });
    notes.push(...found.notes);
    problems.push(...found.problems);
    tables.push(found.table);
  }
  const here = new Set<string>(live.map(({ relation }) => relation.table));
  for (const { name, count } of source) {
    if (here.has(name) || !wanted(name)) continue;
    if (count > 0 && fresh.length > 0) {
      problems.push(`${name} of the backup is not here, and ${fresh.join(', ')} is new: if it is the same table, restore it by hand; else leave ${name}`);
    } else notes.push(`${name} is not here any more: its ${count} rows are left out`);
  }
  return { tables, notes, problems };
}

function alignTable(
  source: SourceTable,
  live: TransferTable,
  { model, choices }: { readonly model: TenancyModel; readonly choices: AlignChoices },
): { table: AlignedTable; notes: string[]; problems: string[] } {
  const { table: name } = live.relation;
  const notes: string[] = [];
  const problems: string[] = [];
  const targets = new Map(live.columns.map((column) => [column.name, column]));
  const kept = live.isRoot ? [model.tenant.status?.column, model.tenant.profile.plan] : [];
  const columns = source.columns.map((column): AlignedColumn => {
    const renamed = choices.rename?.[`${name}.${column.name}`];
    const target = targets.get(renamed ?? column.name);
    if (renamed !== undefined && !target) problems.push(`${name}.${renamed} is not here, and ${column.name} was to become it`);
    return { ...column, target: target && { name: target.name, type: target.type } };
  });
  const taken = new Set(columns.flatMap(({ target }) => target?.name ?? []));
  const addsTenant = !taken.has(live.tenantColumn);
  const added = live.columns.filter((column) => !taken.has(column.name) && column.name !== live.tenantColumn);
  for (const { name: column, type, target } of columns) {
    const full = `${name}.${column}`;
    if (target) {
      if (target.type !== type) notes.push(`${full} was ${type} and is ${target.type}: converted where nothing is lost`);
      continue;
    }
    // The lifecycle's own columns stay what they are.
    if (kept.includes(column)) continue;
    const alike = added.filter((other) => other.type === type).map((other) => other.name);
    if (choices.leave?.includes(full) || alike.length === 0) notes.push(`${full} is not here any more: left out`);
    else problems.push(`${full} is not here, and ${alike.join(', ')} is new: rename ${full}=${alike[0]} if it is the same column, else leave ${full}`);
  }
  for (const { name: column } of added) {
    const fact = live.relation.columns.find((each) => each.name === column);
    if (fact && cannotBeDerived(fact)) problems.push(`${name}.${column} is new, has no default and must have a value`);
    else notes.push(`${name}.${column} is new: rows that come back get its default, rows that are there keep theirs`);
  }
  if (addsTenant) notes.push(`${name}.${live.tenantColumn} is new: it is the tenant`);
  const restored = live.columns.filter((column) => taken.has(column.name) || column.name === live.tenantColumn);
  const unkeyed = live.key.filter((column) => !restored.some((each) => each.name === column));
  if (live.key.length === 0) problems.push(`${name} has no key, so its rows cannot be told apart: leave ${name}`);
  else if (unkeyed.length > 0) problems.push(`${name} has another key since: ${unkeyed.join(', ')} is not in the backup`);
  return { table: { live: { ...live, columns: restored }, source, columns, addsTenant }, notes, problems };
}

function cannotBeDerived({ notNull, default: standard, identity, generated }: Column): boolean {
  return notNull && standard === undefined && !identity && !generated;
}

/** A name that is mistyped must not widen or narrow what is restored. */
function unknownNames(source: readonly SourceTable[], live: readonly TransferTable[], { tables = [], rename = {}, leave = [] }: AlignChoices): string[] {
  const known = new Set<string>([...source.map(({ name }) => name), ...live.map(({ relation }) => relation.table)]);
  const columns = new Set(source.flatMap(({ name, columns: each }) => each.map((column) => `${name}.${column.name}`)));
  return [
    ...tables.filter((name) => !known.has(name)).map((name) => `${name} is no table of tenants, here or in the backup`),
    ...Object.keys(rename)
      .filter((name) => !columns.has(name))
      .map((name) => `${name} is no column of the backup`),
    ...leave.filter((name) => !known.has(name) && !columns.has(name)).map((name) => `${name} is no table and no column of the backup`),
  ];
}
