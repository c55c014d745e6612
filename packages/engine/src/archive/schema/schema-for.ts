import type { TableName } from '../../model/table-name.ts';
import type { SchemaDdl, SchemaItem } from './schema-document.ts';

export interface PartialSchema {
  readonly schema: SchemaDdl;
  /** Ids of what belongs to the tables and is not made, because it needs another table: foreign keys, views, triggers. */
  readonly left: readonly string[];
}

/**
 * The part of a schema that some tables need: they, what their columns and defaults stand on, and of what is made after the rows (keys, indexes,
 * checks, policies, rights) that which needs no table outside. For staging; the order stays.
 */
export function schemaFor(schema: SchemaDdl, tables: readonly TableName[]): PartialSchema {
  const wanted = new Set<string>(tables);
  const items = new Map(schema.items.map((item) => [item.id, item]));
  const kept = new Set<string>();
  const keep = (item: SchemaItem): void => {
    if (kept.has(item.id)) return;
    kept.add(item.id);
    for (const id of [...item.needs, `stub of ${item.id}`]) {
      const other = items.get(id);
      if (other) keep(other);
    }
  };
  const isWanted = ({ table }: SchemaItem): boolean => table !== null && wanted.has(table);
  for (const item of schema.items) if (item.phase === 'before' && isWanted(item)) keep(item);

  const left: string[] = [];
  for (const item of schema.items) {
    if (item.phase === 'before') continue;
    const isKept = item.needs.length > 0 && item.needs.every((id) => kept.has(id));
    if (isKept) kept.add(item.id);
    else if (isWanted(item)) left.push(item.id);
  }
  return { schema: { ...schema, items: schema.items.filter(({ id }) => kept.has(id)) }, left };
}
