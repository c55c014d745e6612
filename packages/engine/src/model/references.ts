import { type Catalog, type Column, columnOf, type Relation } from '../catalog/catalog.ts';
import { keyFamily, sameKeyFamily } from './key-types.ts';
import { governing } from './listed-tables.ts';
import type { TableName } from './table-name.ts';
import { singular, stemOf, wordsOf } from './words.ts';

/** One table's rows point at rows of another listed table. */
export interface Reference {
  readonly columns: readonly string[];
  readonly table: TableName;
  readonly references: readonly string[];
  /** Some rows may lead nowhere: a column may be null, or the key is not proven for the rows there are. */
  readonly nullable: boolean;
  /** The foreign key; undefined where only a column's name and type say so. */
  readonly constraint: string | undefined;
}

export interface References {
  /** From a listed table; a table's references to itself are left out, they lead nowhere new. */
  from(table: TableName): readonly Reference[];
  /** To a listed table. */
  to(table: TableName): readonly { readonly from: TableName; readonly reference: Reference }[];
}

const none: readonly never[] = [];

export function readReferences(catalog: Catalog, listed: readonly Relation[]): References {
  const stems = tablesByStem(listed);
  const outgoing = new Map<TableName, Reference[]>();
  const incoming = new Map<TableName, { from: TableName; reference: Reference }[]>();
  for (const relation of listed) {
    const found = [...declared(catalog, relation), ...implied(relation, stems)].filter(({ table }) => table !== relation.table);
    outgoing.set(relation.table, distinct(found));
  }
  for (const [from, references] of outgoing) {
    for (const reference of references) {
      const group = incoming.get(reference.table);
      if (group) group.push({ from, reference });
      else incoming.set(reference.table, [{ from, reference }]);
    }
  }
  return { from: (table) => outgoing.get(table) ?? none, to: (table) => incoming.get(table) ?? none };
}

/** (type, id) pairs that name their table in a value: `record_type, record_id`; Django's `content_type_id, object_id`. */
export function polymorphicPairs(relation: Relation): { readonly type: string; readonly id: string }[] {
  const held = new Set(relation.constraints.flatMap(({ kind, foreign, columns }) => (foreign || (kind === 'primary' && columns.length === 1) ? columns : [])));
  const byWords = new Map(relation.columns.map((column) => [wordsOf(column.name).join(' '), column]));
  return relation.columns.flatMap((column) => {
    if (held.has(column.name)) return [];
    const words = wordsOf(column.name);
    const last = words.at(-1);
    if (words.length < 2 || (last !== 'id' && last !== 'uuid' && last !== 'key')) return [];
    const stem = words.slice(0, -1).join(' ');
    const type = byWords.get(`${stem} type`) ?? byWords.get(`${stem} class`) ?? byWords.get(`${stem} model`) ?? djangoType(stem, byWords);
    return type ? [{ type: type.name, id: column.name }] : [];
  });
}

function djangoType(stem: string, byWords: ReadonlyMap<string, Column>): Column | undefined {
  return stem === 'object' ? byWords.get('content type id') : undefined;
}

/** References by foreign key. */
export function declared(catalog: Catalog, relation: Relation): Reference[] {
  return relation.constraints.flatMap(({ foreign, columns, name, validated, enforced }) => {
    if (!foreign) return [];
    const target = governing(catalog, foreign.table);
    if (!target) return [];
    const nullable = !validated || !enforced || columns.some((column) => columnOf(relation, column)?.notNull !== true);
    return [{ columns, table: target.table, references: foreign.columns, nullable, constraint: name }];
  });
}

/**
 * References that no foreign key holds, as Rails, `relationMode = "prisma"` and older schemas have them: a column named after
 * exactly one table, of the type of its key.
 */
function implied(relation: Relation, stems: ReadonlyMap<string, readonly Relation[]>): Reference[] {
  const held = new Set(relation.constraints.flatMap(({ foreign, columns }) => (foreign ? columns : [])));
  const pairs = new Set(polymorphicPairs(relation).map(({ id }) => id));
  return relation.columns.flatMap((column) => {
    if (held.has(column.name) || pairs.has(column.name)) return [];
    const words = wordsOf(column.name);
    const suffix = words.at(-1);
    if (words.length < 2 || (suffix !== 'id' && suffix !== 'uuid')) return [];
    const named = stems.get(words.slice(0, -1).map(singular).join(' ')) ?? [];
    const near = named.length > 1 ? named.filter(({ schema }) => schema === relation.schema) : named;
    const [target] = near;
    const key = target && near.length === 1 && target.table !== relation.table ? keyNamed(target, suffix) : undefined;
    if (!target || !key || !sameKeyFamily(key.type, column.type)) return [];
    return [{ columns: [column.name], table: target.table, references: [key.name], nullable: !column.notNull, constraint: undefined }];
  });
}

/** The column of a table that `x_id` or `x_uuid` elsewhere holds. */
function keyNamed(relation: Relation, suffix: string): Column | undefined {
  const named = columnOf(relation, suffix);
  if (named) return named;
  const primary = relation.constraints.find(({ kind }) => kind === 'primary');
  return primary?.columns.length === 1 && suffix === 'id' ? columnOf(relation, primary.columns[0] ?? '') : undefined;
}

function tablesByStem(listed: readonly Relation[]): ReadonlyMap<string, readonly Relation[]> {
  const prefix = prefixes(listed);
  const stems = new Map<string, Relation[]>();
  for (const relation of listed) {
    if (relation.kind === 'matview') continue;
    const words = stemOf(relation.name);
    const own = words.join(' ');
    const bare = words.length > 1 && prefix.has(`${relation.schema} ${words[0]}`) ? words.slice(1).join(' ') : own;
    for (const stem of new Set([own, bare])) stems.set(stem, [...(stems.get(stem) ?? []), relation]);
  }
  return stems;
}

/** First words that half of a schema's tables share: `af_workspace`, `tbl_company`. */
export function prefixes(listed: readonly Relation[]): ReadonlySet<string> {
  const counts = new Map<string, number>();
  const sizes = new Map<string, number>();
  for (const { schema, name } of listed) {
    const first = `${schema} ${stemOf(name)[0]}`;
    counts.set(first, (counts.get(first) ?? 0) + 1);
    sizes.set(schema, (sizes.get(schema) ?? 0) + 1);
  }
  return new Set(
    [...counts].filter(([first, count]) => count >= 4 && count * 2 > (sizes.get(first.slice(0, first.lastIndexOf(' '))) ?? 0)).map(([first]) => first),
  );
}

function distinct(references: readonly Reference[]): Reference[] {
  const seen = new Map<string, Reference>();
  for (const reference of references) {
    const key = JSON.stringify([reference.columns, reference.table, reference.references]);
    if (!seen.has(key)) seen.set(key, reference);
  }
  return [...seen.values()];
}

/** Whether a value that matches by accident is out of the question: random or textual keys, not small numbers. */
export function isTellingKey(type: string): boolean {
  return keyFamily(type) !== 'integer';
}
