import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { serialize } from 'node:v8';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { backupIds } from '../../../src/archive/read/list-backups.ts';
import { applyRetention } from '../../../src/archive/retention/apply.ts';
import { makeBackup, objectsOf, soundness } from './made-backups.ts';
import type { RetainingProcess } from './retaining-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const kills = 12;
const writesMax = 4;

const fixture = await controlDatabase();
const base = await archiveFixture({ keyring: fixture.control.keyring });
const tenants = [await fixture.tenant('Free', 'free'), await fixture.tenant('Pro', 'pro'), await fixture.tenant('Enterprise', 'enterprise')];
const noon = new Date('2026-11-21T12:00:00Z');
const night = (daysAgo: number): Date => new Date(Date.UTC(2026, 10, 21 - daysAgo, 2));

test(`retention that is killed at any write, again and again, ends as if it had not been (seed ${seed})`, async () => {
  for (const days of [203, 202, 201, 60, 45, 40, 20, 10, 2, 1, 0])
    await makeBackup(base.archive, { at: night(days), tenants, unchanged: days % 2 === 0 ? tenants.slice(1) : [] });
  const plan = await applyRetention(at(noon), base.archive, { dryRun: true });
  expect(plan.removed + plan.retired).toBeGreaterThanOrEqual(8);
  const kept = plan.backups.filter(({ keep }) => keep).map(({ id }) => id);
  const random = randomNumbers(seed);
  let killed = 0;
  for (let run = 0; run < kills; run += 1) {
    // Later runs are a day later, so that sweeps are cut off too.
    const now = new Date(noon.getTime() + (run < kills / 2 ? 0 : 25 * 3_600_000));
    const child = start({ now: now.toISOString(), kill: { write: 1 + Math.floor(random() * writesMax), done: random() < 0.5 } });
    const [, signal] = await once(child, 'exit');
    if (signal === 'SIGKILL') killed += 1;
    expect((await soundness(base.archive)).missing, `after run ${run}`).toEqual([]);
    expect(await backupIds(base.archive), `after run ${run}`).toEqual(expect.arrayContaining(kept));
  }
  expect(killed).toBeGreaterThan(3);
  for (const days of [2, 4]) await applyRetention(at(new Date(noon.getTime() + days * 24 * 3_600_000)), base.archive);
  expect((await backupIds(base.archive)).toReversed()).toEqual(kept);
  expect(await soundness(base.archive)).toEqual({ missing: [], unreached: [] });
  expect(await objectsOf(base.archive, 'sweep/')).toEqual([]);
});

function at(now: Date) {
  return fixture.operation({ database: { ...fixture.control, clock: () => now } });
}

function start(more: Pick<RetainingProcess, 'now' | 'kill'>) {
  const { store, escrow = '', keyring, workFolder } = base.settings;
  const model = serialize(fixture.model).toString('base64');
  const given: RetainingProcess = { service: fixture.urls.service, model, keyring, store, escrow, workFolder, ...more };
  return spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'retaining-process.ts'), JSON.stringify(given)], {
    stdio: 'ignore',
  });
}
