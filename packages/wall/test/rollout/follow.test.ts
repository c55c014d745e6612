import { execFile } from 'node:child_process';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import type pg from 'pg';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { CrossTenantError, run, StatementRefusedError, system, TenantContextError, WallNotHeldError } from '../../src/index.ts';
import { modeOf } from '../../src/rollout/mode.ts';
import { allItemsOf, failure, ids, itemsPerTenant, tenant, tenantCount } from '../walled-database.ts';
import { observedDatabase } from './observed-database.ts';

const wall = await observedDatabase();
const { database } = wall;
const everything = tenantCount * itemsPerTenant;

beforeEach(async () => {
  await wall.seen();
  await wall.setModes();
});

/** Whether the wall binds what is sent now in the context that this is called in. */
async function isBound(pool: pg.Pool): Promise<unknown> {
  return (await pool.query("select row_security_active('items'::regclass) as bound")).rows[0]?.bound;
}

const within = (n: number, pool: pg.Pool) => run({ tenant: tenant(n) }, () => isBound(pool));

/** A change is heard within about a second; a busy machine is given more. */
const heard = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

describe('the modes', () => {
  test('of a canary are the same for a hundred tenants in every process, and those that the documented hash gives', async () => {
    const tenants = Array.from({ length: 100 }, (_, n) => tenant(n + 1));
    await database.query('insert into partywall.registry (tenant_id) select unnest($1::uuid[]) on conflict do nothing', [tenants]);
    await wall.setModes(['all', '', 'observe'], ['percent', '10', 'enforce'], ['tenant', tenant(7), 'enforce']);
    const input = JSON.stringify({ app: database.urlAs(wall.app), observer: database.urlAs(wall.observer), tenants });
    const script = path.join(import.meta.dirname, 'who-serves.ts');
    const processes = [1, 2].map(() => promisify(execFile)(process.execPath, ['--conditions=partywall-source', script, input]));
    const [one, two] = (await Promise.all(processes)).map(({ stdout }) => stdout);
    const { rows } = await database.query('select partywall.rollout_state(null) as state');
    expect(JSON.parse(one ?? '')).toEqual(tenants.map((id) => modeOf(rows[0]?.['state'], id) === 'enforce'));
    expect(two).toBe(one);
    expect(JSON.parse(one ?? '')).toContain(true);
    expect(JSON.parse(one ?? '')).toContain(false);
  });

  test('are followed until the pool has ended, also where nothing else keeps the process running', async () => {
    const app = new URL(database.urlAs(wall.app));
    const { hostname, port } = app;
    // A server that takes its time to close a connection.
    const far = net.createServer({ allowHalfOpen: true }, (near) => {
      const server = net.connect(Number(port), hostname);
      near.pipe(server).on('error', () => near.destroy());
      server.on('data', (bytes) => near.write(bytes));
      server.on('end', () => setTimeout(() => near.end(), 200));
      near.on('error', () => server.destroy());
    });
    await new Promise<void>((resolve) => far.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void far.close());
    app.port = String((far.address() as net.AddressInfo).port); // it listens on TCP
    const input = JSON.stringify({ app: app.href, observer: database.urlAs(wall.observer), tenant: tenant(1) });
    const script = path.join(import.meta.dirname, 'ends-last.ts');
    const { stdout } = await promisify(execFile)(process.execPath, ['--conditions=partywall-source', script, input]);
    expect(stdout).toBe('ended');
  });

  test('are heard by a running pool, both ways, for one tenant and not for its neighbour', async () => {
    const pool = wall.rolledOut();
    expect(await within(1, pool)).toBe(true);
    await wall.setModes(['tenant', tenant(1), 'observe']);
    await heard(async () => expect(await within(1, pool)).toBe(false));
    expect(await within(2, pool)).toBe(true);
    expect(await failure(isBound(pool))).toBeInstanceOf(TenantContextError);
    await wall.setModes(['all', '', 'observe']);
    await heard(async () => expect(await within(2, pool)).toBe(false));
    expect([await isBound(pool), await system('look', () => isBound(pool))]).toEqual([false, false]);
    await wall.setModes(['all', '', 'enforce']);
    await heard(async () => expect(await within(1, pool)).toBe(true));
    expect(await failure(isBound(pool))).toBeInstanceOf(TenantContextError);
    await pool.end();
  });

  test('stay what they were while the database cannot be asked', async () => {
    await wall.setModes(['all', '', 'observe']);
    const pool = wall.rolledOut();
    expect(await within(1, pool)).toBe(false);
    await database.query(
      "alter function partywall.rollout_state(text) rename to rollout_state_gone; select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'partywall rollout' and datname = current_database()",
    );
    try {
      const asked = await attempts();
      await heard(async () => expect(await attempts()).toBeGreaterThan(asked));
      expect(await within(1, pool)).toBe(false);
    } finally {
      await database.query('alter function partywall.rollout_state_gone(text) rename to rollout_state');
    }
    await wall.setModes(['all', '', 'enforce']);
    await heard(async () => expect(await within(1, pool)).toBe(true));
    await pool.end();
  });

  test('are enforce where they could never be asked for', async () => {
    await wall.setModes(['all', '', 'observe']);
    await database.query('alter function partywall.rollout_state(text) rename to rollout_state_gone');
    const pool = wall.rolledOut();
    try {
      expect(await within(1, pool)).toBe(true);
      expect(await failure(isBound(pool))).toBeInstanceOf(TenantContextError);
    } finally {
      await database.query('alter function partywall.rollout_state_gone(text) rename to rollout_state');
    }
    await heard(async () => expect(await within(1, pool)).toBe(false));
    await pool.end();
  });

  /** Backends that have asked so far: the poll connects anew after each failure. */
  async function attempts(): Promise<number> {
    await database.query('select pg_stat_clear_snapshot()');
    const { rows } = await database.query<{ count: number }>('select sessions::int as count from pg_stat_database where datname = current_database()');
    return rows[0]?.count ?? 0;
  }
});

