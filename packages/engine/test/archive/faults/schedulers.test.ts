import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { serialize } from 'node:v8';
import { backupIds, runScheduledBackup, verifyBackup } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { locksReleased } from '../../../../../test/support/database.ts';
import { soundness } from '../retention/made-backups.ts';
import type { WorkingProcess } from './working-process.ts';

const fixture = await controlDatabase();
const { database, control, urls } = fixture;
const { open, settings } = await archiveFixture({ keyring: control.keyring });
for (const tenant of [await fixture.tenant('Amber'), await fixture.tenant('Brass')])
  await database.query("insert into customers (tenant_id, name) select $1, 'c' || n from generate_series(1, 100) n", [tenant]);

const day = 24 * 3_600_000;

/** How the processes ended, each a scheduler at the same time as the others. */
async function schedulers(aheadMs: number, kills: readonly (WorkingProcess['kill'] | undefined)[]): Promise<(string | number | null)[]> {
  const { store, escrow, keyring, workFolder, env } = settings;
  const script = path.join(import.meta.dirname, 'working-process.ts');
  const model = serialize(fixture.model).toString('base64');
  return Promise.all(
    kills.map(async (kill) => {
      const given: WorkingProcess = {
        service: urls.service,
        model,
        settings: { store, escrow, keyring, workFolder, env },
        work: { kind: 'schedule' },
        aheadMs,
        ...(kill && { kill }),
      };
      const child = spawn(process.execPath, ['--conditions=partywall-source', script, JSON.stringify(given)], { stdio: ['ignore', 'ignore', 'inherit'] });
      const [status, signal] = await once(child, 'exit');
      return signal ?? status;
    }),
  );
}

const verifiedRuns = async (): Promise<unknown[]> =>
  (await database.query("select backup from partywall_control.backup_runs where state = 'verified' order by started_at")).rows.map(({ backup }) => backup);

test('of three processes that look at the schedule at once one makes the backup', async () => {
  expect(await schedulers(0, [undefined, undefined, undefined])).toEqual([0, 0, 0]);
  const ids = await backupIds(await open());
  expect(ids).toHaveLength(1);
  expect(await verifiedRuns()).toEqual(ids);
});

test('of two at once, one of which is killed at any step, a later look has one whole backup more', { timeout: 120_000 }, async () => {
  for (const [round, at] of [40, 130, 230].entries()) {
    const aheadMs = (round + 2) * day;
    const before = await backupIds(await open());
    const ends = await schedulers(aheadMs, [{ at, after: false }, undefined]);
    expect(ends[1]).toBe(0);
    await locksReleased(database);
    const clock = (): Date => new Date(Date.now() + aheadMs);
    const later = (): Date => new Date(clock().getTime() + 10 * 60_000);
    const archive = await open({ clock: later });
    await runScheduledBackup(fixture.operation({ database: { ...control, clock: later } }), archive);
    const ids = await backupIds(archive);
    expect(ids, `killed at step ${at}`).toHaveLength(before.length + 1);
    expect(await verifiedRuns()).toEqual(ids);
    expect((await soundness(archive)).missing).toEqual([]);
    expect(await verifyBackup(archive, ids.at(-1) ?? '', { readData: true })).toMatchObject({ whole: true });
  }
});
