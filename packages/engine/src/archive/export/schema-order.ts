import { parseTableName, type TableName } from '../../model/table-name.ts';
import type { SchemaDdl } from '../schema/schema-document.ts';
import type { SourceTable } from '../tenant-source.ts';

/** The tables of a source, each after those that it refers to; in a circle of references somebody comes too early. */
export function orderedBySchema(tables: readonly SourceTable[], { items }: SchemaDdl): SourceTable[] {
  const tableOf = new Map(items.map(({ id, table }) => [id, parseTableName(table ?? id.replace(/^table /, ''))]));
  const parents = new Map<TableName, TableName[]>();
  for (const { id, kind, needs } of items) {
    const child = tableOf.get(id);
    if (kind !== 'foreign key' || !child) continue;
    parents.set(child, [...(parents.get(child) ?? []), ...needs.flatMap((need) => tableOf.get(need) ?? [])]);
  }
  const byName = new Map(tables.map((table) => [table.name, table]));
  const ordered: SourceTable[] = [];
  const seen = new Set<TableName>();
  const visit = (name: TableName): void => {
    const table = byName.get(name);
    if (!table || seen.has(name)) return;
    seen.add(name);
    for (const parent of parents.get(name) ?? []) visit(parent);
    ordered.push(table);
  };
  for (const { name } of tables) visit(name);
  return ordered;
}