describe('a connection', () => {
  test('keeps the mode that it was taken in until it is handed back, transaction after transaction', async () => {
    await wall.setModes(['all', '', 'observe']);
    const pool = wall.rolledOut();
    await run({ tenant: tenant(1) }, async () => {
      const client = await pool.connect();
      await client.query('begin');
      expect((await client.query('select id from items')).rowCount).toBe(everything);
      await wall.setModes(['all', '', 'enforce']);
      await heard(async () => expect(await within(1, pool)).toBe(true));
      expect((await client.query('select id from items')).rowCount).toBe(everything);
      await client.query('commit');
      expect((await client.query('select id from items')).rowCount).toBe(everything);
      client.release();
      expect(ids(await pool.query('select id from items'))).toEqual(allItemsOf(1));
    });
    await pool.end();
  });

  test('of an observed tenant, or taken outside any context, does not serve an enforced one', async () => {
    await wall.setModes(['all', '', 'observe'], ['tenant', tenant(2), 'enforce']);
    const pool = wall.rolledOut();
    for (const taken of [await pool.connect(), await run({ tenant: tenant(1) }, () => pool.connect())]) {
      expect(await failure(run({ tenant: tenant(2) }, () => taken.query('select id from items')))).toBeInstanceOf(StatementRefusedError);
      expect(await failure(run({ tenant: tenant(2).toUpperCase() }, () => taken.query('select id from items')))).toBeInstanceOf(StatementRefusedError);
      expect((await run({ tenant: tenant(1) }, () => taken.query('select id from items'))).rowCount).toBe(everything);
      taken.release();
    }
    expect(ids(await run({ tenant: tenant(2) }, () => pool.query('select id from items')))).toEqual(allItemsOf(2));
    await pool.end();
  });

  test('to an observer that the policies bind, or that may not report, is refused; so is an observer that cannot be reached, and enforcing goes on', async () => {
    await wall.setModes(['all', '', 'observe'], ['tenant', tenant(2), 'enforce']);
    const bound = wall.rolledOut({ rollout: { observe: { connectionString: database.urlAs(wall.app) } } });
    expect(await failure(within(1, bound))).toBeInstanceOf(WallNotHeldError);
    const closed = net.createServer();
    const port = await new Promise<number>((resolve) => closed.listen(0, '127.0.0.1', () => resolve((closed.address() as net.AddressInfo).port)));
    await new Promise((resolve) => closed.close(resolve));
    const lost = wall.rolledOut({ rollout: { observe: { host: '127.0.0.1', port, user: wall.observer, database: database.name } } });
    expect((await failure(within(1, lost))).code).toBe('ECONNREFUSED');
    expect(await within(2, lost)).toBe(true);
    // The way out is heard although the observer is gone.
    await wall.setModes(['all', '', 'enforce']);
    await heard(async () => expect(await within(1, lost)).toBe(true));
    await Promise.all([bound.end(), lost.end()]);
  });
});

