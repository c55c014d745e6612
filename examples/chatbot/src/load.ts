import fs from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type pg from 'pg';
import { generateChatbot, type Row, type Table, tables } from './generate.ts';

/** Creates the tables and fills them in one transaction; a database that has them is left alone. Returns whether it did. */
export async function loadChatbot(client: Pick<pg.ClientBase, 'query'>): Promise<boolean> {
  await client.query('begin');
  try {
    await client.query("set local search_path = public; select pg_advisory_xact_lock(hashtextextended('chatbot:load', 0))");
    const { rows } = await client.query<{ there: boolean }>("select to_regclass('public.channel_messages') is not null as there");
    if (!rows[0]?.there) {
      await client.query(await fs.readFile(new URL('../schema.sql', import.meta.url), 'utf8'));
      const generated = generateChatbot();
      for (const table of tables) {
        await client.query(`insert into ${table} select * from json_populate_recordset(null::${table}, $1::json)`, [
          JSON.stringify(forPostgres(generated.rows[table])),
        ]);
        if (table === 'tenants') continue;
        // Rows that bring their number do not advance the sequence behind it.
        await client.query(`select setval(pg_get_serial_sequence($1, 'id'), (select max(id) from ${table}))`, [table]);
      }
    }
    await client.query('commit');
    return !rows[0]?.there;
  } catch (error) {
    await client.query('rollback').catch(() => undefined); // on a lost connection there is nothing to roll back
    throw error;
  }
}

/** The same rows in a SQLite file, in WAL mode as the platform runs it. */
export async function loadSqlite(file: string): Promise<void> {
  const database = new DatabaseSync(file);
  try {
    database.exec(`pragma journal_mode = wal; begin; ${await fs.readFile(new URL('../schema.sqlite.sql', import.meta.url), 'utf8')}`);
    const { rows } = generateChatbot();
    for (const table of tables) insertAll(database, table, rows[table]);
    database.exec('commit');
  } finally {
    database.close();
  }
}

/** The uploaded files below a folder, each in its tenant's own. */
export async function writeUploads(folder: string): Promise<void> {
  for (const [file, content] of generateChatbot().uploads) {
    await fs.mkdir(path.join(folder, path.dirname(file)), { recursive: true });
    await fs.writeFile(path.join(folder, file), content);
  }
}

function insertAll(database: DatabaseSync, table: Table, rows: readonly Row[]): void {
  for (const { plan: _plan, ...row } of rows) {
    const names = Object.keys(row);
    const values = Object.values(row).map((value) => (typeof value === 'boolean' ? Number(value) : value));
    database.prepare(`insert into ${table} (${names.join(', ')}) values (${names.map(() => '?').join(', ')})`).run(...values);
  }
}

/** JSON in JSON, not as its text. */
function forPostgres(rows: readonly Row[]): Record<string, unknown>[] {
  return rows.map((row) =>
    Object.fromEntries(Object.entries(row).map(([name, value]) => [name, name === 'settings' || name === 'payload' ? JSON.parse(String(value)) : value])),
  );
}
