import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { connect, openSqlite, parseModel, plainSource, readCatalog, restoreFrom, sqliteSource, type TenantSource, unownedRows } from '@partywall/engine';
import { expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import tenancy from '../partywall.config.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { loadChatbot, loadSqlite } from '../src/load.ts';
import { walledChatbot } from './walled-chatbot.ts';

const clock = (): Date => new Date('2026-11-21T02:00:00Z');
const model = parseModel(tenancy);

async function contents(source: TenantSource, columns: ReadonlyMap<string, readonly string[]>): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const table of source.tables) {
    const kept = (columns.get(table.name) ?? []).map((name) => table.columns.findIndex((column) => column.name === name));
    const pieces: Buffer[] = [];
    for await (const piece of source.rows(table)) pieces.push(piece);
    const lines = Buffer.concat(pieces).toString().split('\n').slice(0, -1);
    // JSON and times have more than one text form; the restore into PostgreSQL is tested with the engine.
    found[table.name] = lines.map((line) => kept.map((at) => line.split('\t')[at]).join('\t')).sort();
  }
  return found;
}

test('every tenant of the SQLite file has the rows that it has in PostgreSQL, and no row is nobody’s', async () => {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-chatbot-sqlite-'));
  const database = await createDatabase();
  const loader = await connect(database.url, { purpose: 'test' });
  await loadChatbot(loader);
  await loader.end();
  await loadSqlite(path.join(folder, 'admin.db'));
  const file = await openSqlite(path.join(folder, 'admin.db'), { model, workFolder: path.join(folder, 'work'), clock });
  try {
    expect(unownedRows(file)).toEqual([]);
    for (const { id } of demoTenants) {
      const plain = await plainSource(await connect(database.url, { purpose: 'test' }), model, id, { clock, target: 'the test' });
      const lite = sqliteSource(file, id);
      const compared = new Map(
        lite.tables.map(({ name, columns }) => [name, columns.filter(({ type }) => !/json|timestamp/.test(type)).map((column) => column.name)] as const),
      );
      const [left, right] = [await contents(lite, compared), await contents(plain, compared)];
      await plain.close();
      expect(left).toEqual(right);
      expect(left['public.audit_messages']).toHaveLength(2);
    }
  } finally {
    await file.close();
    await fs.rm(folder, { recursive: true, force: true });
  }
});

test('a tenant of the SQLite file is restored into the walled PostgreSQL database, and no neighbour’s row is touched', async () => {
  const { database, control, folder } = await walledChatbot();
  const rowsOf = async (of: string): Promise<unknown> =>
    (
      await database.query(
        `select to_jsonb(t) as row from audit_messages t where partywall_tenant_id ${of} 'demo-tenant' union all select to_jsonb(t) from channel_messages t where tenant_id ${of} 'demo-tenant' union all select to_jsonb(t) from agents t where tenant_id ${of} 'demo-tenant' order by 1`,
      )
    ).rows;
  const [own, others] = [await rowsOf('='), await rowsOf('<>')];
  await database.query(
    "delete from agents where tenant_id = 'demo-tenant'; update audit_messages set content = 'spoiled' where partywall_tenant_id = 'demo-tenant'",
  );
  await loadSqlite(path.join(folder, 'admin.db'));
  const client = await connect(database.url, { purpose: 'test' });
  const into = await readCatalog(client);
  await client.end();
  const file = await openSqlite(path.join(folder, 'admin.db'), { model: control.model, workFolder: path.join(folder, 'work'), clock });
  try {
    const operation = { database: control, actor: { kind: 'operator', id: 'test' } } as const;
    const report = await restoreFrom(operation, sqliteSource(file, 'demo-tenant', { into }), { undo: async () => 'none', prove: 'hash' });
    expect(report).toMatchObject({ applied: true, tables: expect.arrayContaining([expect.objectContaining({ table: 'public.audit_messages', updated: 2 })]) });
    expect(await rowsOf('=')).toEqual(own);
    expect(await rowsOf('<>')).toEqual(others);
  } finally {
    await file.close();
  }
});