test('modes that change under load cause no error, lose no row of a tenant’s own, and leave no connection behind', async () => {
  const pool = wall.rolledOut({ max: 5 });
  const ended = new AbortController();
  const shapes = [
    (n: number) => pool.query(`select id from items where tenant_id = '${tenant(n)}'`),
    async (n: number) => {
      const client = await pool.connect();
      try {
        await client.query('begin');
        const result = await client.query(`select id from items where tenant_id = '${tenant(n)}'`);
        await client.query('update items set body = body where tenant_id = $1', [tenant(n)]);
        await client.query('commit');
        return result;
      } finally {
        client.release();
      }
    },
  ];
  let served = 0;
  const load = Array.from({ length: 12 }, async (_, worker) => {
    for (let turn = 0; !ended.signal.aborted; turn += 1) {
      const n = ((worker * 7 + turn) % tenantCount) + 1;
      const result = await run({ tenant: tenant(n) }, () => shapes[turn % 2]?.(n));
      expect(ids(result ?? { rows: [] })).toEqual(allItemsOf(n));
      served += 1;
    }
  });
  try {
    for (const mode of ['observe', 'enforce', 'observe', 'enforce'] as const) {
      await wall.setModes(['all', '', mode]);
      await heard(async () => expect(await within(1, pool)).toBe(mode === 'enforce'));
      const before = served;
      await heard(async () => expect(served).toBeGreaterThan(before + 50));
    }
  } finally {
    ended.abort();
    await Promise.all(load);
  }
  await pool.end();
  expect((await wall.seen()).filter(({ mode }) => mode === 'observe')).toEqual([]);
  await heard(async () => {
    const { rows } = await database.query<{ count: number }>('select count(*)::int as count from pg_stat_activity where usename = any ($1)', [
      [wall.app, wall.observer],
    ]);
    expect(rows[0]?.count).toBe(0);
  });
});

