import { type LiveSource, liveSource, type Operation, type SourceTable, type TenantSource } from '@partywall/engine';

/** A tenant as it was, kept in memory: what a backup would give. */
export async function kept(operation: Operation, tenant: string): Promise<TenantSource> {
  const live: LiveSource = await liveSource(operation, tenant);
  const rows = new Map<string, Buffer[]>();
  try {
    for (const table of live.tables) {
      const pieces: Buffer[] = [];
      for await (const piece of live.rows(table)) pieces.push(Buffer.from(piece));
      rows.set(table.name, pieces);
    }
  } finally {
    live.close();
  }
  const tables = live.tables.map(({ name, columns, key, tenantColumn, count }) => ({ name, columns, key, tenantColumn, count }));
  return { tenant, at: live.at, description: 'a kept copy', tables, rows: ({ name }) => from(rows.get(name) ?? []) };
}

/** The same source with one table changed. */
export function changed(
  source: TenantSource,
  name: string,
  change: { readonly table?: Partial<SourceTable>; readonly rows?: (text: string) => string },
): TenantSource {
  return {
    ...source,
    tables: source.tables.map((table) => (table.name === name ? { ...table, ...change.table } : table)),
    rows: async function* (table) {
      if (table.name !== name || !change.rows) {
        yield* source.rows(table);
        return;
      }
      const pieces: Buffer[] = [];
      for await (const piece of source.rows(table)) pieces.push(piece);
      yield Buffer.from(change.rows(Buffer.concat(pieces).toString('utf8')));
    },
  };
}

async function* from(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) yield piece;
}
