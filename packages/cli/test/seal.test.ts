import fs from 'node:fs/promises';
import path from 'node:path';
import { createWalledPool, run } from '@partywall/wall';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { createDatabase, suffix } from '../../../test/support/database.ts';
import { folder, json, partywall } from './support/command.ts';

const database = await createDatabase();
const name = suffix();
const [app, system, service] = [`app_${name}`, `sys_${name}`, `svc_${name}`];
await database.query(
  'create table tenants (id int primary key, name text not null); create table things (id int primary key, tenant_id int not null references tenants)',
);
await database.query("insert into tenants values (1, 'one'), (2, 'two'); insert into things values (10, 1), (20, 2)");
const cwd = await folder();
await fs.writeFile(
  path.join(cwd, 'partywall.config.ts'),
  `export default { tenant: { table: 'tenants' }, roles: { owner: 'postgres', app: '${app}', system: '${system}', service: '${service}' },
  tables: { things: { scope: 'scoped', column: 'tenant_id' } } };`,
);
const on = { cwd, env: { DATABASE_URL: database.url, PARTYWALL_OPERATOR: 'kari' } };
for (const args of [['apply', '--phase', 'expand'], ['apply', '--phase', 'contract', '--yes', '--skip-gate'], ['migrate']]) await partywall(args, on);
const appClient = new pg.Client(database.urlAs(app));
await appClient.connect();
afterAll(() => appClient.end());

const enter = (): Promise<unknown> => appClient.query('select partywall.enter($1)', ['1']);
const things = async (seal: string): Promise<unknown[]> => {
  const pool = createWalledPool({ connectionString: database.urlAs(app), seal, max: 1 });
  try {
    return (await run({ tenant: 2 }, () => pool.query('select id from things'))).rows;
  } finally {
    await pool.end();
  }
};
const audited = async (): Promise<unknown[]> =>
  (await database.query("select action, actor_id, details from partywall_control.audit_records where action like 'seal.%' order by seq")).rows;

test('a database is not sealed before it has a key', async () => {
  expect((await partywall(['seal', 'status'], on)).status).toBe(1);
  const refused = await partywall(['seal', 'on', '--json'], on);
  expect(refused.status).toBe(1);
  expect(json(refused)).toMatchObject({ error: { code: 'seal_unchanged', message: expect.stringContaining('no key') } });
});

test('a dry run prints the plan and makes no key', async () => {
  const dry = await partywall(['seal', 'rotate', '--dry-run'], on);
  expect(dry.stdout).toContain('would add key 1');
  expect((await database.query('select from partywall.seal_keys where id > 0')).rowCount).toBe(0);
});

test('rotate, deploy, on, rotate, retire, off: each does what it says, and is recorded without the key', async () => {
  const file = path.join(cwd, 'seal.key');
  expect((await partywall(['seal', 'rotate', '--key-file', 'seal.key'], on)).stdout).not.toMatch(/1:[\w-]{43}/);
  expect((await fs.stat(file)).mode & 0o777).toBe(0o600);
  const first = (await fs.readFile(file, 'utf8')).trim();
  expect(await things(first)).toEqual([{ id: 20 }]);

  await expect(enter()).resolves.toBeDefined();
  expect((await partywall(['seal', 'on'], on)).status).toBe(0);
  await expect(enter()).rejects.toMatchObject({ code: '42501' });
  expect(await things(first)).toEqual([{ id: 20 }]);
  expect((await partywall(['seal', 'on'], on)).stdout).toContain('nothing to do');
  expect(json(await partywall(['seal', 'status', '--json'], on))).toMatchObject({
    sealed: app,
    isProtected: true,
    open: false,
    keys: [{ id: 1, retiredAt: null }],
  });
  // Installing again does not open it.
  await database.query("update partywall.facts set value = '\"another\"' where name = 'runtime'");
  expect((await partywall(['apply', '--phase', 'expand'], on)).status).toBe(0);
  await expect(enter()).rejects.toMatchObject({ code: '42501' });

  expect((await partywall(['seal', 'retire', '1'], on)).status).toBe(1);
  expect((await partywall(['seal', 'rotate', '--key-file', 'seal.key'], on)).status).toBe(2);
  const second = /PARTYWALL_SEAL_KEY=(2:[\w-]{43})/.exec((await partywall(['seal', 'rotate'], on)).stdout)?.[1] ?? '';
  expect(await things(`${second},${first}`)).toEqual([{ id: 20 }]);
  expect((await partywall(['seal', 'retire', '1'], on)).status).toBe(0);
  await expect(things(first)).rejects.toThrow('only 2');
  expect(await things(`${second},${first}`)).toEqual([{ id: 20 }]);
  expect((await partywall(['seal', 'add', '--key-file', 'seal.key'], on)).status).toBe(1);

  expect((await partywall(['seal', 'off'], on)).status).toBe(0);
  await expect(enter()).resolves.toBeDefined();
  const records = await audited();
  expect(records).toMatchObject([
    { action: 'seal.rotate', actor_id: 'kari', details: { key: 1 } },
    { action: 'seal.on', actor_id: 'kari' },
    { action: 'seal.rotate', details: { key: 2 } },
    { action: 'seal.retire', details: { key: 1 } },
    { action: 'seal.off' },
  ]);
  for (const key of [first, second]) expect(JSON.stringify(records)).not.toContain(key.slice(2));
});

test('a second database takes the key of the first', async () => {
  const other = await createDatabase();
  await other.query(
    'create table tenants (id int primary key, name text not null); create table things (id int primary key, tenant_id int not null references tenants)',
  );
  const there = { cwd, env: { DATABASE_URL: other.url } };
  await partywall(['apply', '--phase', 'expand'], there);
  expect((await partywall(['seal', 'add', '--key-file', 'seal.key'], there)).status).toBe(0);
  expect((await partywall(['seal', 'add', '--key-file', 'seal.key'], there)).stdout).toContain('nothing to do');
  const { rows } = await other.query('select id from partywall.seal_keys where id > 0');
  expect(rows).toEqual([{ id: 1 }]);
  await fs.writeFile(path.join(cwd, 'no.key'), 'not a key');
  const refused = await partywall(['seal', 'add', '--key-file', 'no.key', '--json'], there);
  expect(refused.status).toBe(1);
  expect(refused.stdout).not.toContain('not a key');
});
