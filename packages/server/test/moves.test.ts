import { awaitOperation, inProcess, placementsOf, worksOf } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { controlDatabase } from '../../../test/support/control-database.ts';
import { schedules } from '../src/schedules.ts';
import { serverFixture } from './server.ts';

const second = await controlDatabase();
const placements = placementsOf({ PARTYWALL_PLACEMENT_SECOND: second.urls.service });
afterAll(() => placements.close());
const { server, person, tenant, operation, control, database } = await serverFixture(undefined, { placements });
const bare = await serverFixture();
const own = await tenant('Own AS');
await tenant('Neighbour AS');
await database.query(`insert into customers (tenant_id, name) select t.id, 'kept' from tenants t, generate_series(1, 10)`);
const operator = await person({ superAdmin: true });
const admin = await person({ memberships: { [own]: 'admin' } });

async function ask(way: string, payload: object = {}, { as = operator, at = server, id = own } = {}) {
  const answer = await at.inject({ method: 'POST', url: `/api/admin/tenants/${id}/${way}`, headers: as.headers, payload });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
}

async function moved(way: string, payload: object): Promise<void> {
  const { status, body } = await ask(way, payload);
  expect(status).toBe(202);
  const { id } = body['operation'] as { id: string }; // as the schema has it
  expect(await awaitOperation(operation(), id, { timeoutMs: 60_000 })).toMatchObject({ kind: 'tenant.move', state: 'done', error: null });
}

const count = async (at: typeof database) => (await at.query('select from customers where tenant_id = $1', [own])).rowCount;

test('a tenant moves to a placement and back, and its old rows go when they are finished', async () => {
  const planned = await ask('move', { to: 'second', dryRun: true });
  expect(planned).toMatchObject({ status: 200, body: { dryRun: true, direction: 'out', placement: 'second', refusal: null } });
  expect(await count(second.database)).toBe(0);
  await moved('move', { to: 'second', graceSeconds: 3_600, reason: 'it has outgrown' });
  expect(await count(second.database)).toBe(10);
  expect(await ask('move/finish')).toMatchObject({ status: 409, body: { code: 'move_refused', detail: expect.stringContaining('grace') } });
  expect(await ask('move/finish', { now: true })).toMatchObject({ status: 200, body: { rows: 10, move: { state: 'finished' } } });
  expect(await count(database)).toBe(0);
  await moved('move/back', { graceSeconds: 0 });
  expect(await count(database)).toBe(10);
  const listed = await server.inject({ url: `/api/admin/moves?tenant=${own}`, headers: operator.headers });
  expect(listed.json()).toMatchObject({
    items: [
      { direction: 'back', state: 'switched', rows: 11 },
      { direction: 'out', state: 'finished' },
    ],
  });
  expect(JSON.stringify(listed.json())).not.toMatch(/postgres(ql)?:/);
  expect((await database.query("select from customers where name = 'kept'")).rowCount).toBe(20);
});

test('the schedule removes old rows whose grace has ended, and says what it could not remove', async () => {
  const durable = inProcess(control, worksOf({ placements }));
  const nightly = schedules(control, { placements }).find(({ name }) => name === 'moves.finish');
  expect(await count(second.database)).toBe(10);
  await database.query("update partywall_control.directory set hold_reason = 'a case', held_at = now() where tenant_id = $1", [own]);
  await expect(nightly?.run(durable)).rejects.toMatchObject({ code: 'move_refused', details: [expect.stringContaining('legal hold')] });
  expect(await count(second.database)).toBe(10);
  await database.query('update partywall_control.directory set hold_reason = null, held_at = null where tenant_id = $1', [own]);
  await nightly?.run(durable);
  expect(await count(second.database)).toBe(0);
  expect(await count(database)).toBe(10);
  await durable.stop();
});

test('what cannot be moved is a problem with a name', async () => {
  expect(await ask('move', { to: 'nowhere' })).toMatchObject({ status: 404, body: { code: 'placement_unknown' } });
  expect(await ask('move', { to: 'second' }, { id: '11111111-1111-4111-8111-111111111111' })).toMatchObject({ status: 404, body: { code: 'tenant_unknown' } });
  expect(await ask('move/back')).toMatchObject({ status: 409, body: { code: 'move_refused' } });
  expect(await ask('move/cancel')).toMatchObject({ status: 409, body: { code: 'move_refused' } });
  for (const payload of [{}, { to: 'second', graceSeconds: -1 }, { to: 'second', url: 'postgresql://x' }])
    expect((await ask('move', payload)).status).toBe(400);
  const stranger = await bare.person({ superAdmin: true });
  const there = { as: stranger, at: bare.server, id: await bare.tenant('Bare') };
  expect(await ask('move', { to: 'second' }, there)).toMatchObject({ status: 404, body: { code: 'placement_unknown' } });
});

test("is nothing for a tenant's own admin", async () => {
  for (const way of ['move', 'move/back', 'move/cancel', 'move/finish']) expect((await ask(way, { to: 'second' }, { as: admin })).status).toBe(403);
  expect((await server.inject({ url: '/api/admin/moves', headers: admin.headers })).statusCode).toBe(403);
});
