import { afterAll, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { checkIntegrity, connect } from '../../src/index.ts';

const on = await controlDatabase();
const { database, model } = on;
const service = await connect(on.urls.service, { purpose: 'test' });
const system = await connect(on.urls.system, { purpose: 'test' });
afterAll(() => Promise.all([service.end(), system.end()]));
const acme = await on.tenant('Acme');
const globex = await on.tenant('Globex');
await database.query('insert into customers (tenant_id, name) select t, n from unnest($1::uuid[]) t, unnest($2::text[]) n', [
  [acme, globex],
  ['a', 'b', 'c'],
]);

const count = (options = {}, client = service) => checkIntegrity(client, { model, now: new Date() }, options);
const ofTable = async (table: string, options = {}) => (await count(options)).tables.find((one) => one.table === `public.${table}`);
/** As a restore under `session_replication_role` does it: no foreign key and no trigger looks. */
const unguarded = (...statements: string[]) => database.query(`begin; set local session_replication_role = replica; ${statements.join('; ')}; commit`);
const contents = async () => (await database.query("select md5(string_agg(c::text, ',' order by c.id)) as sum from customers c")).rows[0]?.sum;

describe('the check after a rollback', () => {
  test('counts every table by tenant, finds nothing in a sound database, and changes no row', async () => {
    const before = await contents();
    const found = await count();
    expect(found).toMatchObject({ verdict: 'sound', visited: 5, of: 5, comparedWith: null, kept: true });
    expect(found.tables.map(({ table, rows, tenants }) => [table, rows, tenants])).toEqual(
      expect.arrayContaining([
        ['public.tenants', 2, 2],
        ['public.customers', 6, 2],
        ['public.notes', 0, 0],
      ]),
    );
    expect(await contents()).toBe(before);
  });

  test('names tables and tenants that have fewer rows than last time, not those that have more', async () => {
    await database.query("delete from customers where tenant_id = $1 and name in ('a', 'b')", [acme]);
    await database.query("insert into customers (tenant_id, name) values ($1, 'd')", [globex]);
    const found = await count();
    expect(found.verdict).toBe('sound');
    expect(found.comparedWith).toBeInstanceOf(Date);
    expect(found.tables.filter(({ fellCount }) => fellCount > 0)).toMatchObject([
      { table: 'public.customers', rows: 5, rowsBefore: 6, fellCount: 1, fell: [{ tenant: acme, before: 3, now: 1 }] },
    ]);
    // The last count is what the next is compared with.
    expect(await ofTable('customers')).toMatchObject({ fell: [], rowsBefore: 5 });
  });

  test('that is not kept is compared all the same, and leaves the one before', async () => {
    await database.query("delete from customers where tenant_id = $1 and name = 'd'", [globex]);
    expect(await ofTable('customers', { keep: false })).toMatchObject({ fell: [{ tenant: globex, before: 4, now: 3 }] });
    expect(await ofTable('customers')).toMatchObject({ fell: [{ tenant: globex, before: 4, now: 3 }] });
    expect(await ofTable('customers')).toMatchObject({ fell: [] });
  });

  test('keeps no tenant’s key, and misses nobody who is no longer registered', async () => {
    const gone = await on.tenant('Gone');
    await database.query("insert into customers (tenant_id, name) values ($1, 'x')", [gone]);
    await count();
    const { rows } = await database.query('select string_agg(c::text, chr(10)) as text from partywall.integrity_counts c');
    for (const tenant of [acme, globex, gone]) expect(rows[0]?.text).not.toContain(tenant);
    await database.query('delete from tenants where id = $1', [gone]);
    expect((await count()).tables.flatMap(({ fell }) => fell)).toEqual([]);
  });

  test('finds rows of a tenant that is not there, and children whose parent is gone or another tenant’s', async () => {
    const stray = '99999999-9999-4999-8999-999999999999';
    await unguarded(`insert into customers (tenant_id, name) values ('${stray}', 'stray')`);
    expect(await count({ keep: false })).toMatchObject({ verdict: 'damaged' });
    expect(await ofTable('customers', { keep: false })).toMatchObject({ problems: [{ problem: 'unknown tenant', via: 'tenant_id', rows: 1 }] });
    await unguarded(
      `delete from customers where tenant_id = '${stray}'`,
      `update customers set parent_id = (select id from customers where tenant_id = '${globex}' limit 1) where tenant_id = '${acme}'`,
      `update customers set parent_id = gen_random_uuid() where tenant_id = '${globex}' and name = 'a'`,
    );
    expect((await ofTable('customers', { keep: false }))?.problems).toEqual(
      expect.arrayContaining([
        { problem: 'parent of another tenant', via: expect.stringContaining('parent_id'), rows: 1 },
        { problem: 'missing parent', via: expect.stringContaining('parent_id'), rows: 1 },
      ]),
    );
    await unguarded('update customers set parent_id = null');
    expect(await count({ keep: false })).toMatchObject({ verdict: 'sound' });
  });

  test('finds a tenant that the registry does not know', async () => {
    const quiet = '88888888-8888-4888-8888-888888888888';
    await unguarded(`insert into tenants (id, name, slug) values ('${quiet}', 'Quiet', 'quiet')`);
    expect(await ofTable('tenants', { keep: false })).toMatchObject({ problems: [{ problem: 'not registered', rows: 1 }] });
    await unguarded(`delete from tenants where id = '${quiet}'`);
  });

  test('of a role whom policies bind gives errors, never a count that is too low', async () => {
    const app = await connect(on.urls.app, { purpose: 'test' });
    try {
      await expect(count({}, app)).rejects.toMatchObject({ code: '42501' });
    } finally {
      await app.end();
    }
    expect(await count({}, system).catch((error: { code: string }) => error.code)).toBe('42501');
  });

  test('that may not read for long says which tables it could not ask, and does not call the rest sound', async () => {
    await unguarded(`insert into customers (tenant_id, name) select '${acme}', n from generate_series(1, 300000) n`);
    const before = (await count({ keep: false })).tables.find(({ table }) => table === 'public.customers')?.rowsBefore;
    const found = await count({ timeoutMs: 15 });
    expect(found).toMatchObject({ verdict: 'unknown', of: 5 });
    expect(found.visited).toBeLessThan(5);
    const customers = found.tables.find(({ table }) => table === 'public.customers');
    expect(customers).toMatchObject({ rows: null, fell: [], failures: expect.arrayContaining([expect.stringContaining('statement timeout')]) });
    // What could not be counted is compared with its last count, when it can be.
    expect(await ofTable('customers', { keep: false })).toMatchObject({ rowsBefore: before, failures: [] });
  });

  test('does not wait for a table that somebody holds', async () => {
    const holder = await connect(database.url, { purpose: 'test' });
    try {
      await holder.query('begin; lock table public.customers in access exclusive mode');
      await expect(count()).rejects.toMatchObject({ code: 'lock_not_acquired' });
    } finally {
      await holder.end();
    }
  });
});
