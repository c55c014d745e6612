import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { backupIds, runBackup, startEmbedded, verifyBackup } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contents, operationWith, withUploads, write } from '../files/uploads.ts';
import { soundness } from '../retention/made-backups.ts';
import { carryOutTelling } from './at-statement.ts';
import { carryOut, type Work } from './work.ts';

/** A server of this test's own, which keeps what it has committed. */
const home = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-restart-'));
await fs.chmod(home, 0o755);
const cluster = {
  dataDir: path.join(home, 'data'),
  major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18'),
  auth: 'trust',
  settings: { fsync: 'off', autovacuum: 'off' },
} as const;
let server = await startEmbedded(cluster);
const { port } = server;
afterAll(async () => {
  await server.stop();
  await fs.rm(home, { recursive: true, force: true });
});

const fixture = await controlDatabase({ clusterUrl: server.url });
const { database, control } = fixture;
const { archive, folder, open, settings } = await archiveFixture({ keyring: control.keyring });
const uploads = path.join(folder, 'uploads');
const operation = operationWith(control, withUploads(fixture.model, pathToFileURL(uploads).href), fixture.operation());
const [worked, neighbour] = [await fixture.tenant('Worked'), await fixture.tenant('Neighbour')];
for (const tenant of [worked, neighbour]) {
  await database.query("insert into customers (tenant_id, name, revenue) select $1, 'c' || n, n from generate_series(1, 200) n", [tenant]);
  await write(path.join(uploads, tenant), { 'a/file': tenant, other: 'content' });
}

async function stateOf(tenant: string): Promise<unknown> {
  const { rows } = await database.query(
    "select md5(string_agg(c::text, '' order by id)) as hash, (select state from partywall.registry where tenant_id = $1) as state from customers c where tenant_id = $1",
    [tenant],
  );
  return [rows, await contents(path.join(uploads, tenant))];
}

/** What `pg_ctl restart --mode immediate` does: no session is told, nothing is written, and the next start recovers from the log. */
async function restart(): Promise<void> {
  const pidFile = path.join(cluster.dataDir, 'postmaster.pid');
  const pid = Number((await fs.readFile(pidFile, 'utf8')).split('\n', 1)[0]);
  process.kill(pid, 'SIGQUIT');
  await expect
    .poll(
      () =>
        fs.access(pidFile).then(
          () => true,
          () => false,
        ),
      { timeout: 30_000 },
    )
    .toBe(false);
  server = await startEmbedded({ ...cluster, port });
}

/** Carries a work out, and restarts the server at a statement of it; what that stopped the work with, if it did. */
async function interrupted(work: Work, at: number): Promise<unknown> {
  let restarted: Promise<void> | undefined;
  const { failed } = await carryOutTelling({ operation, archive }, work, (statement) => {
    if (statement === at) restarted = restart();
  });
  expect(restarted, `${work.kind} ended before its statement ${at}`).toBeDefined();
  await restarted;
  return failed;
}

test.each(['backup', 'restore'] as const)(
  'a server that is stopped without a word and started again leaves of a %s nothing that counts; the same again finishes it',
  {
    timeout: 120_000,
  },
  async (kind) => {
    const { id: backup } = await runBackup(operation, archive, { reason: 'by hand' });
    const [kept, around] = [await stateOf(worked), await stateOf(neighbour)];
    let stopped = 0;
    for (const statement of kind === 'backup' ? [3, 6, 9] : [4, 14, 24, 34]) {
      const what = `at statement ${statement}`;
      if (kind === 'restore') await database.query("update customers set name = 'wrong' where tenant_id = $1 and revenue < 50", [worked]);
      else await database.query("update customers set name = name || '.' where tenant_id = $1", [worked]);
      const before = await backupIds(archive);
      const work: Work = kind === 'restore' ? { kind, tenant: worked, backup } : { kind };
      const failed = await interrupted(work, statement);
      if (failed !== undefined) stopped += 1;
      if (kind === 'backup' && failed !== undefined) expect(failed, what).toMatchObject({ code: 'database_unreachable' });
      expect(await stateOf(neighbour), what).toEqual(around);
      const now = await open();
      expect((await soundness(now)).missing, what).toEqual([]);
      const ids = await backupIds(now);
      for (const id of ids) expect(await verifyBackup(now, id, { readData: true }), what).toMatchObject({ whole: true });
      if (kind === 'backup' && failed !== undefined) expect(ids).toEqual(before);
      await carryOut(operation, archive, work);
      expect(await stateOf(neighbour), what).toEqual(around);
      if (kind === 'restore') expect(await stateOf(worked), what).toEqual(kept);
      expect((await fs.readdir(settings.workFolder)).filter((each) => each.startsWith('backup-'))).toEqual([]);
    }
    expect(stopped).toBeGreaterThan(1);
  },
);
