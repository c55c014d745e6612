import { randomBytes } from 'node:crypto';
import { copyFile, cp, link, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Subject } from '../../src/keyring/data-keys.ts';
import { envSource } from '../../src/keyring/sources/env-source.ts';
import { openFolderStore } from '../../src/store/folder.ts';
import { readObject } from '../../src/store/read-object.ts';
import { keyringPlaces, objectNames } from './support/places.ts';

const places = keyringPlaces();
const acme: Subject = 'tenant:acme';
const globex: Subject = 'tenant:globex';

const kekFiles = async (folder: string): Promise<string[]> => (await readdir(folder)).filter((name) => name.startsWith('kek-'));

test('destroying the keys of a tenant leaves those of every other, and names what is gone', async () => {
  const keys = await places.open();
  const first = await keys.ensure([acme, globex, 'platform']);
  const later = await keys.rekey(acme);
  const evidence = await keys.destroy(acme);
  expect(evidence).toEqual({ refs: [later.ref], keys: [first.get(acme)?.id, later.id], keks: { destroyed: [1], pending: [] }, generation: 3 });

  const next = await places.open();
  expect(next.subjects().map(({ subject }) => subject)).toEqual([globex, 'platform']);
  expect(next.byRef(later.ref)).toBeUndefined();
  for (const id of evidence.keys) expect(() => next.byId(id)).toThrow(/was destroyed at 2026-11-21/);
  for (const subject of [globex, 'platform'] as const) {
    const key = first.get(subject);
    expect(next.byId(key?.id ?? '').secret.equals(key?.secret ?? Buffer.of()), subject).toBe(true);
  }
});

test('no old copy of the keybook opens with anything that is left in the keyring or in escrow', async () => {
  const keys = await places.open();
  await keys.ensure([acme, globex]);
  await keys.rotate();
  await keys.ensure(['tenant:initech']);
  for (const folder of ['keys', 'escrow']) await cp(path.join(places.root, folder), path.join(places.root, `${folder}-old`), { recursive: true });
  await keys.destroy(acme);

  expect(await kekFiles(places.keyring)).toEqual(['kek-3.key']);
  expect((await objectNames(places.escrow)).filter((name) => name.includes('kek'))).toEqual(['keyring/kek-3.key']);
  for (const folder of ['keys-old', 'escrow-old']) {
    const book = await openFolderStore(path.join(places.root, folder));
    await expect(places.open({ book, escrow: undefined }), folder).rejects.toMatchObject({ code: 'keyring_refused' });
  }
});

test('a key-encryption key is overwritten where it lies, also in the draft that a killed process left', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  const file = path.join(places.keyring, 'kek-1.key');
  const before = await readFile(file);
  const draft = path.join(places.keyring, '.draft-1');
  await link(file, draft);
  await keys.destroy(acme);
  expect((await readFile(draft)).equals(before)).toBe(false);
});

test('a destruction that is run again says the same, and makes nothing', async () => {
  const keys = await places.open();
  await keys.ensure([acme, globex]);
  const evidence = await keys.destroy(acme);
  const stored = await readObject(places.book, 'keybook.json', 1e9);
  expect(await (await places.open()).destroy(acme)).toEqual(evidence);
  await keys.rotate();
  expect(await (await places.open()).destroy(acme)).toEqual(evidence);
  expect(stored.toString('utf8')).not.toContain('acme');
});

test('a tenant that never had a key has nothing to destroy', async () => {
  const keys = await places.open();
  expect(await keys.destroy(acme)).toEqual({ refs: [], keys: [], keks: { destroyed: [], pending: [] }, generation: null });
  await keys.ensure([globex]);
  expect(await keys.destroy(acme)).toEqual({ refs: [], keys: [], keks: { destroyed: [], pending: [] }, generation: null });
  expect((await keys.status()).kek).toBe(1);
});

test('a tenant that comes back after its erasure is somebody else', async () => {
  const keys = await places.open();
  const before = (await keys.ensure([acme])).get(acme);
  await keys.destroy(acme);
  const after = (await keys.ensure([acme])).get(acme);
  expect(after?.ref).not.toBe(before?.ref);
  expect(after?.id).not.toBe(before?.id);
  expect(await keys.destroy(acme)).toMatchObject({ refs: [before?.ref, after?.ref], keys: [before?.id, after?.id], keks: { destroyed: [1, 2], pending: [] } });
});

test('a key-encryption key that is destroyed is destroyed again wherever it turns up', async () => {
  const keys = await places.open();
  await keys.ensure([acme, globex]);
  const file = path.join(places.keyring, 'kek-1.key');
  const kept = path.join(places.root, 'kept');
  await copyFile(file, kept);
  await keys.destroy(acme);

  await copyFile(kept, file);
  await places.escrow.put('keyring/kek-1.key', await readFile(kept));
  expect((await keys.status()).pending).toEqual([1]);
  await keys.ensure([globex]);
  expect((await objectNames(places.escrow)).filter((name) => name.includes('kek'))).toEqual(['keyring/kek-2.key']);
  await keys.rotate();
  expect(await kekFiles(places.keyring)).toEqual(['kek-2.key', 'kek-3.key']);
});

test('a rotation keeps older key-encryption keys, and destroys them when it is told to', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  await keys.rotate();
  expect((await keys.status()).keks).toEqual([1, 2]);
  expect(await keys.rotate({ retire: true })).toMatchObject({ kek: 3, keks: { destroyed: [1, 2], pending: [] } });
  expect(await kekFiles(places.keyring)).toEqual(['kek-3.key']);
  expect((await places.open()).subjects()).toHaveLength(1);
});

test('keys of the environment are taken away by the operator, and pending until then', async () => {
  const variables = (...versions: readonly number[]): Record<string, string> =>
    Object.fromEntries(versions.map((version) => [`PARTYWALL_KEK_${version}`, String(version).repeat(64)]));
  const open = (...versions: readonly number[]) => places.open({ source: envSource(variables(...versions)) });
  const keys = await open(1);
  const key = (await keys.ensure([acme, globex])).get(globex);
  await expect(keys.rotate()).rejects.toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('PARTYWALL_KEK_2 is not set') });

  const evidence = await (await open(1, 2)).destroy(acme);
  expect(evidence.keks).toEqual({ destroyed: [], pending: [1] });
  expect((await (await open(1, 2)).status()).pending).toEqual([1]);
  const after = await open(2);
  expect((await after.destroy(acme)).keks).toEqual({ destroyed: [1], pending: [] });
  expect(after.byId(key?.id ?? '').subject).toBe(globex);
  expect(await objectNames(places.escrow)).toEqual(['keybook.json', 'keyring/signing-1.pem']);
  await expect(open(1)).rejects.toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('PARTYWALL_KEK_2 is not set') });
});

test('the key of the operations manual is the first version, and a variable that is no key is refused without its value', async () => {
  const manual = randomBytes(32).toString('hex');
  await (await places.open({ source: envSource({ BACKUP_ENCRYPTION_KEY: manual }) })).ensure([acme]);
  expect((await places.open({ source: envSource({ PARTYWALL_KEK_1: manual }) })).subjects()).toHaveLength(1);
  let said = '';
  try {
    envSource({ PARTYWALL_KEK_1: `${manual}0` });
  } catch (error) {
    said = `${JSON.stringify(error, Object.getOwnPropertyNames(error))}`;
  }
  expect(said).toContain('PARTYWALL_KEK_1');
  expect(said).not.toContain(manual.slice(0, 16));
});
