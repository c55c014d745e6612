import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { applyRetention, backUp, backupIds, type OpenArchive, openStore, verifyBackup } from '@partywall/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { type Fault, type FaultyS3, startFaultyS3 } from '../../../../../test/support/faulty-s3.ts';
import { type Radosgw, radosgwInstalled, startRadosgw } from '../../../../../test/support/radosgw.ts';
import { s3Limits } from '../../../src/store/s3-limits.ts';
import { contents, operationWith, withUploads, write } from '../files/uploads.ts';
import { soundness } from '../retention/made-backups.ts';
import { carryOut, type Work } from './work.ts';

const absent = !radosgwInstalled && process.env['PARTYWALL_NO_SKIPS'] !== '1';
/** A minute of these tests is a fifth of a second, and the store is tried for as long as outside them in proportion. */
const faster = 300;
const limits = {
  ...s3Limits,
  retryForMs: s3Limits.retryForMs / faster,
  firstPauseMs: s3Limits.firstPauseMs / faster,
  pauseMaxMs: s3Limits.pauseMaxMs / faster,
};
const minuteMs = 60_000;
const day = 24 * 3_600_000;

const fixture = await controlDatabase();
const { database, control } = fixture;
const { folder, open } = await archiveFixture({ keyring: control.keyring });
const uploads = path.join(folder, 'uploads');
const model = withUploads(fixture.model, pathToFileURL(uploads).href);
const [worked, neighbour] = [await fixture.tenant('Worked'), await fixture.tenant('Neighbour')];
for (const tenant of [worked, neighbour]) {
  await database.query("insert into customers (tenant_id, name, revenue) select $1, 'c' || n, n from generate_series(1, 100) n", [tenant]);
  await write(path.join(uploads, tenant), { 'a/file': tenant });
}

async function stateOf(tenant: string): Promise<unknown> {
  const { rows } = await database.query(
    "select md5(string_agg(c::text, '' order by id)) as hash, (select state from partywall.registry where tenant_id = $1) as state from customers c where tenant_id = $1",
    [tenant],
  );
  return [rows, await contents(path.join(uploads, tenant))];
}