describe('SQL of an attacker, as the application in an enforced tenant’s request', () => {
  const attempts = [
    ...['observe', 'enforce'].map((mode) => `update partywall.rollout set mode = '${mode}'`),
    'delete from partywall.rollout',
    'select partywall.report_observations(\'{"seen": [{"mode": "enforce", "kind": "tenant_context", "count": 1000000}]}\')',
    `set role ${wall.observer}`,
    `set session authorization ${wall.observer}`,
    "select partywall.observe('')",
    'create policy partywall_observe on items using (true)',
    'alter table items disable row level security',
    'drop trigger observe_update on items',
    'set row_security = off',
  ];

  test.each(attempts)('cannot %s', async (attempt) => {
    await wall.setModes(['all', '', 'enforce']);
    const client = await wall.client();
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant(1)]);
    await client.query('savepoint before');
    await client.query(attempt).catch(() => client.query('rollback to before'));
    const { rows } = await client.query('select id from items').catch(() => ({ rows: [] }));
    expect(rows.length === 0 || ids({ rows }).every((id) => allItemsOf(1).includes(id))).toBe(true);
    await client.query('rollback');
    expect((await database.query('select mode from partywall.rollout')).rows).toEqual([{ mode: 'enforce' }]);
    expect((await database.query("select from partywall.rollout_counts where kind = 'tenant_context' and count >= 1000000")).rowCount).toBe(0);
  });

  test('gains nothing by the marks of an observing session', async () => {
    const client = await wall.client();
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant(1)]);
    await client.query("select set_config('partywall.observe', 'on', true)");
    expect(ids(await client.query('select id from items'))).toEqual(allItemsOf(1));
    await expect(client.query('insert into items (id, tenant_id, body) values (9900, $1, $2)', [tenant(2), 'x'])).rejects.toMatchObject({ code: '42501' });
    await client.query('rollback');
  });

  test('reads of the modes what processes need, and no tenant’s key', async () => {
    await wall.setModes(['all', '', 'observe'], ['tenant', tenant(3), 'enforce']);
    const client = await wall.client();
    const { rows } = await client.query('select partywall.rollout_state(null)::text as state, partywall.rollout_tables()::text as tables');
    expect(JSON.stringify(rows)).not.toContain(tenant(3));
  });
});

describe('a table that is open while the rest is enforced', () => {
  const open = `create policy partywall_observe on items to ${wall.app} using (true) with check (true)`;

  test('hides nothing and refuses nothing; the rest holds, in a context and outside any', async () => {
    await database.query(`${open}; create table secrets (id int, tenant_id uuid not null, primary key (tenant_id, id)); alter table secrets enable row level security;
      alter table secrets force row level security; create policy pw_tenant on secrets using (tenant_id = partywall.tenant_id()); grant all on secrets to ${wall.app};
      insert into secrets values (1, '${tenant(1)}'), (2, '${tenant(2)}')`);
    await wall.setModes(['table', 'public.items', 'observe']);
    const pool = wall.rolledOut();
    try {
      await run({ tenant: tenant(1) }, async () => {
        expect((await pool.query('select id, tenant_id from items')).rowCount).toBe(everything);
        expect((await pool.query('select id from secrets')).rows).toEqual([{ id: 1 }]);
        await pool.query("insert into items (id, tenant_id, body) values (9500, $1, 'foreign')", [tenant(2)]);
        expect(await failure(pool.query('insert into secrets values (3, $1)', [tenant(2)]))).toBeInstanceOf(CrossTenantError);
      });
      expect((await pool.query('delete from items where id = 9500')).rowCount).toBe(1);
      expect((await pool.query('select id from items')).rowCount).toBe(everything);
      expect(await failure(pool.query('select id from secrets'))).toBeInstanceOf(TenantContextError);
      expect(await failure(pool.query('select s.id from items i join secrets s using (tenant_id)'))).toBeInstanceOf(TenantContextError);
      expect(await failure(pool.query("select 'items'"))).toBeInstanceOf(TenantContextError);
      expect(await failure(system('look', () => pool.query('select id from secrets')))).toBeInstanceOf(TenantContextError);
    } finally {
      await pool.end();
      await database.query('drop policy partywall_observe on items; drop table secrets');
    }
    const seen = (await wall.seen()).map(({ mode, kind, relation, count }) => [mode, kind, relation, count]);
    expect(seen).toContainEqual(['enforce', 'foreign_row', 'public.items', everything - itemsPerTenant]);
    expect(seen).toContainEqual(['enforce', 'foreign_write', 'public.items', 1]);
    expect(seen).toContainEqual(['enforce', 'write_without_context', 'public.items', 1]);
    expect(seen.filter(([, kind]) => kind === 'no_context').length).toBe(3);
  });
});

