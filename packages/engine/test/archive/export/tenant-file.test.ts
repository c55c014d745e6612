import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { gunzipSync, gzipSync } from 'node:zlib';
import {
  connect,
  type PlainSource,
  parseModel,
  plainSource,
  readTenantFile,
  type TenantFileManifest,
  type TenantSource,
  writeTenantFile,
} from '@partywall/engine';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../../../test/support/database.ts';
import { rowsBesides } from './rows-besides.ts';

const run = promisify(execFile);

const schema = `
create table tenants (id text primary key, name text not null, settings jsonb not null default '{}');
create table agents (id bigserial primary key, tenant_id text not null references tenants (id), parent_id bigint references agents (id), name text not null, slug text generated always as (lower(name)) stored);
create table messages (id bigint generated always as identity primary key, agent_id bigint not null references agents (id), body text, at timestamptz not null default now());
create table "Odd ""names"": x" ("Group" text, "tenant_id" text not null references tenants (id));
create table countries (code text primary key);`;

const model = parseModel({
  tenant: { table: 'analytics.tenants' },
  column: 'partywall_tenant_id',
  schemas: ['analytics'],
  roles: { owner: 'owner', app: 'app', system: 'system', service: 'service' },
  tables: {
    'analytics.agents': { scope: 'scoped', column: 'tenant_id' },
    'analytics.messages': { scope: 'scoped', through: { table: 'analytics.agents', columns: 'agent_id' } },
    'analytics."Odd ""names"": x"': { scope: 'scoped', column: 'tenant_id' },
    'analytics.countries': { scope: 'shared' },
  },
});
const hostile = `../../x'"\\ \n🙂${'y'.repeat(280)}`;

