import { type Catalog, columnOf, type Index, type Relation } from '../catalog/catalog.ts';
import { isPeopleTable } from './people.ts';
import type { TableName } from './table-name.ts';
import { snake } from './words.ts';

export type UniqueMeaning = 'per tenant' | 'global';

export interface JudgedUnique {
  readonly meaning: UniqueMeaning;
  readonly why: string;
}

/**
 * What each unique index without the tenant column means, by the name the model uses (its constraint's, else its own). One value
 * per tenant is the rule; in all tenants it stays where the value is looked up before a tenant is known, cannot be guessed, or
 * comes from one source for all. Primary keys are left alone: what refers to them needs them as they are.
 */
export function judgeUniques(relation: Relation, tenantColumn: string, outsiders: Outsiders): Map<string, JudgedUnique> {
  const judged = new Map<string, JudgedUnique>();
  for (const index of relation.indexes) {
    if (!isJudged(index, tenantColumn)) continue;
    judged.set(index.constraint ?? index.name, judge(relation, index, outsiders));
  }
  return judged;
}

/** Partywall's own indexes lead with the tenant column, so their names need no exception. */
export function isJudged(index: Index, tenantColumn: string): boolean {
  return index.unique && !index.primary && index.attachedTo === undefined && !index.columns.includes(tenantColumn);
}

function judge(relation: Relation, index: Index, outsiders: Outsiders): JudgedUnique {
  const names = index.columns.map((column) => column ?? 'an expression').join(', ');
  const columns = columnsIn(relation, index);
  const outsider = outsiders.of(relation.table, index.columns);
  if (outsider) return { meaning: 'global', why: `${outsider} refers to it and is not scoped` };
  const secret = columns.find((column) => isUnguessable(column, columnOf(relation, column)?.type ?? ''));
  if (secret) return { meaning: 'global', why: `${secret} is random or given by another system` };
  const drawn = columns.find((column) => isDrawn(relation, column));
  if (drawn) return { meaning: 'global', why: `${drawn} is drawn from one sequence` };
  const signIn = isPeopleTable(relation) ? columns.find((column) => /(?:^|_)(?:email|username|login|phone|mobile)(?:_|$)/.test(snake(column))) : undefined;
  if (signIn) return { meaning: 'global', why: `people sign in by ${signIn} before their tenant is known` };
  const host = columns.find((column) => /(?:^|_)(?:domain|subdomain|host|hostname|fqdn)(?:_|$)/.test(snake(column)));
  if (host) return { meaning: 'global', why: `a request finds its tenant by ${host}` };
  return { meaning: 'per tenant', why: `${names}: each tenant may have the same` };
}

const unguessable =
  /(?:^|_)(?:token|tokens|hash|hashed|digest|sha|sha1|sha256|checksum|fingerprint|secret|uuid|guid|ulid|cuid|nanoid|nonce|jti|external|foreign_id|remote_id|gid|stripe|provider|api_key|storage_key|access_key|public_key|object_key|s3_key|blob_key|idempotency_key|short_code|short_link|invite_code|invitation_code|share_id|share_code|public_id|client_id|message_id|webhook_id|arn|uri|url)(?:_|$)/;

function isUnguessable(column: string, type: string): boolean {
  return unguessable.test(snake(column)) || (type === 'uuid' && !/_?id$/.test(snake(column)));
}

function isDrawn(relation: Relation, name: string): boolean {
  const column = columnOf(relation, name);
  return (
    column !== undefined && (column.identity || (column.default?.startsWith('nextval(') ?? false) || /gen_random_uuid|uuid_generate/.test(column.default ?? ''))
  );
}

/** Key columns, and for an expression the columns that its text names. */
function columnsIn(relation: Relation, index: Index): string[] {
  const plain = index.columns.filter((column) => column !== undefined);
  if (plain.length === index.columns.length) return plain;
  const text = index.definition.slice(index.definition.indexOf('('));
  const named = relation.columns
    .filter(({ name }) => new RegExp(`(?<![\\w"])"?${name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}"?(?![\\w"])`).test(text))
    .map(({ name }) => name);
  return [...new Set([...plain, ...named])];
}

/** Tables outside the wall whose foreign keys refer to columns of a table: they keep a plain key on these. */
export interface Outsiders {
  of(table: TableName, columns: readonly (string | undefined)[]): TableName | undefined;
}

export function outsiders(catalog: Catalog, isScoped: (table: TableName) => boolean): Outsiders {
  const found = new Map<string, TableName>();
  const keyOf = (table: TableName, columns: readonly (string | undefined)[]) => JSON.stringify([table, ...columns.map(String).sort()]);
  for (const relation of catalog.relations.values()) {
    if (isScoped(relation.table)) continue;
    for (const { foreign } of relation.constraints) if (foreign) found.set(keyOf(foreign.table, foreign.columns), relation.table);
  }
  return { of: (table, columns) => found.get(keyOf(table, columns)) };
}
