import { auditTables } from '../../audit/records.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import { effectiveRule } from '../../wall/shape.ts';
import type { DataClass } from '../format/manifest.ts';
import type { TableFacts } from './table-facts.ts';

/** A table that a backup reads. */
export interface Source {
  readonly name: TableName;
  readonly class: DataClass;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly key: readonly string[];
  readonly owner: Owner;
  /** A row whose tenant is not registered is worth a word: the model promises that there are none. */
  readonly strict: boolean;
  /** The table itself, or its partitions. */
  readonly leaves: readonly TableFacts[];
}

/** Whose a row is: that of the tenant in a column, which comes first; of a tenant who is found by an expression; nobody's. */
export type Owner = { readonly kind: 'column'; readonly column: string } | { readonly kind: 'found'; readonly sql: string } | { readonly kind: 'platform' };

export interface Sources {
  readonly sources: readonly Source[];
  /** Tables that are not read, each with its reason, a line each. */
  readonly left: readonly string[];
  /** What a backup is refused for unless the caller allows to leave it out. */
  readonly refused: readonly { readonly kind: Allowance; readonly what: string }[];
}

/** What may be left out of a backup where the caller says so. */
export const allowances = ['unlogged', 'large-objects'] as const;
export type Allowance = (typeof allowances)[number];

export const ownSchemas = ['partywall', 'partywall_control', 'partywall_people'] as const;

/** The person's only tenant. Who belongs to several, to none, or runs the platform is the platform's. */
function tenantOfPerson(person: string): string {
  return `(select case when count(*) = 1 then min(m."organizationId") end from partywall_people."member" m
    where m."userId" = ${person} and not exists (select from partywall_people."user" u where u."id" = m."userId" and u."superAdmin"))`;
}

/** Of sign-in: what is a tenant's, so that it can be read no more once the tenant's key is gone. */
const peopleOwners: Readonly<Record<string, Owner>> = {
  user: { kind: 'found', sql: tenantOfPerson('t."id"') },
  account: { kind: 'found', sql: tenantOfPerson('t."userId"') },
  organization: { kind: 'column', column: 'id' },
  member: { kind: 'column', column: 'organizationId' },
  invitation: { kind: 'column', column: 'organizationId' },
  apikey: { kind: 'column', column: 'referenceId' },
};

/** Not kept: a restore must not bring them back. */
const passing: Readonly<Record<string, string>> = {
  'partywall.seal_keys': 'whoever has a key of seals can enter every tenant: what is restored is sealed with keys of its own',
  'partywall_people.session': 'sessions end with a restore: people sign in again',
  'partywall_people.verification': 'codes that were sent, and are over in minutes',
  'partywall_people.sign_in_attempts': 'counts of the last minutes',
  'partywall_control.idempotency_keys': 'answers of the last requests',
  'partywall_control.archive_lineage': 'says which history a database is of, which a restored one is not',
  // It has a row for each tenant, which each verified backup changes: kept, every tenant would have changed since the last one.
  'partywall_control.recovery_points': 'a reconciliation makes them anew from the archive',
};

/** What a backup reads of this database, as the model has it. */
export function sourcesOf(model: TenancyModel, catalog: Catalog, facts: readonly TableFacts[]): Sources {
  const sources: Source[] = [];
  const left: string[] = [];
  const refused: { kind: Allowance; what: string }[] = [];
  if (catalog.largeObjects > 0) refused.push({ kind: 'large-objects', what: `${catalog.largeObjects} large objects` });
  for (const [top, leaves] of Map.groupBy(facts, (each) => each.top)) {
    const reason = passing[top];
    if (reason !== undefined) {
      left.push(`${top}: ${reason}`);
      continue;
    }
    const place = placeOf(model, catalog, top, leaves);
    if (typeof place === 'string') {
      left.push(`${top}: ${place}`);
      continue;
    }
    for (const { table } of leaves.filter(({ unlogged }) => unlogged)) refused.push({ kind: 'unlogged', what: `${table} is unlogged` });
    sources.push(sourceOf(top, leaves, place));
  }
  for (const relation of catalog.relations.values()) {
    if (relation.kind === 'foreign') left.push(`${relation.table}: a foreign table, whose rows are elsewhere`);
  }
  return { sources, left: left.sort(), refused };
}

interface Place {
  readonly class: DataClass;
  readonly owner: Owner;
  readonly strict: boolean;
}

function placeOf(model: TenancyModel, catalog: Catalog, top: TableName, leaves: readonly TableFacts[]): Place | string {
  const [first] = leaves;
  const platform: Owner = { kind: 'platform' };
  switch (first?.schema) {
    case 'partywall':
      return { class: 'database', owner: platform, strict: false };
    case 'partywall_control': {
      const owner: Owner = first.columns.some(({ name }) => name === 'tenant_id') ? { kind: 'column', column: 'tenant_id' } : platform;
      return { class: auditTables.includes(top) ? 'audit' : 'configuration', owner, strict: false };
    }
    case 'partywall_people':
      return { class: 'configuration', owner: peopleOwners[first.name] ?? platform, strict: false };
    default:
      return placeByModel(model, catalog, top);
  }
}

function placeByModel(model: TenancyModel, catalog: Catalog, top: TableName): Place | string {
  const relation = catalog.relations.get(top);
  if (!relation) return 'made while the backup began';
  if (relation.extension !== undefined) return `belongs to the extension ${relation.extension}`;
  const rule = effectiveRule(model, catalog, relation);
  if (rule === undefined) return `the model says nothing of schema ${relation.schema}`;
  if (rule === 'root') return { class: 'database', owner: { kind: 'column', column: model.tenant.key }, strict: true };
  switch (rule.scope) {
    case 'scoped':
      return { class: 'database', owner: { kind: 'column', column: rule.column }, strict: true };
    case 'shared':
    case 'platform':
      return { class: 'database', owner: { kind: 'platform' }, strict: false };
    case 'unclassified':
      throw new PartywallError('backup_refused', `reading the model: ${top} is unclassified`);
  }
}

function sourceOf(name: TableName, leaves: readonly TableFacts[], { class: dataClass, owner, strict }: Place): Source {
  const columns = leaves[0]?.columns ?? [];
  if (owner.kind === 'column' && !columns.some((column) => column.name === owner.column)) {
    throw new PartywallError('backup_refused', `reading ${name}: it has no column ${owner.column} yet`, { hint: 'run `partywall apply` first' });
  }
  const isOwners = (column: { readonly name: string }): boolean => owner.kind === 'column' && column.name === owner.column;
  return {
    name,
    class: dataClass,
    columns: [...columns.filter(isOwners), ...columns.filter((column) => !isOwners(column))],
    key: leaves[0]?.primaryKey ?? [],
    owner,
    strict,
    leaves,
  };
}

/** For FROM: the rows of this table and of no child. */
export function rowsOf({ table }: TableFacts): string {
  return `only ${quoted(table)} t`;
}

/** Text of the tenant's key, for GROUP BY. */
export function ownerSql({ owner }: Source): string {
  switch (owner.kind) {
    case 'column':
      return `t.${ident(owner.column)}::text`;
    case 'found':
      return owner.sql;
    case 'platform':
      return "''::text";
  }
}
