import { randomBytes } from 'node:crypto';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { openBook } from '../../src/keyring/book.ts';
import type { Subject } from '../../src/keyring/data-keys.ts';
import { fileSource } from '../../src/keyring/sources/file-source.ts';
import { readObject } from '../../src/store/read-object.ts';
import { keyringPlaces } from './support/places.ts';

const places = keyringPlaces();
const bookObject = 'keybook.json';
const subjects: readonly Subject[] = ['platform', 'tenant:acme', 'tenant:globex'];

const shape = z.looseObject({
  book: z.looseObject({ entries: z.array(z.looseObject({ wrapped: z.string(), ref: z.string(), state: z.string() })) }),
  mac: z.string(),
});
type Shape = z.output<typeof shape>;

async function written(): Promise<Buffer> {
  const keys = await places.open();
  await keys.ensure(subjects);
  await keys.rekey('tenant:acme');
  await keys.destroy('platform');
  return readObject(places.book, bookObject, 1e9);
}

const refused = (content: Buffer): Promise<unknown> =>
  openBook(content, fileSource(places.keyring), 'test').then(
    () => 'opened',
    ({ code }: { code: string }) => code,
  );

test('every byte of the keybook counts', async () => {
  const content = await written();
  expect(await refused(content)).toBe('opened');
  for (let at = 0; at < content.length; at += 1) {
    const changed = Buffer.from(content);
    changed.writeUInt8(content.readUInt8(at) ^ 1, at);
    expect(await refused(changed), `byte ${at}: ${content.toString('utf8', Math.max(0, at - 30), at + 10)}`).toBe('keyring_refused');
  }
});

test('a keybook that is cut short does not open', async () => {
  const content = await written();
  for (let end = 0; end < content.length; end += 7) expect(await refused(content.subarray(0, end)), `${end} bytes`).toBe('keyring_refused');
});

test.each<[string, (book: Shape) => void]>([
  ['entries that changed places', ({ book: { entries } }) => void entries.reverse()],
  [
    'two entries that changed their keys',
    ({
      book: {
        entries: [first, second],
      },
    }) => {
      if (first && second) [first.wrapped, second.wrapped] = [second.wrapped, first.wrapped];
    },
  ],
  [
    'two entries that changed their references',
    ({
      book: {
        entries: [first, second],
      },
    }) => {
      if (first && second) [first.ref, second.ref] = [second.ref, first.ref];
    },
  ],
  ['an entry that is gone', ({ book: { entries } }) => void entries.pop()],
  ['an entry that is there twice', ({ book: { entries } }) => void entries.push(...entries.slice(0, 1))],
  ['a retired key that is active again', ({ book: { entries } }) => void entries.map((entry) => Object.assign(entry, { state: 'active' }))],
  ['a destroyed key-encryption key that is wanted again', ({ book }) => Object.assign(book, { destroyed: [] })],
  ['an erasure that is gone', ({ book }) => Object.assign(book, { erased: [] })],
  ['a member that nobody knows', ({ book }) => Object.assign(book, { extra: 1 })],
  ['a later write', ({ book }) => Object.assign(book, { generation: 9 })],
  ['another key-encryption key', ({ book }) => Object.assign(book, { kek: 1 })],
])('a keybook with %s does not open', async (_, change) => {
  const book = shape.parse(JSON.parse((await written()).toString('utf8')));
  change(book);
  expect(await refused(Buffer.from(JSON.stringify(book)))).toBe('keyring_refused');
});

test('a keybook of a later version is told from a damaged one', async () => {
  const content = (await written()).toString('utf8').replace('"version":1}', '"version":2}');
  await expect(openBook(Buffer.from(content), fileSource(places.keyring), 'test')).rejects.toMatchObject({ hint: expect.stringContaining('newer') });
});

test('another key-encryption key of the same number opens nothing, and its bytes are in no error', async () => {
  await written();
  const file = path.join(places.keyring, 'kek-2.key');
  const wrong = randomBytes(32);
  await writeFile(file, wrong);
  const error = await places.open().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('written with another key') });
  const said = JSON.stringify(error, Object.getOwnPropertyNames(error));
  for (const encoding of ['hex', 'base64', 'latin1'] as const) expect(said).not.toContain(wrong.toString(encoding));
});

test('a key-encryption key that is missing, of the wrong length or open to others is refused by name', async () => {
  await written();
  const file = path.join(places.keyring, 'kek-2.key');
  const key = await readFile(file);
  await chmod(file, 0o640);
  await expect(places.open()).rejects.toMatchObject({ code: 'keyring_refused', message: expect.stringContaining(file), hint: `chmod 600 ${file}` });
  await chmod(file, 0o600);
  await chmod(places.keyring, 0o750);
  await expect((await places.open()).rotate()).rejects.toMatchObject({ code: 'keyring_refused', hint: `chmod 700 ${places.keyring}` });
  await chmod(places.keyring, 0o700);
  await writeFile(file, key.subarray(1));
  await expect(places.open()).rejects.toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('32 bytes') });
  await rm(file);
  await expect(places.open()).rejects.toMatchObject({ code: 'keyring_refused', message: expect.stringContaining(file) });
});
