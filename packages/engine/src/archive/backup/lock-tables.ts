import { quoted } from '../../model/table-name.ts';
import type { Source } from './sources.ts';

/** Of each attempt to lock the tables of a backup. */
export const lockTimeoutMs = 5_000;

/** Against TRUNCATE and rebuilding: after either, an older snapshot finds no rows, and says nothing. */
export function lockTablesSql(sources: readonly Source[]): string {
  const tables = sources.flatMap(({ leaves }) => leaves.map(({ table }) => `only ${quoted(table)}`));
  return `lock table ${tables.join(', ')} in access share mode`;
}
