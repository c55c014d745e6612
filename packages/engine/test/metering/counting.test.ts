import { run } from '@partywall/wall';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { database, control, app } = fixture;

await database.query(`insert into partywall_control.plans (name, title, tier, limits, retention_days, audit_retention_days)
  values ('hundred', 'Hundred', 'pro', '{"customers": 100, "users": 100, "storage": 1000}', 30, 30)`);

async function used(tenant: string): Promise<Record<string, number>> {
  const { rows } = await control.pool.query<{ quota: string; used: string }>('select quota, used from partywall_control.quota_usage($1)', [tenant]);
  return Object.fromEntries(rows.map((row) => [row.quota, Number(row.used)]));
}

/** A connection of the application's role that no walled pool looks after, as an injected statement has it. */
async function raw<Result>(work: (client: pg.Client) => Promise<Result>, url = fixture.urls.app): Promise<Result> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

const insertCustomer = 'insert into customers (tenant_id, name) values ($1, $2)';
const insertUser = "insert into users (tenant_id, email, name) values ($1, gen_random_uuid() || '@example.com', 'x')";

async function customers(tenant: string): Promise<number> {
  const { rows } = await database.query<{ n: number }>('select count(*)::int as n from customers where tenant_id = $1', [tenant]);
  return rows[0]?.n ?? 0;
}

describe.each(['read committed', 'repeatable read', 'serializable'])('in %s', (isolation) => {
  test('fifty writers at a limit of a hundred leave exactly a hundred rows', async () => {
    const tenant = await fixture.tenant(`Fifty ${isolation}`, 'hundred');
    let refused = 0;
    const writer = () =>
      raw(async (client) => {
        for (let n = 0; n < 4; ) {
          try {
            await client.query(`begin isolation level ${isolation}`);
            await client.query('select partywall.enter($1)', [tenant]);
            await client.query(insertCustomer, [tenant, `n${n}`]);
            await client.query('commit');
            n += 1;
          } catch (error) {
            await client.query('rollback');
            if (!(error instanceof pg.DatabaseError)) throw error;
            if (error.code === '40001') continue;
            expect(error.code).toBe('PW008');
            refused += 1;
            n += 1;
          }
        }
      });
    await Promise.all(Array.from({ length: 50 }, writer));
    expect(await customers(tenant)).toBe(100);
    expect(refused).toBe(100);
    expect(await used(tenant)).toMatchObject({ customers: 100 });
  });

  test('two transactions that both insert both commit', async () => {
    const tenant = await fixture.tenant(`Two ${isolation}`, 'hundred');
    await raw((one) =>
      raw(async (two) => {
        for (const client of [one, two]) {
          await client.query(`begin isolation level ${isolation}`);
          await client.query('select partywall.enter($1)', [tenant]);
          await client.query(insertCustomer, [tenant, 'x']);
        }
        await one.query('commit');
        await two.query('commit');
      }),
    );
    expect(await used(tenant)).toMatchObject({ customers: 2 });
  });
});

test('transactions that write two tables in opposite order never deadlock', async () => {
  const tenant = await fixture.tenant('Opposite', 'enterprise');
  const writer = (order: readonly string[]) =>
    raw(async (client) => {
      for (let n = 0; n < 20; n += 1) {
        await client.query('begin');
        await client.query('select partywall.enter($1)', [tenant]);
        for (const statement of order) await client.query(statement, statement === insertCustomer ? [tenant, 'x'] : [tenant]);
        await client.query('commit');
      }
    });
  await Promise.all(Array.from({ length: 10 }, (_, at) => writer(at % 2 === 0 ? [insertCustomer, insertUser] : [insertUser, insertCustomer])));
  expect(await used(tenant)).toMatchObject({ customers: 200, users: 200 });
});