describe('the re-run behind the wall', () => {
  test('finds what rows do not show: a count, an aggregate, a view, a query that leaves the tenant out; and nothing in queries that are right', async () => {
    await database.query(
      `create view all_items with (security_invoker = true) as select body from items; create table platform (id int); grant select on all_items, platform to ${wall.observer}; grant select on all_items to ${wall.app}`,
    );
    await wall.setModes(['all', '', 'observe']);
    const wrong = {
      'select body from items': 'fewer_rows',
      'select count(*) from items': 'other_result',
      'select body from all_items': 'fewer_rows',
      'select id from platform': 'refused_read',
    };
    const right = [`select body from items where tenant_id = '${tenant(1)}' order by body`, 'select code from countries;', 'select now(), 1 as a, 2 as a'];
    for (const text of [...Object.keys(wrong), ...right]) {
      const pool = wall.rolledOut({ rollout: { ...wall.rollout, rerun: 1 }, application_name: 'compared' });
      await run({ tenant: tenant(1) }, () => pool.query(text));
      // The application's own pool is used for nothing else while all is observed.
      await heard(async () => expect(await compared()).toBeGreaterThan(0));
      await pool.end();
      const expected = Object.entries(wrong).flatMap(([one, kind]) => (one === text ? [kind] : []));
      expect([text, (await wall.seen()).map(({ kind }) => kind)]).toEqual([text, expected]);
    }
  });

  test('leaves what locks rows or calls a volatile function alone', async () => {
    await database.query('create sequence drawn');
    await database.query(`grant usage on sequence drawn to ${wall.observer}, ${wall.app}`);
    await wall.setModes(['all', '', 'observe']);
    const pool = wall.rolledOut({ rollout: { ...wall.rollout, rerun: 1 }, application_name: 'compared' });
    await run({ tenant: tenant(1) }, async () => {
      for (const text of [
        'select body from items where id = 1 for update',
        "select nextval('drawn')",
        'with made as (insert into platform values (1) returning 1) select 1 from made',
      ]) {
        await pool.query(text).catch(() => undefined);
      }
    });
    // One that is right is compared as soon as it is its turn.
    await heard(async () => {
      await run({ tenant: tenant(1) }, () => pool.query('select 1 as one'));
      expect(await compared()).toBe(1);
    });
    await pool.end();
    expect((await database.query('select last_value::int, is_called from drawn')).rows).toEqual([{ last_value: 1, is_called: true }]);
    expect((await wall.seen()).map(({ kind }) => kind)).toEqual([]);
  });

  async function compared(): Promise<number> {
    const { rows } = await database.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where usename = $1 and application_name = 'compared' and state = 'idle' and query = 'rollback'",
      [wall.app],
    );
    return rows[0]?.count ?? 0;
  }
});

test('how long statements take and how many fail is reported for each mode, and what an enforcing pool refuses by its code', async () => {
  await database.query('delete from partywall.rollout_traffic');
  await wall.setModes(['all', '', 'enforce'], ['tenant', tenant(1), 'observe']);
  const pool = wall.rolledOut();
  for (let n = 0; n < 5; n += 1) {
    await within(1, pool);
    await within(2, pool);
  }
  await failure(run({ tenant: tenant(2) }, () => pool.query('select 1/0')));
  await failure(pool.query('select 1'));
  await failure(run({ tenant: tenant(2) }, () => pool.query("insert into items (id, tenant_id, body) values (1, $1, '')", [tenant(3)])));
  await pool.end();
  const { rows } = await database.query(
    'select mode, sum(queries)::int as queries, sum(errors)::int as errors, sum((select sum(b) from unnest(buckets) b))::int as counted from partywall.rollout_traffic group by mode order by mode',
  );
  expect(rows).toEqual([
    { mode: 'enforce', queries: 7, errors: 2, counted: 7 },
    { mode: 'observe', queries: 5, errors: 0, counted: 5 },
  ]);
  expect((await wall.seen()).map(({ mode, kind, count }) => [mode, kind, count])).toEqual([
    ['enforce', 'cross_tenant', 1],
    ['enforce', 'tenant_context', 1],
  ]);
});