describe.skipIf(absent)('a bucket', () => {
  let server: Radosgw;
  let proxy: FaultyS3;
  let archive: OpenArchive;
  let ahead = 0;
  const clock = (): Date => new Date(Date.now() + ahead);
  const operation = operationWith({ ...control, clock }, model, fixture.operation());
  beforeAll(async () => {
    server = await startRadosgw();
    proxy = await startFaultyS3(server.endpoint);
    const bucket = await server.createBucket();
    const store = await openStore(`s3://${bucket}/archive?endpoint=${proxy.endpoint}`, { env: { ...server.credentials }, limits });
    archive = { ...(await open({ store: path.join(folder, 'none') })), store };
  });
  afterAll(async () => {
    await archive?.store.close();
    await proxy?.stop();
    await server?.stop();
  });
  beforeEach(() => proxy.inject(() => undefined));

  /** Something to do, so that each kind asks the store for something. */
  async function prepare(kind: 'backup' | 'restore' | 'retention'): Promise<{ readonly work: Work; readonly done: () => Promise<void> }> {
    ahead += 40 * day;
    await database.query("update customers set name = name || '.' where tenant_id = $1", [worked]);
    if (kind === 'backup') {
      const before = await backupIds(archive);
      return { work: { kind }, done: async () => expect(await backupIds(archive)).toHaveLength(before.length + 1) };
    }
    const { backup } = await backUp(operation, archive, { reason: 'by hand' });
    if (kind === 'restore') {
      const kept = await stateOf(worked);
      await database.query("update customers set name = 'wrong' where tenant_id = $1 and revenue < 50", [worked]);
      return { work: { kind, tenant: worked, backup }, done: async () => expect(await stateOf(worked)).toEqual(kept) };
    }
    const plan = await applyRetention(operation, archive, { dryRun: true });
    const kept = plan.backups.filter(({ keep }) => keep).map(({ id }) => id);
    return { work: { kind }, done: async () => expect([...(await backupIds(archive))].sort()).toEqual(kept.sort()) };
  }

  /** Requests that a work makes. */
  async function requestsOf(kind: 'backup' | 'restore' | 'retention'): Promise<number> {
    const { work, done } = await prepare(kind);
    const before = proxy.requests.length;
    await carryOut(operation, archive, work);
    const made = proxy.requests.length - before;
    await done();
    return made;
  }

  /** From a request of the work on, all have this fault. */
  function from(request: number, fault: Fault): void {
    const first = proxy.requests.length + request;
    proxy.inject(({ number }) => (number >= first ? fault : undefined));
  }

  async function expectSound(what: string): Promise<void> {
    expect((await soundness(archive)).missing, what).toEqual([]);
    // The latest is what a fault could have left, and reaches into those before.
    for (const id of (await backupIds(archive)).slice(-2)) expect(await verifyBackup(archive, id, { readData: true }), what).toMatchObject({ whole: true });
  }

  describe.each(['backup', 'restore', 'retention'] as const)('in the middle of a %s', (kind) => {
    let requests = 0;
    beforeAll(async () => {
      proxy.inject(() => undefined);
      // The first of all makes what the archive has once, and the first retention finds most to be removed.
      requests = Math.min(await requestsOf(kind), await requestsOf(kind), await requestsOf(kind));
    });

    test('that is down for a minute is waited for', { timeout: 120_000 }, async () => {
      expect(s3Limits.retryForMs).toBeGreaterThan(2 * minuteMs);
      const around = await stateOf(neighbour);
      const { work, done } = await prepare(kind);
      let downUntil = 0;
      const first = proxy.requests.length + Math.ceil(requests / 2);
      proxy.inject(({ number }) => {
        if (number === first) downUntil = performance.now() + minuteMs / faster;
        return performance.now() < downUntil ? { kind: 'reset' } : undefined;
      });
      await carryOut(operation, archive, work);
      expect(downUntil).toBeGreaterThan(0);
      proxy.inject(() => undefined);
      await done();
      expect(await stateOf(neighbour)).toEqual(around);
      await expectSound(kind);
    });

    test.each([
      ['that stays down', { kind: 'reset' }, /ECONNRESET|socket hang up/, [0.3, 0.8]],
      ['whose credential expires', { kind: 'answer', status: 400, code: 'ExpiredToken' }, /ExpiredToken|HTTP 400/, [0.5]],
    ] as const)('%s stops it: nothing counts that is not there, and the same again finishes it', { timeout: 120_000 }, async (_how, fault, said, points) => {
      const around = await stateOf(neighbour);
      for (const point of points) {
        const { work, done } = await prepare(kind);
        const at = Math.max(1, Math.floor(point * requests));
        const what = `${fault.kind} from request ${at} of ${requests}`;
        from(at, fault);
        const failed: unknown = await carryOut(operation, archive, work).then(
          () => undefined,
          (error: unknown) => error,
        );
        expect(failed, what).toBeInstanceOf(Error);
        if (kind !== 'restore') expect(failed, what).toMatchObject({ code: fault.kind === 'reset' ? 'store_unavailable' : 'store_refused' });
        const message = failed instanceof Error ? failed.message : '';
        expect(message, what).toMatch(said);
        // The answer to a HEAD says no more than that it was refused.
        if (kind !== 'restore' && fault.kind === 'answer') expect(failed, what).toMatchObject({ hint: expect.stringContaining('expired') });
        for (const secret of Object.values(server.credentials)) expect(message, what).not.toContain(secret);
        proxy.inject(() => undefined);
        expect(await stateOf(neighbour), what).toEqual(around);
        await expectSound(what);
        await carryOut(operation, archive, work);
        await done();
        await expectSound(what);
      }
    });
  });
});