describe('whatever the statement', () => {
  const cases: Readonly<Record<string, { statements: readonly string[]; customers: number; storage?: number }>> = {
    'many rows at once': { statements: ['insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 60) n'], customers: 60 },
    'insert on conflict do nothing': {
      statements: [
        "insert into customers (id, tenant_id, name) values ('00000000-0000-0000-0000-00000000000a', $1, 'a')",
        "insert into customers (id, tenant_id, name) values ('00000000-0000-0000-0000-00000000000a', $1, 'b'), (gen_random_uuid(), $1, 'c') on conflict do nothing",
        "insert into customers (id, tenant_id, name) values ('00000000-0000-0000-0000-00000000000a', $1, 'b') on conflict (id) do update set name = 'd'",
      ],
      customers: 2,
    },
    'a savepoint that is rolled back': {
      statements: [
        "insert into customers (tenant_id, name) values ($1, 'a')",
        'savepoint s',
        "insert into customers (tenant_id, name) values ($1, 'b')",
        'rollback to s',
        "insert into customers (tenant_id, name) values ($1, 'c')",
      ],
      customers: 2,
    },
    'constraints set immediate': {
      statements: [
        'set constraints all immediate',
        "insert into customers (tenant_id, name) values ($1, 'a')",
        "insert into customers (tenant_id, name) values ($1, 'b')",
        "delete from customers where tenant_id = $1 and name = 'a'",
      ],
      customers: 1,
    },
    'a savepoint that is rolled back after its statements were settled': {
      statements: [
        'set constraints all immediate',
        "insert into customers (tenant_id, name) values ($1, 'a')",
        'savepoint s',
        "insert into customers (tenant_id, name) values ($1, 'b')",
        'rollback to s',
      ],
      customers: 1,
    },
    'a merge that inserts, updates and deletes': {
      statements: [
        "insert into customers (tenant_id, name) values ($1, 'a'), ($1, 'b')",
        `merge into customers c using (values ('a'), ('b'), ('c'), ('d')) v (name) on c.name = v.name and c.tenant_id = $1
          when matched and v.name = 'a' then delete when matched then update set name = 'B'
          when not matched then insert (tenant_id, name) values ($1, v.name)`,
      ],
      customers: 3,
    },
    'deleted again': { statements: ["insert into customers (tenant_id, name) values ($1, 'a')", 'delete from customers where tenant_id = $1'], customers: 0 },
    'rows that go by a cascade': {
      statements: [
        "with c as (insert into customers (tenant_id, name) values ($1, 'a'), ($1, 'b') returning id) insert into notes (customer_id, body) select id, 'hello' from c",
        "delete from customers where tenant_id = $1 and name = 'a'",
      ],
      customers: 1,
    },
    'a size that changes': {
      statements: [
        "insert into files (tenant_id, name, size_bytes) values ($1, 'a', 100), ($1, 'b', 50)",
        "update files set size_bytes = 7 where tenant_id = $1 and name = 'a'",
        "delete from files where tenant_id = $1 and name = 'b'",
      ],
      customers: 0,
      storage: 7,
    },
  };

  test.each(Object.entries(cases))('%s is counted', async (name, { statements, customers: expected, storage }) => {
    const tenant = await fixture.tenant(`Case ${name}`, 'hundred');
    await database.query("delete from customers where id = '00000000-0000-0000-0000-00000000000a'");
    await raw(async (client) => {
      await client.query('begin');
      await client.query('select partywall.enter($1)', [tenant]);
      for (const statement of statements) await client.query(statement, statement.includes('$1') ? [tenant] : []);
      await client.query('commit');
    });
    expect(await used(tenant)).toMatchObject({ customers: expected, ...(storage !== undefined && { storage }) });
    expect((await control.pool.query('select from partywall_control.recount($1) where was is distinct from counted', [tenant])).rowCount).toBe(0);
  });
});

test('text weighs the same when it goes as when it came, whatever the session is set to', async () => {
  await database.query(
    "alter table notes add column at timestamptz default now(), add column attachment bytea default '\\x000102', add column weight real default 0.1",
  );
  const tenant = await fixture.tenant('Weighed', 'hundred');
  await run({ tenant }, async () => {
    const { rows } = await app.query<{ id: string }>(`${insertCustomer} returning id`, [tenant, 'x']);
    await app.query("insert into notes (customer_id, body) values ($1, 'æøå')", [rows[0]?.id]);
  });
  const { storage } = await used(tenant);
  expect(storage).toBeGreaterThan(0);
  await raw(async (client) => {
    await client.query("set datestyle = 'Postgres'; set timezone = 'Asia/Kathmandu'; set bytea_output = 'escape'; set extra_float_digits = -15");
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant]);
    await client.query('delete from notes');
    await client.query('commit');
  });
  expect(await used(tenant)).toMatchObject({ storage: 0 });
});

test('a row that the owner moves to another tenant is counted there', async () => {
  const [from, to] = [await fixture.tenant('Moves from'), await fixture.tenant('Moves to')];
  await database.query("insert into customers (tenant_id, name) values ($1, 'a'), ($1, 'b')", [from]);
  await database.query("update customers set tenant_id = $2 where tenant_id = $1 and name = 'a'", [from, to]);
  expect(await used(from)).toMatchObject({ customers: 1 });
  expect(await used(to)).toMatchObject({ customers: 1 });
});

