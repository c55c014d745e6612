import { run, WallError } from '@partywall/wall';
import { describe, expect, test } from 'vitest';
import { controlTables } from '../../../src/archive/move/control-rows.ts';
import { cancelMove, finishMove, holdTenant, listMoves, PartywallError, placementsOf, previewMove, suspendTenant, verifyAudit } from '../../../src/index.ts';
import { contents, furnish, others, registered, twoHomes } from './moving.ts';

const homes = await twoHomes();
const { first, second, placements, move } = homes;
for (const { database } of [first, second]) await database.query("insert into continents values ('EU', 'Europe')");
await first.database.query("insert into currencies values ('NOK', 'EU', 'Krone'), ('GBP', 'EU', 'Pound')");
const neighbour = await furnish(first, 'Neighbour');
const resident = await furnish2();

/** A tenant that has always lived in the second database. */
async function furnish2(): Promise<string> {
  const tenant = await second.tenant('Resident');
  await second.database.query("insert into customers (tenant_id, name) select $1, 'r' || n from generate_series(1, 20) n", [tenant]);
  return tenant;
}

const home = { state: 'active', placement: null, reason: null };

describe('a move', () => {
  test('brings a tenant to its own database and back, with every row, and leaves everybody else as they are', async () => {
    const tenant = await furnish(first, 'Traveller');
    const [whole, before, there] = [await contents(first, tenant), await others(first, [tenant]), await others(second, [tenant])];
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', error: null });
    expect(await contents(second, tenant)).toEqual(whole);
    expect([await registered(first, tenant), await registered(second, tenant)]).toEqual([{ state: 'fenced', placement: 'second', reason: null }, home]);
    expect([await others(first, [tenant]), await others(second, [tenant])]).toEqual([before, there]);
    // What it refers to has come along, what it does not has not.
    expect((await second.database.query('select * from currencies')).rows).toEqual([{ code: 'NOK', continent: 'EU', name: 'Krone' }]);

    // Its next rows get free numbers in the new home.
    await second.database.query('insert into invoices (tenant_id, amount) values ($1, 1)', [tenant]);
    await second.database.query(
      "insert into notes (customer_id, body, partywall_tenant_id) select id, 'new', tenant_id from customers where tenant_id = $1 limit 1",
      [tenant],
    );
    const grown = await contents(second, tenant);

    const { rows } = await finishMove(first.operation(), placements, { tenant });
    expect(rows).toBe(156);
    expect(await contents(first, tenant, ['tenants'])).toEqual(await contents(first, '00000000-0000-0000-0000-000000000000', ['tenants']));
    expect(await others(first, [tenant])).toEqual(before);

    expect(await move(tenant)).toMatchObject({ state: 'done', error: null });
    expect(await contents(first, tenant)).toEqual(grown);
    expect([await registered(first, tenant), await registered(second, tenant)]).toEqual([home, { state: 'fenced', placement: 'home', reason: null }]);
    await finishMove(first.operation(), placements, { tenant });
    expect([await others(first, [tenant]), await others(second, [tenant])]).toEqual([before, there]);
    expect((await listMoves(first.operation(), { tenant, limit: 10 })).map(({ direction, state }) => [direction, state])).toEqual([
      ['back', 'finished'],
      ['out', 'finished'],
    ]);
    // And once more: the entry that is left in the second database is no obstacle.
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', error: null });
    expect(await contents(second, tenant)).toEqual(grown);
    for (const { operation } of [first, second]) expect(await verifyAudit(operation())).toMatchObject({ faults: [] });
  });

  test('keeps the old rows for their grace, and going back within it replaces them', async () => {
    const tenant = await furnish(first, 'Graceful', 10);
    expect(await move(tenant, 'second', 3_600)).toMatchObject({ state: 'done', error: null });
    await expect(finishMove(first.operation(), placements, { tenant })).rejects.toMatchObject({ code: 'move_refused' });
    await second.database.query("update customers set name = 'changed there' where tenant_id = $1", [tenant]);
    const changed = await contents(second, tenant);
    expect(await move(tenant)).toMatchObject({ state: 'done', error: null });
    expect(await contents(first, tenant)).toEqual(changed);
    expect((await finishMove(first.operation(), placements, { tenant })).rows).toBeGreaterThan(0);
  });

  test('takes along what was decided about a tenant, out and back, and knows of every table of the control plane what becomes of it', async () => {
    const tenant = await furnish(first, 'Increased', 40);
    const decided = async ({ database }: typeof first) => {
      const { rows } = await database.query(
        `select (select jsonb_agg(to_jsonb(q) order by q.quota) from partywall_control.quota_increases q where q.tenant_id = $1) as increases,
  (select to_jsonb(r) from partywall_control.rate_overrides r where r.tenant_id = $1) as rate, (select to_jsonb(a) from partywall_control.api_calls a where a.tenant_id = $1) as calls,
  (select jsonb_agg(to_jsonb(o)) from partywall_control.alert_overrides o where o.tenant_id = $1) as alerts`,
        [tenant],
      );
      return rows[0];
    };
    for (const { database } of [first, second])
      await database.query(`update partywall_control.plans set limits = limits || '{"customers": 10, "users": 50}' where name = 'free'`);
    await first.database.query("update partywall_control.directory set plan = 'free' where tenant_id = $1", [tenant]);
    await expect(move(tenant, 'second')).resolves.toMatchObject({ state: 'failed', error: expect.stringMatching(/quota/) });
    await first.database.query(
      `insert into partywall_control.quota_increases (tenant_id, quota, max, until) values ($1, 'customers', 60, now() + interval '1 day')`,
      [tenant],
    );
    await first.database.query('insert into partywall_control.rate_overrides (tenant_id, requests_per_minute) values ($1, 77)', [tenant]);
    await first.database.query("insert into partywall_control.api_calls (tenant_id, month, leased, used) values ($1, '2026-11-01', 9, 7)", [tenant]);
    await first.database.query("insert into partywall_control.alert_overrides (rule, tenant_id, enabled) values ('error_rate', $1, false)", [tenant]);
    await first.database.query("update partywall_control.directory set root_status = 'active' where tenant_id = $1", [tenant]);
    const before = await decided(first);
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', error: null });
    expect(await decided(second)).toEqual(before);
    expect((await second.database.query('select plan, root_status from partywall_control.directory where tenant_id = $1', [tenant])).rows).toEqual([
      { plan: 'free', root_status: 'active' },
    ]);
    await second.database.query('update partywall_control.quota_increases set max = 90 where tenant_id = $1', [tenant]);
    await second.database.query('delete from partywall_control.rate_overrides where tenant_id = $1', [tenant]);
    const grown = await decided(second);
    expect(await move(tenant)).toMatchObject({ state: 'done', error: null });
    expect(await decided(first)).toEqual(grown);
    const { rows } = await first.database.query<{ name: string }>(
      `select c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
where c.relnamespace = 'partywall_control'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`,
    );
    expect(rows.map(({ name }) => name).sort()).toEqual(Object.keys(controlTables).sort());
  });

  test('takes the state of a tenant along', async () => {
    const tenant = await furnish(first, 'Read Only', 3);
    await first.database.query("select partywall.set_state($1, 'read_only')", [tenant]);
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', error: null });
    expect(await registered(second, tenant)).toEqual({ ...home, state: 'read_only' });
    await expect(suspendTenant(first.operation(), { tenant })).rejects.toMatchObject({ code: 'transition_refused' });
    const elsewhere = second.operation();
    await suspendTenant(elsewhere, { tenant });
    expect(await registered(second, tenant)).toMatchObject({ state: 'suspended' });
  });

  test('that a dry run plans names rows, places and what stands in the way, and changes nothing', async () => {
    const tenant = await furnish(first, 'Planned', 4);
    const plan = await previewMove(first.operation(), placements, { tenant, to: 'second', graceSeconds: 0 });
    expect(plan).toMatchObject({ placement: 'second', direction: 'out', leftInTarget: 0, refusal: null });
    expect(plan.tables).toContainEqual({ table: 'public.customers', rows: 4 });
    expect(JSON.stringify(plan)).not.toMatch(/postgres(?:ql)?:\/\//);
    expect(await registered(first, tenant)).toEqual(home);
    expect(await registered(second, tenant)).toBeUndefined();
  });
});

describe('what stops a move, and leaves the tenant where it is', () => {
  test('a shared row that is another one there, a key that another tenant has there, a placement that nobody knows', async () => {
    const tenant = await furnish(first, 'Stopped', 3);
    const whole = await contents(first, tenant);
    await second.database.query("update currencies set name = 'Crown' where code = 'NOK'");
    const differs = await move(tenant, 'second');
    expect(differs).toMatchObject({ state: 'failed' });
    expect(differs.error).toContain('public.currencies (code) = (NOK) is another row');
    await second.database.query("update currencies set name = 'Krone' where code = 'NOK'");
    expect(await cancelMove(first.operation(), placements, { tenant })).toMatchObject({ state: 'cancelled' });
    expect(await registered(first, tenant)).toEqual(home);

    const { rows } = await first.database.query<{ id: string }>('select id from customers where tenant_id = $1 limit 1', [tenant]);
    await second.database.query("insert into customers (id, tenant_id, name) values ($1, $2, 'taken')", [rows[0]?.id, resident]);
    const taken = await move(tenant, 'second');
    expect(taken.error).toContain('belongs to another tenant');
    await second.database.query('delete from customers where id = $1', [rows[0]?.id]);
    expect(await contents(first, tenant)).toEqual(whole);
    expect(await registered(second, tenant)).toBeUndefined();
    // Asked again it goes on, now that nothing is in the way.
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', id: taken.id });
    expect(await contents(second, tenant)).toEqual(whole);
    await expect(move(neighbour, 'nowhere')).rejects.toMatchObject({ code: 'placement_unknown' });
    await expect(placementsOf({ PARTYWALL_PLACEMENT_HOME: 'postgres://x' }).open('home')).rejects.toMatchObject({ code: 'placement_unknown' });
  });

  test('a legal hold, a tenant that is deleted, one that is at home in both databases, one that is here already', async () => {
    const held = await furnish(first, 'Held', 2);
    await holdTenant(first.operation(), { tenant: held, reason: 'a lawsuit' });
    await expect(move(held, 'second')).rejects.toMatchObject({ code: 'move_refused', message: expect.stringContaining('legal hold') });
    await expect(move(neighbour)).rejects.toMatchObject({ code: 'move_refused' });
    const twin = await furnish(first, 'Twin', 2);
    await second.database.query("insert into tenants (id, name, slug) values ($1, 'Twin', 'twin-there')", [twin]);
    await expect(move(twin, 'second')).rejects.toMatchObject({ code: 'move_refused', message: expect.stringContaining('at home too') });
  });

  test('a hold that came after the switch keeps the old rows', async () => {
    const tenant = await furnish(first, 'Held Later', 2);
    await move(tenant, 'second');
    await holdTenant(second.operation(), { tenant, reason: 'a lawsuit' });
    await expect(finishMove(first.operation(), placements, { tenant, now: true })).rejects.toMatchObject({ code: 'move_refused' });
    expect((await contents(first, tenant)).customers).toMatchObject({ count: 2 });
  });

  test('somebody who lets the tenant in while it is copied: nothing switches, and asking again copies anew', async () => {
    const tenant = await furnish(first, 'Unfenced', 3);
    // The copy waits for a lock of its target, so that there is a moment in its middle.
    await second.database.query('begin; lock table customers in access exclusive mode');
    const moving = move(tenant, 'second');
    await expect.poll(() => registered(first, tenant)).toMatchObject({ state: 'fenced' });
    await first.database.query("select partywall.set_state($1, 'active')", [tenant]);
    await run({ tenant }, () => first.app.query("insert into customers (tenant_id, name) values ($1, 'late')", [tenant]));
    await second.database.query('commit');
    expect(await moving).toMatchObject({ state: 'failed', error: expect.stringContaining('fence was lifted') });
    expect(await registered(first, tenant)).toMatchObject({ state: 'active', placement: null });
    await expect(run({ tenant }, () => second.app.query('select 1 from customers'))).rejects.toBeInstanceOf(WallError);
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', error: null });
    expect((await contents(second, tenant)).customers).toMatchObject({ count: 4 });
  });

  test('a cancellation, whose copy stays kept out and goes', async () => {
    const tenant = await furnish(first, 'Cancelled', 3);
    const whole = await contents(first, tenant);
    await second.database.query('begin; lock table customers in access exclusive mode');
    const moving = move(tenant, 'second');
    await expect.poll(() => registered(first, tenant)).toMatchObject({ state: 'fenced' });
    const cancelled = cancelMove(first.operation(), placements, { tenant, reason: 'no' });
    await expect.poll(() => registered(first, tenant)).toEqual(home);
    await second.database.query('commit');
    await cancelled;
    await moving;
    expect(await contents(first, tenant)).toEqual(whole);
    expect(await registered(first, tenant)).toEqual(home);
    const there = await registered(second, tenant);
    if (there !== undefined) expect(there).not.toMatchObject({ state: 'active', placement: null });
    await expect(
      cancelMove(first.operation(), placements, { tenant }).then(() => cancelMove(first.operation(), placements, { tenant: neighbour })),
    ).rejects.toBeInstanceOf(PartywallError);
    expect(await move(tenant, 'second')).toMatchObject({ state: 'done', error: null });
    expect(await contents(second, tenant)).toEqual(whole);
  });
});
