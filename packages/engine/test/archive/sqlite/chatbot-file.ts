import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { parseModel, type SourceTable, type TenantSource } from '@partywall/engine';
import { afterAll } from 'vitest';

const tables = `
create table tenants (id text primary key, name text not null, settings json);
create table agents (id integer primary key, tenant_id text references tenants (id), name text not null, temperature real, active boolean, created_at datetime);
create table messages (id integer primary key, agent_id integer references agents, body text, attachment blob);
create table countries (code text primary key, name text) without rowid;`;

/** messages have no tenant column: whose they are, their agent says. */
export const fileModel = parseModel({
  tenant: { table: 'public.tenants' },
  column: 'partywall_tenant_id',
  roles: { owner: 'owner', app: 'app', system: 'system', service: 'service' },
  tables: {
    'public.agents': { scope: 'scoped', column: 'tenant_id', uniques: { agents_name_key: 'per tenant' } },
    'public.messages': { scope: 'scoped', through: { table: 'public.agents', columns: 'agent_id' } },
    'public.countries': { scope: 'shared' },
    'public.migrations': { scope: 'platform' },
  },
});

export interface FileFixture {
  readonly folder: string;
  readonly workFolder: string;
  readonly file: string;
  /** The application's own connection. */
  readonly writer: DatabaseSync;
}

/** A small SQLite database of two tenants in a folder of its own. */
export async function sqliteFixture(more = ''): Promise<FileFixture> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-sqlite-'));
  const file = path.join(folder, 'admin.db');
  const writer = new DatabaseSync(file);
  writer.exec(`pragma journal_mode = wal; pragma foreign_keys = off; ${tables} ${more}
    insert into tenants values ('acme', 'Acme', '{"tier":"pro"}'), ('ACME', 'Other', null);
    insert into agents values (1, 'acme', 'Greeter', 0.7, 1, '2026-11-01 10:00:00'), (2, 'ACME', 'Closer', 1, 0, null);
    insert into messages values (1, 1, 'one', x'00ff'), (2, 1, 'two', null), (3, 2, 'three', null);
    insert into countries values ('NO', 'Norway');`);
  afterAll(async () => {
    if (writer.isOpen) writer.close();
    await fs.rm(folder, { recursive: true, force: true });
  });
  return { folder, workFolder: path.join(folder, 'work'), file, writer };
}

/** The rows of a table as lines of COPY's text format. */
export async function linesOf(source: TenantSource, name: string): Promise<string[]> {
  const table = tableOf(source, name);
  const pieces: Buffer[] = [];
  for await (const piece of source.rows(table)) pieces.push(piece);
  return Buffer.concat(pieces).toString('utf8').split('\n').slice(0, -1);
}

export function tableOf(source: TenantSource, name: string): SourceTable {
  const found = source.tables.find((table) => table.name === name);
  if (!found) throw new Error(`the source has no ${name}`);
  return found;
}