test('one statement over more tenants than one transaction may lock is counted for each', async () => {
  await database.query("insert into tenants (id, name, slug) select gen_random_uuid(), 'bulk', 'bulk-' || n from generate_series(1, 600) n");
  await database.query("insert into customers (tenant_id, name) select id, 'bulk' from tenants where name = 'bulk'");
  const counted = () =>
    control.pool.query(
      "select u.used::int, count(*)::int as tenants from partywall_control.quota_usage() u join partywall_control.directory d using (tenant_id) where d.name = 'bulk' and u.quota = 'customers' group by 1",
    );
  expect((await counted()).rows).toEqual([{ used: 1, tenants: 600 }]);
  await database.query("delete from tenants where name = 'bulk'");
  expect((await counted()).rows).toEqual([]);
});

test('a tenant that goes leaves neither counters nor large objects', async () => {
  const cells = async () => (await database.query<{ n: number }>('select count(*)::int as n from pg_largeobject_metadata')).rows[0]?.n;
  const before = await cells();
  const tenant = await fixture.tenant('Gone');
  await database.query(insertCustomer, [tenant, 'x']);
  expect(await cells()).toBe((before ?? 0) + 3);
  await database.query('delete from tenants where id = $1', [tenant]);
  expect(await cells()).toBe(before);
});

test('a truncated table counts nothing for anybody, and is refused to a transaction that may not see it all', async () => {
  const [one, two] = [await fixture.tenant('Truncated one'), await fixture.tenant('Truncated two')];
  await database.query("insert into files (tenant_id, name, size_bytes) values ($1, 'a', 10), ($2, 'b', 20)", [one, two]);
  await database.query('begin isolation level repeatable read');
  await expect(database.query('truncate files')).rejects.toMatchObject({ code: '0A000' });
  await database.query('rollback');
  await database.query('truncate files');
  expect(await used(one)).toMatchObject({ storage: 0 });
  expect(await used(two)).toMatchObject({ storage: 0 });
});

test('the refusal names quota, limit, usage and what was requested, and leaves nothing behind', async () => {
  const tenant = await fixture.tenant('Refused', 'hundred');
  await run({ tenant }, () => app.query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 98) n', [tenant]));
  const error: unknown = await raw(async (client) => {
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant]);
    await client.query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 5) n', [tenant]);
    return client.query('commit').catch((refused: unknown) => refused);
  });
  expect(error).toMatchObject({ code: 'PW008' });
  expect(error instanceof pg.DatabaseError ? JSON.parse(error.detail ?? '') : error).toEqual({ quota: 'customers', limit: 100, usage: 98, requested: 5 });
  expect(await customers(tenant)).toBe(98);
  expect(await used(tenant)).toMatchObject({ customers: 98 });
});

test('over a limit that shrank, what is there stays, less is accepted and more is refused', async () => {
  const tenant = await fixture.tenant('Shrunk', 'pro');
  await run({ tenant }, () => app.query('insert into customers (tenant_id, name) select $1, n::text from generate_series(1, 120) n', [tenant]));
  await database.query("update partywall_control.directory set plan = 'hundred' where tenant_id = $1", [tenant]);
  await run({ tenant }, () => app.query("update customers set name = 'still' where name = '1'"));
  await run({ tenant }, () => app.query("delete from customers where name = '2'"));
  await expect(run({ tenant }, () => app.query(insertCustomer, [tenant, 'x']))).rejects.toMatchObject({
    name: 'QuotaExceededError',
    quota: 'customers',
    limit: 100,
    usage: 119,
    requested: 1,
  });
  expect(await customers(tenant)).toBe(119);
});

test('the application can neither read nor write what counts it', async () => {
  const tenant = await fixture.tenant('Forger', 'hundred');
  await raw(async (client) => {
    for (const statement of [
      'delete from partywall_control.usage_moves',
      'select partywall_control.recount(null)',
      `select lo_put((select cell from partywall_control.usage_counters limit 1), 0, '\\x00')`,
      'alter table customers disable trigger all',
    ]) {
      await expect(client.query(statement), statement).rejects.toMatchObject({ code: '42501' });
    }
    const { rows } = await database.query<{ cell: number }>('select cell::int from partywall_control.usage_counters where tenant_id = $1', [tenant]);
    await expect(client.query(`select lo_put(${rows[0]?.cell}, 0, '\\x0000000000000000')`)).rejects.toMatchObject({ code: '42501' });
  });
});
