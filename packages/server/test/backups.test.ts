import { awaitOperation, backupSettings, inProcess, startBackup, worksOf } from '@partywall/engine';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { archiveFixture } from '../../../test/support/archive.ts';
import { schedules } from '../src/schedules.ts';
import { serverFixture } from './server.ts';

const base = await archiveFixture();
const settings = backupSettings({});
// The control plane's keyring is known once it is there; the archive is opened for each piece of work.
let keyring = '';
const archive = { open: () => base.open({ keyring }), settings };
const { server, person, tenant, control, operation, database } = await serverFixture(undefined, { archive });
keyring = control.keyring;
const bare = await serverFixture();
const [own, other] = [await tenant('Own AS', 'enterprise'), await tenant('Other AS', 'free')];
const operator = await person({ superAdmin: true });
const admin = await person({ memberships: { [own]: 'admin' } });

async function ask(method: 'GET' | 'POST', url: string, options: { body?: object; as?: typeof operator; at?: typeof server } = {}) {
  const { as = operator, at = server, body } = options;
  const answer = await at.inject({ method, url, headers: as.headers, ...(body && { payload: body }) });
  return { status: answer.statusCode, body: answer.json<Record<string, unknown>>() };
}

/** Backups are named by the second in which they were taken, and each after the one before. */
beforeEach(async () => {
  const second = (): number => Math.floor(Date.now() / 1000);
  const begun = second();
  await vi.waitFor(() => expect(second()).toBeGreaterThan(begun), { timeout: 5_000 });
});

describe('backups over HTTP', () => {
  test('are made as an operation, listed, and shown by name', async () => {
    const { status, body } = await ask('POST', '/api/admin/backups', { body: { reason: 'before the release' } });
    expect(status).toBe(202);
    expect(body).toMatchObject({ started: true, operation: { kind: 'backup.run', tenantId: null, state: 'running', reason: 'before the release' } });
    const { id } = body['operation'] as { id: string }; // as the schema has it
    const ended = await awaitOperation(operation(), id, { timeoutMs: 60_000 });
    expect(ended).toMatchObject({ state: 'done', error: null });
    const list = await ask('GET', '/api/admin/backups?limit=1');
    expect(list.body).toMatchObject({ items: [{ state: 'verified', scope: 'all', reason: 'before the release', error: null }], nextCursor: null });
    const [{ backup }] = list.body['items'] as [{ backup: string }]; // as the schema has it
    expect((await ask('GET', `/api/admin/backups/${backup}`)).body).toMatchObject({ backup, state: 'verified' });
    expect(await ask('GET', '/api/admin/backups/20200101t000000z-00000000')).toMatchObject({ status: 404, body: { code: 'backup_unknown' } });
    expect((await ask('GET', '/api/admin/backups?state=failed')).body['items']).toEqual([]);
  });

  test('have a status of every tenant, by pages', async () => {
    const all = await ask('GET', '/api/admin/backups/status');
    expect(all.body).toMatchObject({ late: false, visited: 2, tenants: 2, counts: { ok: 2 }, nextCursor: null, platform: { state: 'ok' } });
    const first = await ask('GET', '/api/admin/backups/status?limit=1');
    const second = await ask('GET', `/api/admin/backups/status?limit=1&cursor=${String(first.body['nextCursor'])}`);
    const names = [first, second].flatMap(({ body }) => (body['items'] as { tenant: string }[]).map((item) => item.tenant)); // as the schema has it
    expect(names).toEqual([own, other].sort());
    expect((await ask('GET', '/api/admin/backups/status?state=late')).body['items']).toEqual([]);
  });

  test("show a tenant's admin the recovery points of that tenant alone", async () => {
    const { status, body } = await ask('GET', '/api/tenants/backups', { as: admin });
    expect(status).toBe(200);
    expect(body).toMatchObject({ tenant: own, name: 'Own AS', tier: 'enterprise', state: 'ok' });
    expect(JSON.stringify(body)).not.toContain(other);
    expect((await ask('GET', `/api/tenants/backups?tenantId=${other}`, { as: admin })).status).toBe(404);
    for (const url of ['/api/admin/backups', '/api/admin/backups/status']) expect((await ask('GET', url, { as: admin })).status, url).toBe(403);
    expect((await ask('POST', '/api/admin/backups', { as: admin, body: {} })).status).toBe(403);
  });

  test('are retained by a plan that is shown before it is carried out', async () => {
    const planned = await ask('POST', '/api/admin/backups/retention');
    expect(planned).toMatchObject({ status: 200, body: { dryRun: true, removed: 0, retired: 0, problems: [], swept: null } });
    expect(planned.body['backups']).toMatchObject([{ keep: true, verified: true, standsFor: ['recent', 'daily', 'weekly', 'monthly'] }]);
    expect((await ask('POST', '/api/admin/backups/retention', { body: { dryRun: false } })).body).toMatchObject({ dryRun: false, swept: { deleted: 0 } });
  });

  test('answer 409 where the server has no archive', async () => {
    const someone = await bare.person({ superAdmin: true });
    for (const url of ['/api/admin/backups', '/api/admin/backups/retention']) {
      expect(await ask('POST', url, { as: someone, at: bare.server }), url).toMatchObject({ status: 409, body: { code: 'backup_refused' } });
    }
    expect((await ask('GET', '/api/admin/backups', { as: someone, at: bare.server })).body).toEqual({ items: [], nextCursor: null });
  });
});

describe('the schedules of a server with an archive', () => {
  test('back up what is due, once, and leave the trace that they run', async () => {
    const durable = inProcess(control, worksOf({ archive }));
    await database.query(
      'truncate partywall_control.recovery_points, partywall_control.backup_runs, partywall_control.backup_schedule, partywall_control.operations',
    );
    const tick = schedules(control, { archive }).find(({ name }) => name === 'backup.tick');
    await Promise.all([tick?.run(durable), tick?.run(durable)]);
    const { rows } = await database.query<{ id: string }>("select id from partywall_control.operations where kind = 'backup.run'");
    expect(rows).toHaveLength(1);
    expect(await awaitOperation(operation(), rows[0]?.id ?? '', { timeoutMs: 60_000 })).toMatchObject({ state: 'done', reason: 'schedule: daily' });
    await tick?.run(durable);
    expect((await database.query("select from partywall_control.operations where kind = 'backup.run'")).rowCount).toBe(1);
    expect((await ask('GET', '/api/admin/backups/status')).body).toMatchObject({ scheduleStopped: false, counts: { ok: 2 } });
    await durable.stop();
  });

  test('find the backup that runs instead of beginning a second one', async () => {
    const durable = inProcess(control, worksOf({ archive }));
    const begun = await Promise.all([1, 2, 3].map((n) => startBackup(operation(), durable, { reason: `number ${n}` })));
    expect(begun.filter(({ started }) => started)).toHaveLength(1);
    expect(new Set(begun.map((each) => each.operation.id)).size).toBe(1);
    await awaitOperation(operation(), begun[0]?.operation.id ?? '', { timeoutMs: 60_000 });
    await durable.stop();
  });
});
