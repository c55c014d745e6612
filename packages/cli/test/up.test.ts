import fs from 'node:fs/promises';
import path from 'node:path';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { folder, json, outcome, partywall, printed, startCommand } from './support/command.ts';
import { portal } from './support/portal.ts';

const schema = `
create table tenants (id uuid primary key, name text not null);
create table customers (id int primary key, tenant_id uuid not null references tenants, email text not null);
insert into tenants values ('11111111-1111-4111-8111-111111111111', 'acme'), ('22222222-2222-4222-8222-222222222222', 'globex');
insert into customers select n, case when n % 2 = 0 then '11111111-1111-4111-8111-111111111111' else '22222222-2222-4222-8222-222222222222' end::uuid, n || '@example.org' from generate_series(1, 10) n;
`;

test('a trial: the server alone, a schema, then the wall in one command, and Ctrl-C stops the server', async () => {
  const cwd = await folder();
  const server = startCommand(['up', '--embedded-only'], { cwd });
  onTestFinished(() => void server.kill('SIGKILL'));
  const served = outcome(server);
  await printed(server.stderr, 'Ctrl-C stops the server');
  // As root the data lies elsewhere, and the folder of this test is private.
  const data = await fs.realpath(path.join(cwd, '.partywall/postgres'));
  onTestFinished(() => fs.rm(data, { recursive: true, force: true }));
  const secret = (await fs.readFile(path.join(cwd, '.partywall/postgres.secret'), 'utf8')).trim();

  const empty = await partywall(['up', '--json'], { cwd });
  expect(json(empty)).toMatchObject({ error: { code: 'root_undecided', message: expect.stringContaining('the embedded database is empty') } });

  const port = Number((await fs.readFile(path.join(cwd, '.partywall/postgres/postmaster.pid'), 'utf8')).split('\n')[3]);
  const url = `postgresql://postgres:${secret}@127.0.0.1:${port}/postgres`;
  const admin = new pg.Client(url);
  await admin.connect();
  await admin.query(schema);
  await admin.end();

  const up = await partywall(['up'], { cwd });
  expect(up.stdout).toMatch(/^sound: /m);
  expect(up.status).toBe(0);
  expect(up.stderr).toContain('PostgreSQL was running on port');
  expect(up.stderr).toMatch(/^contract +\d+ steps applied$/m);
  expect(up.stdout + up.stderr).not.toContain(secret);

  // The application's connection string is where up said, readable by its owner alone, and it is walled.
  const file = path.join(cwd, '.partywall/roles.env');
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  const secrets = await fs.readFile(file, 'utf8');
  const appUrl = /PARTYWALL_APP_URL=(.*)/.exec(secrets)?.[1];
  expect(secrets).toMatch(/^PARTYWALL_SEAL_KEY=1:[\w-]{43}$/m);
  const app = new pg.Client(appUrl);
  await app.connect();
  await expect(app.query('select * from customers')).rejects.toMatchObject({ code: 'PW001' });
  await app.query('begin');
  await app.query("select partywall.enter('11111111-1111-4111-8111-111111111111')");
  expect((await app.query('select id from customers order by id')).rows.map((row) => row.id)).toEqual([2, 4, 6, 8, 10]);
  await app.end();

  const again = await partywall(['up'], { cwd });
  expect(again.status).toBe(0);
  expect(again.stderr).toMatch(/^expand +nothing to do$/m);
  expect(again.stderr).toMatch(/^contract +nothing to do$/m);
  expect((await fs.readFile(file, 'utf8')).split('\n').sort()).toEqual(secrets.split('\n').sort());

  server.kill('SIGINT');
  const { status, stdout, stderr } = await served;
  expect(status).toBe(0);
  expect(stdout).toBe(`${url}\n`);
  expect(stderr).toMatch(/PostgreSQL stopped\n$/);
  await expect(new pg.Client(url).connect()).rejects.toMatchObject({ code: 'ECONNREFUSED' });
}, 120_000);

test('on a database of your own it stops before contract for a yes, then at the switch, and continues from there', async () => {
  const on = await portal();
  const asked = await partywall(['up', '--json'], on);
  expect(asked.status).toBe(2);
  expect(json(asked)).toMatchObject({ error: { code: 'confirmation_required' } });
  expect(asked.stderr).toContain('-- contract: ');
  const gate = await partywall(['up', '--yes', '--allow', 'postgres', '--json'], on);
  expect(gate.status).toBe(1);
  expect(json(gate)).toMatchObject({ error: { code: 'switch_incomplete' } });
  const done = await partywall(['up', '--yes', '--skip-gate', '--json'], on);
  expect(json(done)).toMatchObject({ verify: { sound: true } });
  expect(done.status).toBe(0);
});

test('the password of a role that somebody else made is left alone', async () => {
  const on = await portal();
  await on.database.query(`create role ${on.roles.app} login password 'theirs'`);
  const before = await on.database.query('select rolpassword from pg_authid where rolname = $1', [on.roles.app]);
  await partywall(['up', '--yes', '--skip-gate'], on);
  const after = await on.database.query('select rolpassword from pg_authid where rolname = $1', [on.roles.app]);
  expect(after.rows).toEqual(before.rows);
});
