import { randomBytes } from 'node:crypto';
import { cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Subject } from '../../src/keyring/data-keys.ts';
import { openEscrow } from '../../src/keyring/open-keyring.ts';
import { renewEscrow, restoreFromEscrow } from '../../src/keyring/repair.ts';
import { fileSource } from '../../src/keyring/sources/file-source.ts';
import { openFolderStore } from '../../src/store/folder.ts';
import { readObject } from '../../src/store/read-object.ts';
import type { Store } from '../../src/store/store.ts';
import { at, keyringPlaces, objectNames } from './support/places.ts';

const places = keyringPlaces();
const acme: Subject = 'tenant:acme';
const globex: Subject = 'tenant:globex';
const bookObject = 'keybook.json';

const stored = (store: Store): Promise<Buffer> => readObject(store, bookObject, 1e9);
const put = (store: Store, content: Buffer): Promise<unknown> => store.put(bookObject, content);
const settings = () => ({ ...places, kek: { kind: 'file' as const }, env: {}, clock: () => at });
const repairing = () => ({ book: places.book, escrow: places.escrow, source: fileSource(places.keyring), keyring: places.keyring });
const unverified = (message: RegExp) => ({ code: 'escrow_unverified', message: expect.stringMatching(message) });

test('escrow has the keybook and every key of the folder that a backup needs, and nothing else', async () => {
  const keys = await places.open();
  await mkdir(places.keyring, { mode: 0o700 });
  await writeFile(path.join(places.keyring, 'secrets-1.key'), randomBytes(32), { mode: 0o600 });
  await writeFile(path.join(places.keyring, 'notes.txt'), 'not a key', { mode: 0o600 });
  await keys.ensure([acme]);
  expect(await objectNames(places.escrow)).toEqual(['keybook.json', 'keyring/kek-1.key', 'keyring/secrets-1.key', 'keyring/signing-1.pem']);
  expect(await stored(places.escrow)).toEqual(await stored(places.book));
  expect((await keys.status()).escrow).toMatchObject({
    copies: { kind: 'same' },
    files: { missingInEscrow: [], missingInFolder: [], different: [], same: ['kek-1.key', 'secrets-1.key', 'signing-1.pem'] },
  });
});

test('a key that was added to the folder since is in escrow before the next backup', async () => {
  await (await places.open()).ensure([acme]);
  await writeFile(path.join(places.keyring, 'secrets-2.key'), randomBytes(32), { mode: 0o600 });
  await (await places.open()).ensure([acme]);
  expect(await objectNames(places.escrow)).toContain('keyring/secrets-2.key');
});

test('a restore from escrow alone finds every key', async () => {
  const keys = await places.open();
  const made = await keys.ensure([acme, globex]);
  const later = await keys.rekey(acme);
  await rm(places.keyring, { recursive: true });
  await rm(path.join(places.root, 'keys'), { recursive: true });

  const { keys: copied, keyring } = await openEscrow({ ...settings(), keyring: path.join(places.root, 'scratch') }, places.escrow);
  for (const key of [...made.values(), later]) expect(copied.byId(key.id).secret.equals(key.secret)).toBe(true);
  expect(await readdir(keyring)).toEqual(['kek-1.key', 'signing-1.pem']);
  await expect(copied.ensure(['tenant:new'])).rejects.toMatchObject({ code: 'escrow_unverified' });
  await copied.close();
});

test('escrow is unpacked into an empty folder only, and not at all where it holds no keybook', async () => {
  await expect(openEscrow({ ...settings(), keyring: path.join(places.root, 'scratch') }, places.escrow)).rejects.toMatchObject(unverified(/no keybook/));
  await (await places.open()).ensure([acme]);
  await expect(openEscrow(settings(), places.escrow)).rejects.toMatchObject({ code: 'keyring_refused' });
});

test('without escrow keys are read, and none is made', async () => {
  const made = (await (await places.open()).ensure([acme])).get(acme);
  const keys = await places.open({ escrow: undefined });
  expect(keys.byRef(made?.ref ?? '')?.subject).toBe(acme);
  await expect(keys.ensure([acme])).rejects.toMatchObject(unverified(/no escrow/));
  expect((await keys.status()).escrow.copies).toMatchObject({ kind: 'differs' });
});