describe('a tenant’s file', () => {
  let database: TestDatabase;
  let folder: string;
  beforeAll(async () => {
    database = await createDatabase();
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-file-'));
    await database.query(`create schema analytics; set search_path = analytics; ${schema}`);
    for (const tenant of ['demo-tenant', 'other', hostile]) await database.query("insert into tenants values ($1, 'a name')", [tenant]);
    await database.query(`insert into agents (tenant_id, name) select t.id, 'Agent ' || n from tenants t, generate_series(1, 20) n;
      update agents a set parent_id = (select max(id) from agents b where b.tenant_id = a.tenant_id) where id % 3 = 0;
      insert into messages (agent_id, body) select id, e'two\\nlines\\tand \\\\. \\\\N' from agents, generate_series(1, 5);
      insert into messages (agent_id, body) select id, null from agents;
      insert into "Odd ""names"": x" select e'\\\\.', id from tenants`);
  });
  afterAll(() => fs.rm(folder, { recursive: true, force: true }));

  const opened = async (tenant: string): Promise<PlainSource> =>
    plainSource(await connect(database.url, { purpose: 'test' }), model, tenant, { clock: () => new Date('2026-11-21T02:00:00Z'), target: 'the test' });

  async function written(source: TenantSource, kind: TenantFileManifest['kind'] = 'export'): Promise<{ file: string; manifest: TenantFileManifest }> {
    const file = path.join(folder, `${suffix()}.tar.gz`);
    const pieces: Buffer[] = [];
    const document = writeTenantFile(source, { kind });
    let next = await document.next();
    for (; !next.done; next = await document.next()) pieces.push(next.value);
    await fs.writeFile(file, Buffer.concat(pieces));
    return { file, manifest: next.value };
  }

  async function exported(tenant: string): Promise<{ file: string; manifest: TenantFileManifest }> {
    const source = await opened(tenant);
    return written(source).finally(() => source.close());
  }

  async function unpacked(file: string): Promise<string> {
    const target = path.join(folder, suffix());
    await fs.mkdir(target);
    await run('tar', ['-xzf', file, '-C', target]);
    return target;
  }

  it('is listed by tar under the document’s command, with true numbers of rows where lines would count more', async () => {
    const { file, manifest } = await exported('demo-tenant');
    expect((await run('tar', ['-tzf', file, 'MANIFEST.txt'])).stdout).toBe('MANIFEST.txt\n');
    const { stdout } = await run('tar', ['-xzOf', file, 'MANIFEST.txt']);
    expect(stdout).toContain('Tenant ID: demo-tenant\nTimestamp: 2026-11-21T02:00:00.000Z\nBackup Type: Export\n');
    for (const line of ['analytics.tenants: 1 rows', 'analytics.agents: 20 rows', 'analytics.messages: 120 rows']) expect(stdout).toContain(`  - ${line}\n`);
    expect(manifest.rows).toBe(142);
    expect(manifest.tables.map(({ name, rows }) => [name, rows])).toContainEqual(['analytics.messages', 120]);
  });

  it('goes into an empty database, and into another schema of it, by psql as it is; rows that are written next have new numbers', async () => {
    const { file } = await exported('demo-tenant');
    const cwd = await unpacked(file);
    for (const name of ['analytics', 'staging area']) {
      const target = await createDatabase();
      await target.query(`create schema "${name}"; set search_path = "${name}"; ${schema}`);
      const { stderr } = await run('psql', ['-X', '-q', ...(name === 'analytics' ? [] : ['-v', `schema=${name}`]), '-f', 'restore.sql', target.url], { cwd });
      expect(stderr).toBe('');
      for (const table of ['tenants', 'agents', 'messages', '"Odd ""names"": x"']) {
        const query = `select to_jsonb(t) as row from (select * from ${table}) t order by 1`;
        const scoped =
          table === 'tenants'
            ? "where id = 'demo-tenant'"
            : table === 'messages'
              ? "where agent_id in (select id from agents where tenant_id = 'demo-tenant')"
              : "where tenant_id = 'demo-tenant'";
        const { rows } = await database.query(query.replace(table, `${table} ${scoped}`));
        expect((await target.query(query)).rows, table).toEqual(rows);
        expect(rows.length).toBeGreaterThan(0);
      }
      await target.query("insert into agents (tenant_id, name) values ('demo-tenant', 'new'); insert into messages (agent_id) select max(id) from agents");
    }
  });

  it('that is a full one makes its tables too, in a database that has none', async () => {
    const source = await opened('demo-tenant');
    const { file, manifest } = await written(source, 'full').finally(() => source.close());
    const cwd = await unpacked(file);
    expect(manifest.others.map((other) => other.file)).toEqual(['restore.sql', 'schema-before.sql', 'schema-after.sql', 'MANIFEST.txt']);
    const target = await createDatabase();
    await run('psql', ['-X', '-q', '-v', 'with_schema=yes', '-f', 'restore.sql', target.url], { cwd });
    const { rows } = await target.query(
      "select (select count(*)::int from analytics.messages) as messages, (select count(*)::int from pg_constraint where contype = 'f') as keys",
    );
    expect(rows).toEqual([{ messages: 120, keys: 4 }]);
  });

  it('names its tables by their references, in whatever order the source has them', async () => {
    const source = await opened('demo-tenant');
    const { manifest } = await written({ ...source, tables: source.tables.toReversed() }).finally(() => source.close());
    const names = manifest.tables.map(({ name }) => name);
    expect(names[0]).toBe('analytics.tenants');
    expect(names.indexOf('analytics.agents')).toBeLessThan(names.indexOf('analytics.messages'));
  });

  it('holds nothing of another tenant', async () => {
    const { file } = await exported('demo-tenant');
    const cwd = await unpacked(file);
    const { rows } = await database.query<{ id: string }>("select id::text from agents where tenant_id <> 'demo-tenant'");
    const text = await fs.readFile(
      path.join(cwd, 'tables', (await fs.readdir(path.join(cwd, 'tables'))).find((name) => name.includes('agents')) ?? ''),
      'utf8',
    );
    const ids = new Set(text.split('\n').map((line) => line.split('\t')[0]));
    expect(rows.filter(({ id }) => ids.has(id))).toEqual([]);
    expect(text).not.toContain('other');
  });

  it('of a tenant with a hostile key is a file like any other, and its names are harmless', async () => {
    const { file, manifest } = await exported(hostile);
    expect(manifest.tenant).toBe(hostile);
    expect(manifest.rows).toBe(142);
    for (const name of (await run('tar', ['-tzf', file])).stdout.trim().split('\n'))
      expect(name).toMatch(/^(MANIFEST\.(json|txt)|restore\.sql|tables\/\d{4}_[A-Za-z0-9._-]+\.sql)$/);
    expect((await run('tar', ['-xzOf', file, 'MANIFEST.txt'])).stdout.split('\n')[2]).toBe(`Tenant ID: ${JSON.stringify(hostile)}`);
    const target = await createDatabase();
    await target.query(`create schema analytics; set search_path = analytics; ${schema}`);
    await run('psql', ['-X', '-q', '-f', 'restore.sql', target.url], { cwd: await unpacked(file) });
    expect((await target.query('select id from tenants')).rows).toEqual([{ id: hostile }]);
  });

  it('reads back as the source that it was written from', async () => {
    const source = await opened('demo-tenant');
    const { file, manifest } = await written(source);
    const read = await readTenantFile(file, { workFolder: folder });
    expect(read.manifest).toEqual(manifest);
    expect(read.source).toMatchObject({ tenant: 'demo-tenant', at: source.at });
    for (const table of read.source.tables) {
      const rows = async (of: TenantSource): Promise<string> => {
        const pieces: Buffer[] = [];
        for await (const piece of of.rows(table)) pieces.push(piece);
        return Buffer.concat(pieces).toString();
      };
      expect(await rows(read.source)).toBe(await rows(source));
    }
    await read.close();
    await source.close();
  });

  it('that was changed in any entry, cut short, or given one more is refused, and what was unpacked is gone', async () => {
    const { file } = await exported('demo-tenant');
    const packed = await fs.readFile(file);
    const plain = gunzipSync(packed);
    const spoiled: [string, Buffer][] = [
      ['cut in gzip', packed.subarray(0, packed.length - 20)],
      ['no gzip', Buffer.from('no gzip at all')],
      ['cut before the manifest', gzipSync(plain.subarray(0, plain.indexOf('MANIFEST.json')))],
      ['without a manifest', gzipSync(Buffer.concat([plain.subarray(0, plain.indexOf('MANIFEST.json')), Buffer.alloc(1_024)]))],
    ];
    // Each entry of the tar: one byte of its content is another.
    for (let at = 0; at < plain.length && plain[at] !== 0; ) {
      const bytes = Number.parseInt(plain.toString('latin1', at + 124, at + 135), 8);
      const changed = Buffer.from(plain);
      changed[at + 512 + 40] = (changed[at + 512 + 40] ?? 0) ^ 1;
      spoiled.push([`changed ${plain.toString('latin1', at, at + 30)}`, gzipSync(changed)]);
      const next = at + 512 + Math.ceil(bytes / 512) * 512;
      const dropped = Buffer.concat([plain.subarray(0, at), plain.subarray(next)]);
      spoiled.push([`dropped ${plain.toString('latin1', at, at + 30)}`, gzipSync(dropped)]);
      const twice = Buffer.concat([plain.subarray(0, next), plain.subarray(at)]);
      spoiled.push([`doubled ${plain.toString('latin1', at, at + 30)}`, gzipSync(twice)]);
      at = next;
    }
    expect(spoiled.length).toBe(4 + 7 * 3);
    const target = path.join(folder, 'spoiled.tar.gz');
    const workFolder = path.join(folder, 'work');
    for (const [what, bytes] of spoiled) {
      await fs.writeFile(target, bytes);
      await expect(readTenantFile(target, { workFolder }), what).rejects.toMatchObject({ code: 'export_invalid' });
    }
    expect(await fs.readdir(workFolder)).toEqual([]);
  });

  it('of a table that is longer than what is held in memory is one file still, read twice', async () => {
    const asked: string[] = [];
    const { source, table, rows } = rowsBesides({ bytes: 20 * 1024 ** 2, asked });
    const { file, manifest } = await written(source);
    expect(asked).toEqual([table, table]);
    expect(manifest.tables).toMatchObject([{ name: table, rows, data: { bytes: expect.any(Number) } }]);
    const read = await readTenantFile(file, { workFolder: folder });
    expect(read.manifest.rows).toBe(rows);
    await read.close();
  });

  it('is not finished where the source gives other rows than it said', async () => {
    const { source } = rowsBesides({ bytes: 1_000, asked: [], miscount: 1 });
    await expect(written(source)).rejects.toMatchObject({ code: 'archive_damaged' });
  });

  it('that is not read to its end ends the reading of its source', async () => {
    const source = await opened('demo-tenant');
    for await (const piece of writeTenantFile(source, { kind: 'export' })) {
      expect(piece.length).toBeGreaterThan(0);
      break;
    }
    await source.close();
    await expect
      .poll(
        async () => (await database.query("select from pg_stat_activity where application_name = 'partywall test' and datname = current_database()")).rowCount,
      )
      .toBe(0);
  });
});

