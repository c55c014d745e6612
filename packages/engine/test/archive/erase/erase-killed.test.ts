import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { serialize } from 'node:v8';
import { backUp, checkBackupErasure, listCertificates, readLedger, verifyBackup, verifyCertificate } from '@partywall/engine';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { certified, eraser, furnished, readable, refOf, rowsOfOthers } from './erasing.ts';
import type { ErasingProcess } from './erasing-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const kills = 8;
/** Each takes about two seconds; on a machine that does much else, many times that. */
const timeoutMs = 240_000;

const fixture = await controlDatabase();
const { control, database, model, operation, urls } = fixture;
const { archive, folder, open, settings } = await archiveFixture({ keyring: control.keyring });
const { clock: _clock, ...places } = settings;

function start(tenant: string, kill?: ErasingProcess['kill']): ChildProcessWithoutNullStreams {
  const given: ErasingProcess = { service: urls.service, model: serialize(model).toString('base64'), settings: places, tenant, ...(kill && { kill }) };
  return spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'erasing-process.ts'), JSON.stringify(given)]);
}

test(`an erasure that is killed anywhere ends as if it had not been, and hurts nobody (seed ${seed})`, { timeout: timeoutMs }, async () => {
  const random = randomNumbers(seed);
  const neighbour = await furnished(fixture, 'neighbour');
  const counted = await furnished(fixture, 'counted');
  const victims: string[] = [];
  for (let run = 0; run < kills; run += 1) victims.push(await furnished(fixture, `victim${run}`, 5));
  const { backup } = await backUp(operation(), archive, { reason: 'test' });
  await archive.keys.refresh();
  const neighbours = refOf(archive, neighbour);
  const before = await readable(archive, backup, neighbours);

  const whole = start(counted);
  const said = text(whole.stdout);
  await once(whole, 'exit');
  const { events, state, error } = JSON.parse(await said);
  expect({ state, error }).toEqual({ state: 'done', error: null });
  let killed = 0;
  for (const [run, victim] of victims.entries()) {
    const kill = { at: 1 + Math.floor(((run + random()) / kills) * events), after: random() < 0.5 };
    const which = `run ${run}, killed at ${kill.at} of ${events}`;
    await cp(path.join(control.keyring, 'keys'), path.join(folder, `old-${run}`), { recursive: true });
    const rows = await rowsOfOthers(fixture, victim);
    const child = start(victim, kill);
    child.stdout.resume();
    child.stderr.resume();
    const [, signal] = await once(child, 'exit');
    if (signal === 'SIGKILL') killed += 1;
    // Whoever was killed after the last word has left nothing to be done.
    const left = await database.query('select from partywall_control.directory where tenant_id = $1', [victim]);
    if (left.rowCount) expect(await eraser(fixture, () => open()).erase(victim), which).toMatchObject({ state: 'done', error: null });

    expect(await rowsOfOthers(fixture, victim), which).toEqual(rows);
    const now = await open();
    expect(await readable(now, backup, neighbours), which).toEqual(before);
    expect(refOf(now, victim), which).toBe('');
    const erased = await certified(operation(), victim);
    expect(erased, which).toMatchObject({ held: { backups: 1 }, others: { damaged: 0 }, unread: 0, keks: { pending: [] } });
    expect(await checkBackupErasure(now, erased), which).toMatchObject({ valid: true, segments: erased.held.segments });
    expect((await readLedger(now)).tenants.get(victim)?.status, which).toBe('erased');
    await expect(open({ keys: path.join(folder, `old-${run}`), escrow: undefined }), which).rejects.toMatchObject({ code: 'keyring_refused' });
    const chain = (await database.query<{ action: string }>('select action from partywall_control.audit_records where tenant_id = $1 order by seq', [victim]))
      .rows;
    expect(chain.map(({ action }) => action).slice(1), which).toEqual(['tenant.erase', 'tenant.erased']);
  }
  expect(killed).toBeGreaterThan(kills / 2);
  const certificates = await listCertificates(operation(), { limit: 100 });
  expect(certificates.map(({ body }) => body.tenant.id).sort()).toEqual([counted, ...victims].sort());
  for (const certificate of certificates) expect(await verifyCertificate(operation(), certificate)).toMatchObject({ valid: true });
  expect(await verifyBackup(await open(), backup, { readData: true })).toMatchObject({ whole: true, sealed: kills + 1, damage: [] });
});
