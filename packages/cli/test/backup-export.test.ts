import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const run = promisify(execFile);
const password = 'a secret that nobody prints';

const config = `export default {
  tenant: { table: 'public.tenants' },
  roles: { owner: 'owner', app: 'app', system: 'system', service: 'service' },
  tables: {
    'public.agents': { scope: 'scoped', column: 'tenant_id' },
    'public.messages': { scope: 'scoped', through: { table: 'public.agents', columns: 'agent_id' } },
  },
};\n`;
const tables = `create table tenants (id text primary key, name text);
  create table agents (id integer primary key, tenant_id text not null references tenants (id), name text);
  create table messages (id integer primary key, agent_id integer not null references agents (id), body text);`;
const rows = `insert into tenants values ('demo-tenant', 'Demo'), ('other', 'Other'); insert into agents values (1, 'demo-tenant', 'a'), (2, 'other', 'b');
  insert into messages values (1, 1, 'one
two'), (2, 1, 'three'), (3, 2, 'four');`;

/** What the manifest says of the demo tenant. */
const demo = [
  { name: expect.stringMatching(/\.tenants$/), rows: 1 },
  { name: expect.stringMatching(/\.agents$/), rows: 1 },
  { name: expect.stringMatching(/\.messages$/), rows: 2 },
];

