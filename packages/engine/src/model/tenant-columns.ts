import { type Column, columnOf, type Relation } from '../catalog/catalog.ts';
import { sameKeyFamily } from './key-types.ts';
import type { Reference } from './references.ts';
import type { TableName } from './table-name.ts';
import { compact, stemOf, wordsOf } from './words.ts';

/** What tenants are called, with how much the name alone says; `customers` is more often a tenant's own. */
export const tenantNouns: ReadonlyMap<string, number> = new Map(
  Object.entries({
    tenant: 100,
    organization: 80,
    workspace: 75,
    company: 60,
    account: 50,
    team: 45,
    merchant: 40,
    agency: 40,
    institution: 40,
    enterprise: 40,
    business: 35,
    firm: 35,
    school: 35,
    clinic: 35,
    household: 35,
    family: 30,
    community: 30,
    shop: 30,
    store: 25,
    site: 25,
    realm: 25,
    instance: 20,
    club: 25,
    vendor: 20,
    partner: 20,
    client: 20,
    customer: 15,
    project: 20,
    group: 15,
    convention: 15,
    facility: 15,
  }),
);

/** Words that make a reference to the root a pointer (which tenant one looks at) instead of ownership. */
const pointerWords = new Set(
  'active current default last latest recent selected primary preferred home original previous next source target from to parent sender receiver recipient impersonated'.split(
    ' ',
  ),
);

/**
 * Compact names of columns that hold the tenant, made from the root's name and its key: `organizationid`, `orgid`,
 * `tenantrecordid`. A root keyed by `tenant_id` itself has columns of that very name.
 */
export function tenantColumnNames(root: Relation, key: string): ReadonlySet<string> {
  const words = stemOf(root.name);
  const last = words.at(-1) ?? '';
  const stems = new Set([words.join(''), last]);
  if (last === 'organization') for (const form of ['org', 'orgs']) stems.add(form);
  const own = compact(key);
  const names = [...stems].flatMap((stem) => ['id', 'uuid', 'guid', own].map((suffix) => `${stem}${suffix}`));
  return new Set(own.endsWith('id') && own !== 'id' ? [...names, own] : names);
}

/** The name that says it whatever the root is called. */
export const generalTenantColumn = 'tenantid';

/** Whether a column speaks of some tenant, loosely: enough to keep a table from being shared, not enough to scope by it. */
export function speaksOfTenant(column: string, names: ReadonlySet<string>): boolean {
  if (names.has(compact(column)) || compact(column) === generalTenantColumn) return true;
  const words = wordsOf(column);
  const last = words.at(-1) ?? '';
  if (!['id', 'ids', 'uuid', 'uuids'].includes(last)) return false;
  const noun = stemOf(words.slice(0, -1).join('_')).at(-1) ?? '';
  return (tenantNouns.get(noun) ?? 0) >= 45 || names.has(`${noun}id`);
}

/** How a table names its tenant by itself. */
export type OwnColumn =
  | { readonly kind: 'own'; readonly column: Column; readonly why: string }
  /** Refers to the root under another name and may be null: one way to the tenant, perhaps beside others. */
  | { readonly kind: 'perhaps'; readonly column: Column }
  /** Refers to the root without saying whose the row is: `current_team_id`. */
  | { readonly kind: 'pointer'; readonly column: Column }
  | { readonly kind: 'doubt'; readonly columns: readonly Column[]; readonly why: string };

export interface RootKey {
  readonly table: TableName;
  readonly key: string;
  readonly type: string;
  readonly names: ReadonlySet<string>;
}

/** Finds the tenant column that a table has already; undefined where it has none. */
export function ownTenantColumn(relation: Relation, references: readonly Reference[], root: RootKey): OwnColumn | undefined {
  const toRoot = references.filter(
    (reference) => reference.constraint !== undefined && reference.table === root.table && reference.references.join() === root.key,
  );
  const rootColumns = columnsOf(relation, toRoot);
  const elsewhere = new Set(
    references
      .filter(({ table, constraint, columns }) => constraint !== undefined && table !== root.table && columns.length === 1)
      .flatMap(({ columns }) => columns),
  );
  const named = relation.columns.filter((column) => root.names.has(compact(column.name)) && (!elsewhere.has(column.name) || rootColumns.includes(column)));

  const held = preferred(named.filter((column) => rootColumns.includes(column)));
  if (held) return own(held, `${held.name} refers to ${root.table}`, rootColumns);
  const fitting = preferred(named.filter((column) => sameKeyFamily(column.type, root.type)));
  if (fitting) {
    if (hasTypeBeside(relation, fitting)) {
      return { kind: 'doubt', columns: [fitting], why: `${fitting.name} comes with a type column, so it may hold more than tenants` };
    }
    return own(fitting, `${fitting.name} is named after ${root.table} and has the type of its key; no foreign key holds it`, rootColumns);
  }
  const [first] = named;
  if (first)
    return {
      kind: 'doubt',
      columns: named,
      why: `${first.name} is named like a tenant column, but has type ${first.type} where ${root.table} has ${root.type}`,
    };
  return fromQualified(rootColumns, root);
}

/** Columns that refer to the root under another name: `owner_org_id`. */
function fromQualified(columns: readonly Column[], root: RootKey): OwnColumn | undefined {
  const [first] = columns;
  if (!first) return undefined;
  const owning = columns.filter((column) => !isPointer(column));
  const certain = owning.filter((column) => column.notNull);
  const [only] = certain.length === 1 ? certain : owning;
  if (!only) return { kind: 'pointer', column: first };
  if (certain.length > 1 || (certain.length === 0 && owning.length > 1)) {
    return { kind: 'doubt', columns: owning, why: `${owning.map(({ name }) => name).join(' and ')} each refer to ${root.table}` };
  }
  return only.notNull ? own(only, `${only.name} refers to ${root.table}`, columns) : { kind: 'perhaps', column: only };
}

function own(column: Column, reason: string, rootColumns: readonly Column[]): OwnColumn {
  const others = rootColumns.filter(({ name }) => name !== column.name).map(({ name }) => name);
  const also = others.length > 0 ? `; ${others.join(', ')} may name another tenant` : '';
  const nullable = column.notNull ? '' : '; it may be null, and rows without a tenant are listed before contract';
  return { kind: 'own', column, why: `${reason}${also}${nullable}` };
}

/** `current_team_id`, unless it is never null and so the only tenant there is. */
export function isPointer(column: Column): boolean {
  return !column.notNull && wordsOf(column.name).some((word) => pointerWords.has(word));
}

function hasTypeBeside(relation: Relation, column: Column): boolean {
  const stem = wordsOf(column.name).slice(0, -1).join(' ');
  return relation.columns.some(({ name }) => wordsOf(name).join(' ') === `${stem} type`);
}

/** Never null first, then as the table has them. */
function preferred(columns: readonly Column[]): Column | undefined {
  return columns.find(({ notNull }) => notNull) ?? columns[0];
}

function columnsOf(relation: Relation, references: readonly Reference[]): Column[] {
  return [...new Set(references.flatMap(({ columns }) => (columns.length === 1 ? columns : [])))].flatMap((name) => columnOf(relation, name) ?? []);
}