describe('a plain source', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    await database.query(`create schema analytics; set search_path = analytics; ${schema}`);
    await database.query(
      "insert into tenants values ('a', 'A'), ('b', 'B'); insert into agents (tenant_id, name) values ('a', 'x'), ('b', 'y'); insert into messages (agent_id) select id from agents",
    );
  });

  const options = { clock: () => new Date(), target: 'the test' };
  const open = async (tenant: string, url = database.url): Promise<PlainSource> => plainSource(await connect(url, { purpose: 'test' }), model, tenant, options);

  async function lines(source: TenantSource, name: string): Promise<number> {
    const table = source.tables.find((each) => each.name === name);
    let count = 0;
    if (table) for await (const piece of source.rows(table)) count += piece.toString().split('\n').length - 1;
    return count;
  }

  it('is one moment: rows that are written since are not in it, and a table cannot be emptied meanwhile', async () => {
    const source = await open('a');
    await database.query("insert into agents (tenant_id, name) values ('a', 'later')");
    await expect(database.query("set lock_timeout = '100ms'; truncate messages")).rejects.toThrow(/lock timeout/);
    await database.query('reset lock_timeout');
    expect(await lines(source, 'analytics.agents')).toBe(1);
    expect(await lines(source, 'analytics.messages')).toBe(1);
    await source.close();
  });

  it.each(["a' or true --", '', 'A', 'a\0'])('refuses %j, which is no tenant', async (tenant) => {
    await expect(open(tenant)).rejects.toMatchObject({ code: 'tenant_unknown' });
  });

  it('refuses a database with a table that the model does not know', async () => {
    await database.query('create table surprise (tenant_id text)');
    await expect(open('a')).rejects.toMatchObject({ code: 'model_unclassified' });
    await database.query('drop table surprise');
  });

  it('refuses a role that a policy binds instead of leaving rows out', async () => {
    const role = `bound_${suffix()}`;
    await database.query(
      `create role ${role} login; grant usage on schema analytics to ${role}; grant select on all tables in schema analytics to ${role}; alter table agents enable row level security; create policy none on agents using (false)`,
    );
    try {
      await expect(open('a', database.urlAs(role))).rejects.toMatchObject({ code: 'permission_missing' });
    } finally {
      await database.query(`drop policy none on agents; alter table agents disable row level security; drop owned by ${role}; drop role ${role}`);
    }
  });
});
