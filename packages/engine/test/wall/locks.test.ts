import { beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { planWall, stepSql, type WallStep } from '../../src/wall/plan.ts';
import { quarantine } from '../../src/wall/quarantine.ts';
import { runStep } from '../../src/wall/run-step.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { apply, fixtureTemplate, onDatabase, small, testRoles, waitingForLock, withCatalogClient } from './databases.ts';
import { fixtureModel } from './fixture.ts';

const roles = testRoles();
const model = fixtureModel(roles);
let fixture: string;
beforeAll(async () => {
  fixture = await fixtureTemplate(roles);
});

async function count(database: TestDatabase, query: string): Promise<number> {
  const { rows } = await database.query<{ count: number }>(`select count(*)::int as count from ${query}`);
  return rows[0]?.count ?? -1;
}

describe('a table that somebody holds', () => {
  test('is asked for in short attempts, between which writers get through, and had when it is free', async () => {
    const database = await createDatabase({ template: fixture });
    await onDatabase(database.urlAs(roles.owner), async (holder) => {
      await holder.query('begin');
      await holder.query("insert into contacts (customer_id, name) values (1, 'long')");
      let ended = false;
      const applying = apply(database.url, model, 'expand').finally(() => {
        ended = true;
      });
      await onDatabase(database.urlAs(roles.owner), async (writer) => {
        for (let round = 1; round <= 3; round += 1) {
          await waitingForLock(database);
          // Queued behind the waiting apply, which gives way although the holder does not.
          await writer.query('insert into contacts (customer_id, name) values (2, $1)', [`writer ${round}`]);
        }
      });
      expect(ended).toBe(false);
      await holder.query('commit');
      await applying;
    });
    expect(await count(database, "contacts where name like 'writer %' and tenant_id is not null")).toBe(3);
  });

  test('is given up after so many attempts, with what was done kept for the next run', async () => {
    const database = await createDatabase({ template: fixture });
    await onDatabase(database.url, async (holder) => {
      await holder.query('begin; lock table hens in access share mode');
      const applying = apply(database.url, model, 'expand', { lockAttempts: 2 });
      await expect(applying).rejects.toMatchObject({
        code: 'lock_not_acquired',
        message: 'add tenant_id on public.hens: no lock after 2 attempts of 250 ms',
      });
      await holder.query('commit');
    });
    expect(await count(database, "pg_attribute where attrelid = 'contacts'::regclass and attname = 'tenant_id'")).toBe(1);
    const { applied } = await apply(database.url, model, 'expand');
    expect(applied).not.toContain('expand/column/public.contacts');
    expect(applied).toContain('expand/column/public.hens');
  });
});

test('a step that works long between two locks gives way before a writer finds the deadlock, also as a role that cannot look for it early', async () => {
  const database = await createDatabase({ template: fixture });
  const step: WallStep = {
    id: 'test/slow',
    phase: 'expand',
    title: 'work long',
    reason: 'a loaded machine does',
    lock: 'brief',
    action: {
      kind: 'transaction',
      statements: ['lock table contacts in access exclusive mode', 'select pg_sleep(0.9)', 'lock table hens in access exclusive mode'],
    },
  };
  const url = database.urlAs(roles.owner);
  await onDatabase(url, (client) =>
    onDatabase(url, async (writer) => {
      await writer.query('begin');
      await writer.query('update hens set egg_id = egg_id');
      const stepping = runStep(step, { client, quiet: false, signal: undefined, onProgress: () => undefined });
      await expect
        .poll(() => count(database, "pg_locks where relation = 'contacts'::regclass and mode = 'AccessExclusiveLock' and granted"), { interval: 5 })
        .toBe(1);
      // Waits for the step, which will want what this one holds.
      await writer.query("insert into contacts (customer_id, name) values (1, 'patient')");
      await writer.query('commit');
      await stepping;
    }),
  );
  expect(await count(database, "contacts where name = 'patient'")).toBe(1);
});

test('the key of a partitioned table fails no writer who has read the referenced table and comes to write it', async () => {
  const database = await createDatabase({ template: fixture });
  await apply(database.url, model, 'expand');
  const stop = new AbortController();
  const adopting = 'contract/foreign-key/public.events/pw_fk_';
  const first = apply(database.url, model, 'contract', {
    signal: stop.signal,
    onProgress: (event) => event.kind === 'step' && event.step.id.startsWith(adopting) && stop.abort(),
  });
  await expect(first).rejects.toThrow();
  const { steps } = planWall(model, await withCatalogClient(database.url, readCatalog));
  const step = steps.find(({ id }) => id.startsWith(adopting));
  if (!step) throw new Error('the step is not in the plan');
  await onDatabase(database.url, (client) =>
    onDatabase(database.url, async (writer) => {
      await writer.query('begin');
      await writer.query('select from customers where id = 1 for key share');
      const stepping = runStep(step, { client, quiet: false, signal: undefined, onProgress: () => undefined });
      await expect.poll(() => count(database, "pg_locks where relation = 'customers'::regclass and not granted"), { interval: 5 }).toBeGreaterThan(0);
      await writer.query("update customers set phone = 'written' where id = 1");
      await writer.query('commit');
      await stepping;
    }),
  );
  expect(await count(database, "customers where phone = 'written'")).toBe(1);
});

test('taking rows aside gives way before a writer finds the deadlock, however long it works between two locks', async () => {
  const { database, model: own } = await small(
    roles,
    'create table users (id int primary key, tenant_id int); insert into users values (1, null), (2, 1); create table visits (id int primary key, user_id int references users); insert into visits values (1, 1), (2, 2)',
    { users: { scope: 'scoped', column: 'tenant_id' }, visits: { scope: 'platform' } },
  );
  await apply(database.url, own, 'expand');
  const taking = () =>
    onDatabase(database.url, async (client) => {
      const catalog = await readCatalog(client);
      return quarantine(own, catalog, wantedWall(own, catalog), { client, quiet: false, signal: undefined });
    });
  // Makes the table, then a slow machine of it: the images are written between the locks of the rows and those of their deletion.
  await taking();
  await database.query(`insert into users values (1, null); insert into visits values (1, 1);
    create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.9); return null; end $$;
    create trigger slow after insert on partywall.quarantine for each statement execute function slow()`);
  await onDatabase(database.url, async (writer) => {
    await writer.query('begin; lock table visits in share mode');
    const took = taking();
    await expect
      .poll(
        () => count(database, "pg_stat_activity where query like 'insert into partywall.quarantine%' and state = 'active' and datname = current_database()"),
        { timeout: 10_000, interval: 5 },
      )
      .toBe(1);
    // Waits for the row that is taken aside by whoever will want to delete from `visits`, which this one holds.
    await writer.query('update users set tenant_id = 1 where id = 1');
    await writer.query('commit');
    expect(Object.fromEntries(await took)).toEqual({});
  });
  expect(await count(database, 'users where id = 1 and tenant_id = 1')).toBe(1);
});

describe('the backfill', () => {
  test('skips rows that a writer holds and returns to them', async () => {
    const database = await createDatabase({ template: fixture });
    await database.query("insert into contacts (customer_id, name) select 1, 'row ' || i from generate_series(1, 500) i");
    await onDatabase(database.urlAs(roles.owner), async (holder) => {
      const stop = new AbortController();
      // The column is added before a writer can hold a row against it.
      const first = apply(database.url, model, 'expand', {
        signal: stop.signal,
        onProgress: (event) => event.kind === 'step' && event.step.id.startsWith('expand/backfill/') && stop.abort(),
      });
      await expect(first).rejects.toThrow();
      await holder.query('begin');
      await holder.query("select from contacts where name in ('row 1', 'row 77', 'row 500') for update");
      const applying = apply(database.url, model, 'expand');
      await expect.poll(() => count(database, 'contacts where tenant_id is null'), { timeout: 10_000, interval: 5 }).toBe(3);
      await holder.query('commit');
      await applying;
    });
    expect(await count(database, 'contacts where tenant_id is null')).toBe(0);
  });

  test('waits for transactions that are older, because they may show a row without a tenant after the last pass', async () => {
    const database = await createDatabase({ template: fixture });
    await onDatabase(database.urlAs(roles.owner), async (old) => {
      await old.query('begin isolation level repeatable read');
      await old.query('select pg_current_snapshot()');
      let passed = false;
      const applying = apply(database.url, model, 'expand', {
        onProgress: (event) => {
          passed ||= event.kind === 'step' && event.step.id.startsWith('expand/index/');
        },
      });
      await expect.poll(() => passed, { timeout: 10_000, interval: 5 }).toBe(true);
      // In this snapshot customers have tenants and contacts have none yet.
      await old.query("insert into notes (contact_id, body) values (2, 'from an old snapshot')");
      expect((await old.query("select tenant_id from notes where body like '%old snapshot'")).rows).toEqual([{ tenant_id: null }]);
      await old.query('commit');
      const { troubled } = await applying;
      expect(troubled).toEqual([]);
    });
    expect(await count(database, "notes where body like '%old snapshot' and tenant_id is not null")).toBe(1);
  });

  test('gives up where an older transaction never ends, and says so', async () => {
    const database = await createDatabase({ template: fixture });
    await onDatabase(database.url, async (old) => {
      await old.query('begin');
      await old.query('select pg_current_snapshot()');
      await expect(apply(database.url, model, 'expand', { lockAttempts: 2 })).rejects.toMatchObject({
        code: 'lock_not_acquired',
        message: 'filling what older transactions wrote: 1 transaction that is older is still open',
      });
    });
    await apply(database.url, model, 'expand');
  });

  test('does not fire the application’s triggers', async () => {
    const database = await createDatabase({ template: fixture });
    await apply(database.url, model, 'expand');
    expect(await count(database, 'contacts where touched > 0')).toBe(0);
    expect(await count(database, 'notes where touched > 0')).toBe(0);
    await database.query("update contacts set name = name || '!'");
    expect(await count(database, 'contacts where touched = 0')).toBe(0);
  });

  test('fills a tree from its root down, however its rows lie', async () => {
    const database = await createDatabase({ template: fixture });
    // Each level lies before the one it hangs on, 40 levels deep, in more blocks than one batch.
    await database.query(`create table parts (id int primary key, customer_id int references customers, parent_id int, filler text);
      insert into parts select i, case when i = 1 then 1 end, nullif(i - 1, 0), repeat('x', 1500) from generate_series(40, 1, -1) i;
      alter table parts add foreign key (parent_id) references parts`);
    const tree = {
      ...model,
      tables: new Map([
        ...model.tables,
        [
          'public.parts' as never, // a table name in canonical form
          {
            scope: 'scoped',
            column: 'tenant_id',
            added: true,
            paths: [
              { table: 'public.customers' as never, columns: ['customer_id'], references: ['id'] }, // likewise
              { table: 'public.parts' as never, columns: ['parent_id'], references: ['id'] }, // likewise
            ],
            uniques: new Map(),
            why: undefined,
          } as const,
        ],
      ]),
    };
    const { troubled } = await apply(database.url, tree, 'expand');
    expect(troubled).toEqual([]);
    expect(await count(database, 'parts where tenant_id is not null')).toBe(40);
  });
});

describe('an index that a failed build left invalid', () => {
  test.each([
    ['of a table', 'public.notes'],
    ['of a partition', 'public.events_2024'],
  ])('%s is built again', async (_, table) => {
    const database = await createDatabase({ template: fixture });
    const stop = new AbortController();
    const first = apply(database.url, model, 'expand', {
      signal: stop.signal,
      onProgress: (event) => event.kind === 'step' && event.step.id.startsWith('expand/index/') && stop.abort(),
    });
    await expect(first).rejects.toThrow();
    const plan = planWall(model, await withCatalogClient(database.url, readCatalog));
    const build = plan.steps.find((step) => step.id.startsWith(`expand/index/${table}/`));
    const [statement = ''] = build ? stepSql(build) : [];
    expect(statement).toMatch(/^create unique index concurrently/);
    await onDatabase(database.url, async (holder) => {
      await holder.query(`begin; lock table ${table} in row exclusive mode`);
      await onDatabase(database.url, async (builder) => {
        const { rows } = await builder.query<{ pid: number }>('select pg_backend_pid() as pid');
        const building = builder.query(statement);
        building.catch(() => undefined); // looked at below
        await expect
          .poll(() => count(database, `pg_stat_activity where pid = ${rows[0]?.pid} and cardinality(pg_blocking_pids(pid)) > 0`), { interval: 5 })
          .toBe(1);
        await database.query('select pg_cancel_backend($1)', [rows[0]?.pid]);
        await expect(building).rejects.toMatchObject({ code: '57014' });
      });
      await holder.query('commit');
    });
    expect(await count(database, `pg_index where not indisvalid and indrelid = '${table}'::regclass`)).toBe(1);
    await apply(database.url, model, 'expand');
    expect(await count(database, 'pg_index where not indisvalid')).toBe(0);
    await apply(database.url, model, 'contract');
    expect(planWall(model, await withCatalogClient(database.url, readCatalog)).steps).toEqual([]);
  });

  test('a partition that was made while the parent’s index was under way brings its own, which is taken', async () => {
    const database = await createDatabase({ template: fixture });
    const stop = new AbortController();
    const first = apply(database.url, model, 'expand', {
      signal: stop.signal,
      onProgress: (event) => event.kind === 'step' && event.step.id.startsWith('expand/index/public.events_2024/') && stop.abort(),
    });
    await expect(first).rejects.toThrow();
    await database.query(
      "create table events_2030 partition of events for values from ('2030-01-01') to ('2031-01-01') partition by list (kind); create table events_2030_rest partition of events_2030 default",
    );
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    expect(await count(database, 'pg_index where not indisvalid')).toBe(0);
    expect(planWall(model, await withCatalogClient(database.url, readCatalog)).steps).toEqual([]);
  });
});