test('escrow that lost its copy, or has another one, stops every change', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  const right = await stored(places.escrow);
  const refused = async (message: RegExp): Promise<void> => {
    for (const change of [() => keys.ensure([acme]), () => keys.rotate(), () => keys.rekey(acme), () => keys.destroy(acme)]) {
      await expect(change()).rejects.toMatchObject(unverified(message));
    }
  };
  await places.escrow.delete(bookObject);
  await refused(/no copy/);
  await put(places.escrow, Buffer.from(right.toString('utf8').replace('"generation":1', '"generation":2')));
  await refused(/older than its copy/);
  await put(places.escrow, right);
  await keys.ensure([acme]);

  await places.escrow.delete('keyring/kek-1.key');
  await keys.ensure([acme]);
  await places.escrow.put('keyring/kek-1.key', randomBytes(32));
  await refused(/kek-1\.key is not the same/);
});

test('a key that only escrow has left stops a backup until it is back', async () => {
  await (await places.open()).ensure([acme]);
  await rm(path.join(places.keyring, 'kek-1.key'));
  await expect(places.open()).rejects.toMatchObject({ code: 'keyring_refused', hint: expect.stringContaining('--restore') });
  expect(await restoreFromEscrow(repairing())).toEqual({ book: 'as it was', files: ['kek-1.key'], generation: 1 });
  await (await places.open()).ensure([acme]);
});

test('escrow in the place of the keybook is refused, under whatever name', async () => {
  const keysFolder = path.join(places.root, 'keys');
  const alias = path.join(places.root, 'alias');
  await symlink(keysFolder, alias);
  for (const folder of [keysFolder, alias, path.join(keysFolder, 'escrow')]) {
    const keys = await places.open({ escrow: await openFolderStore(folder) });
    await expect(keys.ensure([acme]), folder).rejects.toMatchObject(unverified(/same place/));
  }
  await expect((await places.open({ apart: [places.escrow] })).ensure([acme])).rejects.toMatchObject(unverified(/same place/));
  expect(await objectNames(places.book)).toEqual([]);
});

test('escrow that cannot be written stops a backup, also one that makes no key', async () => {
  await (await places.open()).ensure([acme]);
  // A file where the store keeps its drafts: nothing can be written, for root neither.
  await rm(path.join(places.root, 'escrow', '.drafts'), { recursive: true });
  await writeFile(path.join(places.root, 'escrow', '.drafts'), '');
  const keys = await places.open();
  await expect(keys.ensure([acme])).rejects.toMatchObject({ code: 'escrow_unverified', cause: { code: 'store_refused' } });
  // Looking goes on, and so does reading a backup.
  await rm(path.join(places.root, 'escrow'), { recursive: true });
  await writeFile(path.join(places.root, 'escrow'), '');
  expect((await (await places.open()).status()).escrow.copies).toMatchObject({ kind: 'differs' });
});

test('a write that reached escrow only is carried forward by whoever comes next', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  const before = await stored(places.book);
  const made = (await keys.ensure([globex])).get(globex);
  await put(places.book, before);

  const next = await places.open();
  expect((await next.status()).escrow.copies).toEqual({ kind: 'interrupted' });
  expect((await next.ensure([globex])).get(globex)?.id).toBe(made?.id);
  expect(await stored(places.book)).toEqual(await stored(places.escrow));
});

test('a keybook that cannot be written for a while loses nothing: the key is in escrow, and is the one that counts', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  const drafts = path.join(places.root, 'keys', '.drafts');
  await rm(drafts, { recursive: true });
  await writeFile(drafts, '');
  await expect(keys.ensure([globex])).rejects.toMatchObject({ code: 'store_refused', message: expect.stringContaining('/keys') });
  const made = (await openEscrow({ ...settings(), keyring: path.join(places.root, 'scratch') }, places.escrow)).keys.subjects();
  expect(made.map(({ subject }) => subject)).toEqual([acme, globex]);
  await rm(drafts);
  await mkdir(drafts);
  const key = (await keys.ensure([globex])).get(globex);
  expect(made).toContainEqual({ subject: globex, ref: key?.ref });
});

