import { run } from '@partywall/wall';
import pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { holdTenant, reactivateTenant, suspendTenant } from '../../src/index.ts';

const fixture = await controlDatabase();
const { database, operation } = fixture;

async function session(): Promise<pg.Client> {
  const client = new pg.Client(fixture.urls.app);
  client.on('error', () => undefined); // the fence ends it
  await client.connect();
  afterAll(() => client.end().catch(() => undefined));
  return client;
}

/** Resolves when the statement is waiting for the tenant's lock. */
async function waiting(): Promise<void> {
  for (;;) {
    const { rowCount } = await database.query(
      "select from pg_locks l join pg_database d on d.oid = l.database where d.datname = current_database() and l.locktype = 'advisory' and not l.granted",
    );
    if (rowCount) return;
  }
}

describe('a suspension reaches who is inside the tenant', () => {
  test('a transaction of the walled pool that stays open is ended, and writes nothing more', async () => {
    const tenant = await fixture.tenant('Pool');
    const began = Promise.withResolvers<void>();
    const inside = run({ tenant }, async () => {
      const client = await fixture.app.connect();
      let lost: Error | undefined;
      client.on('error', (error) => {
        lost = error;
      });
      try {
        await client.query('begin');
        await client.query("insert into customers (tenant_id, name) values ($1, 'too late')", [tenant]);
        const ended = new Promise<void>((resolve) => client.once('end', resolve));
        began.resolve();
        await ended;
        await client.query('commit');
      } finally {
        client.release(lost ?? true);
      }
    });
    await began.promise;
    const [outcome, suspended] = await Promise.allSettled([inside, suspendTenant(operation(), { tenant })]);
    expect(suspended).toMatchObject({ status: 'fulfilled', value: { ended: 1 } });
    expect(outcome.status).toBe('rejected');
    expect((await database.query('select from customers where tenant_id = $1', [tenant])).rowCount).toBe(0);
  });

  test.each([
    ['raw SQL', 'begin'],
    ['raw SQL in REPEATABLE READ', 'begin isolation level repeatable read'],
    ['raw SQL in SERIALIZABLE', 'begin isolation level serializable'],
  ])('a session of %s that entered before is ended', async (_kind, begin) => {
    const tenant = await fixture.tenant(begin);
    const client = await session();
    await client.query(begin);
    await client.query('select partywall.enter($1)', [tenant]);
    const over = new Promise<void>((resolve) => client.once('end', () => resolve()));
    expect(await suspendTenant(operation(), { tenant })).toMatchObject({ ended: 1 });
    await over;
    await expect(client.query('select count(*) from customers')).rejects.toThrow();
  });

  test('a REPEATABLE READ transaction whose snapshot is older than the suspension cannot enter by it', async () => {
    const tenant = await fixture.tenant('Old snapshot');
    const client = await session();
    await client.query('begin isolation level repeatable read');
    await client.query('select 1');
    await suspendTenant(operation(), { tenant });
    await expect(client.query('select partywall.enter($1)', [tenant])).rejects.toMatchObject({ code: '40001' });
  });

  test('a job that works tenant by tenant is refused in its next round, and goes on with others', async () => {
    const [tenant, other] = [await fixture.tenant('Job'), await fixture.tenant('Other job')];
    const rounds: string[] = [];
    const round = async (of: string): Promise<string> => {
      try {
        await run({ tenant: of }, () => fixture.app.query('select count(*) from customers'));
        return 'worked';
      } catch (error) {
        return error instanceof Error && 'code' in error ? String(error.code) : 'failed';
      }
    };
    rounds.push(await round(tenant));
    await suspendTenant(operation(), { tenant });
    rounds.push(await round(tenant), await round(other));
    await reactivateTenant(operation(), { tenant });
    rounds.push(await round(tenant));
    expect(rounds).toEqual(['worked', 'tenant_suspended', 'worked', 'worked']);
  });

  test('a statement that ends in time is left to end', async () => {
    const tenant = await fixture.tenant('In time');
    const client = await session();
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant]);
    const suspension = suspendTenant(operation(), { tenant });
    await waiting();
    await client.query('commit');
    expect(await suspension).toMatchObject({ ended: 0 });
    expect((await client.query('select 1 as alive')).rows).toEqual([{ alive: 1 }]);
  });

  test('nobody inside another tenant is ended', async () => {
    const [tenant, neighbour] = [await fixture.tenant('Stopped'), await fixture.tenant('Neighbour')];
    const [inside, beside] = [await session(), await session()];
    for (const [client, of] of [
      [inside, tenant],
      [beside, neighbour],
    ] as const) {
      await client.query('begin');
      await client.query('select partywall.enter($1)', [of]);
    }
    expect(await suspendTenant(operation(), { tenant })).toMatchObject({ ended: 1 });
    expect((await beside.query('select partywall.tenant_id()::text as tenant')).rows).toEqual([{ tenant: neighbour }]);
    await beside.query('rollback');
  });

  test('the fence is repeated when the suspension is asked for again', async () => {
    const tenant = await fixture.tenant('Again');
    await suspendTenant(operation(), { tenant });
    const client = await session();
    await client.query('begin');
    // As a process that died between commit and fence leaves it.
    await client.query("select pg_advisory_xact_lock_shared(hashtextextended('partywall:' || $1, 0))", [tenant]);
    expect(await suspendTenant(operation(), { tenant })).toMatchObject({ changed: false, ended: 1 });
  });
});

test('a session that may not be ended is reported, and the tenant is suspended nevertheless', async () => {
  const tenant = await fixture.tenant('Untouchable');
  await holdTenant(operation(), { tenant, reason: 'only to show that a hold does not matter here' });
  const owner = `owner_${tenant.slice(0, 8)}`;
  await database.query(`create role ${owner}; grant usage on schema partywall_control to ${owner}`);
  await database.query(`alter function partywall_control.end_stragglers(text) owner to ${owner}`);
  const client = await session();
  await client.query('begin');
  await client.query('select partywall.enter($1)', [tenant]);
  await expect(suspendTenant(operation(), { tenant })).rejects.toMatchObject({ code: 'fence_incomplete' });
  expect((await database.query('select state from partywall.registry where tenant_id = $1', [tenant])).rows).toEqual([{ state: 'suspended' }]);
  await database.query('alter function partywall_control.end_stragglers(text) owner to current_user');
  await database.query(`drop owned by ${owner}; drop role ${owner}`);
  await client.query('rollback');
});