describe('backup export of a database that knows no Partywall', () => {
  let database: TestDatabase;
  let cwd: string;
  let role: string;
  let pg: Record<string, string>;
  beforeAll(async () => {
    cwd = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-export-'));
    await fs.writeFile(path.join(cwd, 'partywall.config.ts'), config);
    database = await createDatabase();
    role = `exporter_${suffix()}`;
    await database.query(`${tables} ${rows} create schema analytics; set search_path = analytics; ${tables} ${rows}
      insert into analytics.messages values (4, 1, 'only here');
      create role ${role} login password '${password}' bypassrls; grant usage on schema public, analytics to ${role};
      grant select on all tables in schema public to ${role}; grant select on all tables in schema analytics to ${role}`);
    const url = new URL(database.url);
    pg = { PGHOST: url.hostname, PGPORT: url.port, PGUSER: role, PGPASSWORD: password, PGDATABASE: database.name };
  });
  afterAll(async () => {
    await database.query(`drop owned by ${role}; drop role ${role}`);
    await fs.rm(cwd, { recursive: true, force: true });
  });

  const urlOf = (schema: string): string => `${database.url}?schema=${schema}`;

  const exported = async (env: Record<string, string>, ...args: string[]) => {
    const done = await partywall(['backup', 'export', 'demo-tenant', '--force', '--json', ...args], { cwd, env });
    expect(done.stderr + done.stdout).not.toContain(password);
    return done;
  };

  it('writes one file, by a connection string, with the document’s name and its true numbers of rows', async () => {
    const done = json(await exported({ DATABASE_URL: urlOf('public') })) as { file: string; tables: unknown; kind: string };
    expect(done).toMatchObject({ tenant: 'demo-tenant', kind: 'full', rows: 4, tables: demo });
    expect(path.basename(done.file)).toMatch(/^tenant_demo-tenant_\d{8}_\d{6}\.tar\.gz$/);
    expect((await fs.stat(done.file)).mode & 0o777).toBe(0o600);
    const listed = (await run('tar', ['-tzf', done.file])).stdout.split('\n');
    expect(listed).toEqual(expect.arrayContaining(['restore.sql', 'schema-before.sql', 'MANIFEST.txt', 'MANIFEST.json']));
    expect(await partywall(['backup', 'check-file', done.file], { cwd })).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('public.messages: 2 rows'),
    });
  });

  it('takes PG* variables and PGSCHEMA, or ?schema=, and neither prints nor stores the password', async () => {
    const byVariables = json(await exported({ ...pg, PGSCHEMA: 'analytics' }, '--export-only', '-o', 'by-variables.tar.gz'));
    expect(byVariables).toMatchObject({ kind: 'export', rows: 5, tables: expect.arrayContaining([{ name: 'analytics.messages', rows: 3 }]) });
    const url = new URL(database.urlAs(role));
    url.password = encodeURIComponent(password);
    url.searchParams.set('schema', 'analytics');
    const byUrl = json(await exported({ DATABASE_URL: url.toString() }, '-o', 'by-url.tar.gz')) as { file: string };
    expect(byUrl).toMatchObject({ rows: 5 });
    const target = path.join(cwd, 'unpacked');
    await fs.mkdir(target);
    await run('tar', ['-xzf', byUrl.file, '-C', target]);
    await expect(run('grep', ['-rl', password, target])).rejects.toMatchObject({ code: 1, stdout: '' });
  });

  it('refuses to guess where another schema has tables of tenants too', async () => {
    expect(await exported({ ...pg })).toMatchObject({
      status: 1,
      stdout: expect.stringContaining('analytics.agents is in schema analytics, which the model does not name'),
    });
  });

  it.each<[string, Record<string, string>, string]>([
    ['a schema that is not there', { PGSCHEMA: 'nowhere' }, 'has no schema'],
    ['a schema that is SQL', { PGSCHEMA: 'public"; drop table agents; --' }, 'has no schema'],
    ['a database that is not there', { PGDATABASE: 'nowhere' }, 'nowhere'],
    ['a port where nobody listens', { PGPORT: '1' }, 'ECONNREFUSED'],
    ['a port that is none', { PGPORT: 'x' }, 'PGPORT'],
  ])('refuses %s in one line without the password', async (_, change, message) => {
    const done = await partywall(['backup', 'export', 'demo-tenant'], { cwd, env: { ...pg, ...change } });
    expect(done).toMatchObject({ status: 2, stderr: expect.stringContaining(message) });
    expect(done.stderr + done.stdout).not.toContain(password);
  });

  it('refuses a tenant that is not there, and leaves nothing behind', async () => {
    const folder = path.join(cwd, 'none');
    for (const tenant of ['nobody', '../../etc/passwd', "'; drop table agents; --"]) {
      const done = await partywall(['backup', 'export', tenant, '-o', 'none/'], { cwd, env: { DATABASE_URL: urlOf('public') } });
      expect(done).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
    }
    await expect(fs.readdir(folder)).rejects.toThrow(/ENOENT/);
    expect((await fs.readdir(cwd)).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it('writes over no file unless it is told to', async () => {
    await fs.writeFile(path.join(cwd, 'kept.tar.gz'), 'mine');
    const done = await partywall(['backup', 'export', 'demo-tenant', '-o', 'kept.tar.gz'], { cwd, env: { DATABASE_URL: urlOf('public') } });
    expect(done).toMatchObject({ status: 2, stderr: expect.stringContaining('--force') });
    expect(await fs.readFile(path.join(cwd, 'kept.tar.gz'), 'utf8')).toBe('mine');
  });

  it('says how to name a database where none is named', async () => {
    expect(await partywall(['backup', 'export', 'demo-tenant'], { cwd })).toMatchObject({ status: 2, stderr: expect.stringContaining('PGHOST') });
  });

  it('reads a SQLite file, whose rows go into PostgreSQL by psql, and names rows of nobody', async () => {
    const file = path.join(cwd, 'admin.db');
    const writer = new DatabaseSync(file);
    writer.exec(`pragma journal_mode = wal; ${tables} ${rows} pragma foreign_keys = off; insert into agents values (9, 'gone', 'lost')`);
    const done = await partywall(['backup', 'export', 'demo-tenant', '--sqlite', 'admin.db', '--export-only', '-o', 'from-sqlite.tar.gz', '--json'], { cwd });
    writer.close();
    expect(json(done)).toMatchObject({
      rows: 4,
      tables: demo,
      source: `SQLite file ${file}`,
      left: [expect.stringContaining('public.agents: 1 rows of no tenant')],
    });
    const target = await createDatabase();
    await target.query(tables);
    const unpacked = path.join(cwd, 'from-sqlite');
    await fs.mkdir(unpacked);
    await run('tar', ['-xzf', path.join(cwd, 'from-sqlite.tar.gz'), '-C', unpacked]);
    await run('psql', ['-X', '-q', '-f', 'restore.sql', target.url], { cwd: unpacked });
    expect((await target.query('select id, body from messages order by id')).rows).toEqual([
      { id: 1, body: 'one\ntwo' },
      { id: 2, body: 'three' },
    ]);
  });

  it('finds what was changed in a file', async () => {
    const file = path.join(cwd, 'changed.tar.gz');
    await exported({ DATABASE_URL: urlOf('public') }, '-o', 'changed.tar.gz');
    const bytes = await fs.readFile(file);
    await fs.writeFile(file, bytes.subarray(0, bytes.length - 100));
    expect(await partywall(['backup', 'check-file', 'changed.tar.gz'], { cwd })).toMatchObject({ status: 2 });
  });
});

describe('backup export under the control plane', () => {
  it('is recorded in the tenant’s audit log, complete or not', async () => {
    const on = await controlledPortal('contract');
    const env = { PARTYWALL_SERVICE_URL: on.service, PARTYWALL_OPERATOR: 'kari' };
    const tenant = '11111111-1111-4111-8111-111111111111';
    const done = await partywall(['backup', 'export', tenant, '--export-only', '-o', 'acme.tar.gz', '--json'], { cwd: on.cwd, env });
    const { rows: count, sha256 } = json(done) as { rows: number; sha256: string };
    expect(count).toBe(81);
    expect((await partywall(['backup', 'export', tenant, '-o', 'acme.tar.gz'], { cwd: on.cwd, env })).status).toBe(2);
    const { rows: records } = await on.database.query(
      "select details from partywall_control.audit_records where tenant_id = $1 and action = 'tenant.export' order by seq",
      [tenant],
    );
    expect(records).toEqual([{ details: { format: 'file', complete: true, rows: 81, sha256 } }, { details: { format: 'file', complete: false } }]);
  });
});