test('what others write between two looks is not taken for an old copy', async () => {
  const other = await places.open();
  await other.ensure([acme]);
  let looked = false;
  const escrow: Store = {
    ...places.escrow,
    head: async (key) => {
      if (key === bookObject && !looked) {
        looked = true;
        await other.ensure([globex]);
        await other.rekey(acme);
      }
      return places.escrow.head(key);
    },
  };
  const keys = await places.open({ escrow });
  expect((await keys.ensure([acme, globex])).size).toBe(2);
  expect((await keys.status()).generation).toBe(3);
});

test('the very first write, where it reached escrow only, is carried forward', async () => {
  const made = (await (await places.open()).ensure([acme])).get(acme);
  await places.book.delete(bookObject);
  const next = await places.open();
  expect(next.byId(made?.id ?? '').subject).toBe(acme);
  expect((await next.ensure([acme])).get(acme)?.id).toBe(made?.id);
});

test('an old keybook that was put back is found, and what escrow has is restored', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  const old = await stored(places.book);
  await keys.ensure([globex]);
  await keys.rekey(acme);
  await put(places.book, old);

  const next = await places.open();
  await expect(next.ensure([acme])).rejects.toMatchObject(unverified(/older than its copy in escrow \(write 1 of 3\)/));
  await expect(renewEscrow(repairing())).rejects.toMatchObject(unverified(/newer/));
  expect(await restoreFromEscrow(repairing())).toEqual({ book: 'written', files: [], generation: 3 });
  expect((await (await places.open()).ensure([acme, globex])).size).toBe(2);
});

test('an old copy that was put back in escrow is found, and made anew from the keybook', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  const old = await stored(places.escrow);
  await keys.ensure([globex]);
  await put(places.escrow, old);
  await expect(keys.ensure([acme])).rejects.toMatchObject(unverified(/escrow is older than the keybook/));
  await expect(restoreFromEscrow(repairing())).rejects.toMatchObject(unverified(/newer/));
  expect(await renewEscrow(repairing())).toMatchObject({ book: 'written', generation: 2 });
  await keys.ensure([acme]);
});

test('a keybook that is lost while escrow has a later write than the first is not made anew', async () => {
  const keys = await places.open();
  await keys.ensure([acme]);
  await keys.ensure([globex]);
  await places.book.delete(bookObject);
  const next = await places.open();
  await expect(next.ensure([acme])).rejects.toMatchObject(unverified(/keybook is missing/));
  await restoreFromEscrow(repairing());
  expect((await places.open()).subjects().map(({ subject }) => subject)).toEqual([acme, globex]);
});

test('a new escrow gets a copy of everything', async () => {
  await (await places.open()).ensure([acme]);
  const fresh = await openFolderStore(path.join(places.root, 'fresh'));
  expect(await renewEscrow({ ...repairing(), escrow: fresh })).toEqual({ book: 'written', files: ['kek-1.key', 'signing-1.pem'], generation: 1 });
  await (await places.open({ escrow: fresh })).ensure([acme]);
  expect(await stored(fresh)).toEqual(await stored(places.book));
});

test('neither copy is written over by one that lacks a key of it', async () => {
  await (await places.open()).ensure([acme]);
  // Two places that went on apart, each from the same write.
  for (const folder of ['keys', 'escrow']) await cp(path.join(places.root, folder), path.join(places.root, `${folder}-apart`), { recursive: true });
  const apart = { book: await openFolderStore(path.join(places.root, 'keys-apart')), escrow: await openFolderStore(path.join(places.root, 'escrow-apart')) };
  await (await places.open()).ensure([globex]);
  await (await places.open(apart)).ensure(['tenant:initech']);
  await expect(restoreFromEscrow({ ...repairing(), escrow: apart.escrow })).rejects.toMatchObject(unverified(/1 of its keys/));
  await expect(renewEscrow({ ...repairing(), escrow: apart.escrow })).rejects.toMatchObject(unverified(/1 of its keys/));
});
