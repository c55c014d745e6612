import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, readdir } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../../test/support/random-numbers.ts';
import type { DataKey, Subject } from '../../src/keyring/data-keys.ts';
import type { Keyring } from '../../src/keyring/keyring.ts';
import { openFolderStore } from '../../src/store/folder.ts';
import type { KeyringProcess } from './keyring-process.ts';
import { keyringPlaces } from './support/places.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const kills = 24;
/** Somewhat more than the longest of them makes. */
const callsMax = 60;

const places = keyringPlaces();
const tenants = (count: number, prefix = 't'): Subject[] => Array.from({ length: count }, (_, number): Subject => `tenant:${prefix}${number}`);

function start(given: Omit<KeyringProcess, 'root'>): ChildProcess & { readonly result: Promise<unknown> } {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'keyring-process.ts'), JSON.stringify({ root: places.root, ...given })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const result = Promise.all([text(child.stdout), once(child, 'exit')]).then(([said, [status]]): unknown => {
    expect(status).toBe(0);
    return JSON.parse(said);
  });
  return Object.assign(child, { result });
}

test('processes that make the keys of the same tenants at once all get the same ones', async () => {
  const subjects = tenants(200);
  const all = await Promise.all(Array.from({ length: 4 }, () => start({ work: { kind: 'ensure', subjects } }).result));
  for (const made of all) expect(made).toEqual(all[0]);
  expect((await places.open()).subjects()).toHaveLength(200);
});

test('no key is lost where processes add, rotate, give new keys and destroy at once', async () => {
  const keys = await places.open();
  const first = await keys.ensure([...tenants(20), 'tenant:gone']);
  const results = await Promise.all([
    start({ work: { kind: 'ensure', subjects: tenants(30, 'a') }, times: 5 }).result,
    start({ work: { kind: 'ensure', subjects: tenants(30, 'b') }, times: 5 }).result,
    start({ work: { kind: 'rotate' }, times: 4 }).result,
    start({ work: { kind: 'rekey', subject: 'tenant:t1' }, times: 4 }).result,
    start({ work: { kind: 'destroy', subject: 'tenant:gone' }, times: 2 }).result,
  ]);
  expect(results[4]).toMatchObject([{ keys: [first.get('tenant:gone')?.id] }, { keys: [first.get('tenant:gone')?.id] }]);
  const after = await places.open();
  const wanted = [...tenants(20), ...tenants(30, 'a'), ...tenants(30, 'b')];
  expect(new Set(after.subjects().map(({ subject }) => subject))).toEqual(new Set(wanted));
  for (const [subject, key] of first) if (subject !== 'tenant:gone') expect(secretOf(after, key), subject).toBe(key.secret.toString('hex'));
  expect(await after.status()).toMatchObject({ keys: { active: 80, retired: 4 }, escrow: { copies: { kind: 'same' } } });
});

describe(`a process that is killed anywhere (seed ${seed})`, () => {
  test('leaves a keyring that opens, with every key, and what it did can be done again', async () => {
    const random = randomNumbers(seed);
    const known = new Map<string, DataKey>();
    const remember = (keys: Iterable<DataKey>): void => {
      for (const key of keys) known.set(key.id, key);
    };
    remember((await (await places.open()).ensure(['platform', ...tenants(3)])).values());
    let killed = 0;
    for (let run = 0; run < kills; run += 1) {
      const victim: Subject = `tenant:victim${run}`;
      const gone = (await (await places.open()).ensure([victim])).get(victim);
      await cp(path.join(places.root, 'keys'), path.join(places.root, `old-${run}`), { recursive: true });
      const works: readonly [KeyringProcess['work'], ...KeyringProcess['work'][]] = [
        { kind: 'destroy', subject: victim },
        { kind: 'destroy', subject: victim },
        { kind: 'ensure', subjects: tenants(run + 4) },
        { kind: 'rotate' },
        { kind: 'rekey', subject: 'platform' },
      ];
      const work = works[Math.floor(random() * works.length)] ?? works[0];
      const kill = { call: 1 + Math.floor(random() * callsMax), after: random() < 0.5 };
      const said = `run ${run}: ${work.kind}, killed at call ${kill.call}`;
      const child = start({ work, kill });
      child.result.catch(() => undefined);
      const [, signal] = await once(child, 'exit');
      if (signal === 'SIGKILL') killed += 1;

      const found = await places.open();
      for (const key of known.values()) expect(secretOf(found, key), said).toBe(key.secret.toString('hex'));
      const again = await places.open();
      if (work.kind === 'ensure') remember((await again.ensure(work.subjects)).values());
      if (work.kind === 'rotate') await again.rotate();
      if (work.kind === 'rekey') remember([await again.rekey(work.subject)]);
      const evidence = await again.destroy(victim);
      expect(evidence, said).toMatchObject({ keys: [gone?.id], refs: [gone?.ref], keks: { pending: [] } });

      const status = await (await places.open()).status();
      expect(status, said).toMatchObject({
        pending: [],
        escrow: { copies: { kind: 'same' }, files: { different: [], missingInEscrow: [], missingInFolder: [] } },
      });
      const keks = (await readdir(places.keyring)).filter((name) => name.startsWith('kek-'));
      // A version that a killed process made and never used may be left; nothing was ever wrapped with it.
      expect(keks, said).toContain(`kek-${status.kek}.key`);
      expect(Math.min(...status.keks), said).toBe(status.kek);
      const old = await openFolderStore(path.join(places.root, `old-${run}`));
      await expect(places.open({ book: old, escrow: undefined }), said).rejects.toMatchObject({ code: 'keyring_refused' });
      const now = await places.open();
      for (const key of known.values()) expect(secretOf(now, key), said).toBe(key.secret.toString('hex'));
    }
    expect(killed).toBeGreaterThan(kills / 3);
  });
});

function secretOf(keys: Keyring, key: DataKey): string {
  return keys.byId(key.id).secret.toString('hex');
}
