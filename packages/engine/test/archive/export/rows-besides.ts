import { type SourceTable, type TenantSource, tableName } from '@partywall/engine';

export interface MadeRows {
  readonly bytes: number;
  /** Gets the name of a table each time that its rows are asked for. */
  readonly asked: string[];
  /** How many rows the source says beyond those that it gives. */
  readonly miscount?: number;
}

/** A source of one table whose rows are made as they are read. */
export function rowsBesides({ bytes, asked, miscount = 0 }: MadeRows): { source: TenantSource; table: string; rows: number } {
  const line = Buffer.from(`${'x'.repeat(999)}\n`);
  const rows = Math.ceil(bytes / line.length);
  const table: SourceTable = {
    name: tableName('public', 'made'),
    columns: [{ name: 'body', type: 'text' }],
    key: [],
    tenantColumn: 'tenant_id',
    count: rows + miscount,
  };
  const source: TenantSource = {
    tenant: 'made',
    at: new Date('2026-11-21T02:00:00Z'),
    description: 'made rows',
    tables: [table],
    async *rows({ name }) {
      asked.push(name);
      for (let row = 0; row < rows; row += 1) yield line;
    },
  };
  return { source, table: table.name, rows };
}
