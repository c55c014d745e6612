import { createHash } from 'node:crypto';
import type { TenantSource } from '../tenant-source.ts';

/** What a tenant's rows amount to: equal for equal rows wherever they are, as long as they come in the order of their keys. */
export interface SourceHash {
  readonly rows: number;
  readonly sha256: string;
}

/** Reads all of a source, and keeps nothing of it. */
export async function hashSource(source: TenantSource): Promise<SourceHash> {
  const total = createHash('sha256');
  let rows = 0;
  for (const table of source.tables.toSorted((left, right) => (left.name < right.name ? -1 : 1))) {
    const hash = createHash('sha256');
    for await (const lines of source.rows(table)) hash.update(lines);
    // By name: a column may stand elsewhere in another database, but then its values would too.
    const columns = table.columns.map(({ name, type }) => [name, type]);
    total.update(JSON.stringify([table.name, columns, table.count, hash.digest('hex')]));
    rows += table.count;
  }
  return { rows, sha256: total.digest('hex') };
}
