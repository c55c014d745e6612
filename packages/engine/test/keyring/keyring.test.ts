import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import type { DataKey, Subject } from '../../src/keyring/data-keys.ts';
import { readObject } from '../../src/store/read-object.ts';
import { keyringPlaces } from './support/places.ts';

const places = keyringPlaces();
const acme: Subject = 'tenant:acme';
const globex: Subject = 'tenant:globex';

const secretOf = (key: DataKey | undefined): string | undefined => key?.secret.toString('hex');
const stored = async (): Promise<string> => (await readObject(places.book, 'keybook.json', 1e9)).toString('utf8');

test('each subject gets a key of its own, and the same one ever after', async () => {
  const keys = await places.open();
  const made = await keys.ensure([acme, 'platform', acme]);
  expect([...made.keys()]).toEqual([acme, 'platform']);
  expect(secretOf(made.get(acme))).toHaveLength(64);
  expect(secretOf(made.get(acme))).not.toBe(secretOf(made.get('platform')));

  const again = await (await places.open()).ensure([globex, acme]);
  expect(secretOf(again.get(acme))).toBe(secretOf(made.get(acme)));
  expect(again.get(acme)).toMatchObject({ id: made.get(acme)?.id, ref: made.get(acme)?.ref, subject: acme });
});

test('keys are found by their id and by the reference of their subject, and no others', async () => {
  const writer = await places.open();
  const key = (await writer.ensure([acme])).get(acme);
  const keys = await places.open();
  expect(secretOf(keys.byId(key?.id ?? ''))).toBe(secretOf(key));
  expect(keys.byRef(key?.ref ?? '')?.subject).toBe(acme);
  expect(keys.subjects()).toEqual([{ subject: acme, ref: key?.ref }]);
  expect(keys.byRef(randomBytes(16).toString('hex'))).toBeUndefined();
  expect(() => keys.byId(randomBytes(16).toString('hex'))).toThrow(expect.objectContaining({ code: 'key_missing' }));
});

test('the keybook names no tenant and holds no key, and tells not even how long a name is', async () => {
  const keys = await places.open();
  const made = await keys.ensure([acme, 'tenant:a-much-longer-name-of-a-tenant']);
  const text = await stored();
  expect(text).not.toContain('acme');
  for (const { secret } of made.values()) for (const encoding of ['hex', 'base64'] as const) expect(text).not.toContain(secret.toString(encoding));
  const lengths = [...text.matchAll(/"wrapped":"([^"]+)"/g)].map(([, wrapped]) => wrapped?.length);
  expect(new Set(lengths).size).toBe(1);
});

test('ten thousand new tenants are one write', async () => {
  const keys = await places.open();
  const tenants = Array.from({ length: 10_000 }, (_, number): Subject => `tenant:${number}`);
  expect((await keys.ensure(tenants)).size).toBe(10_000);
  expect((await keys.status()).generation).toBe(1);
});

test('a rotation wraps every key anew and changes none', async () => {
  const keys = await places.open();
  const before = await keys.ensure([acme, globex]);
  const first = await stored();
  expect(await keys.rotate()).toMatchObject({ kek: 2, generation: 2, keys: 2, keks: { destroyed: [], pending: [] } });
  const after = await places.open();
  for (const [subject, key] of before) expect(secretOf(after.byId(key.id)), subject).toBe(secretOf(key));
  const wrapped = [...first.matchAll(/"wrapped":"([^"]+)"/g)].map(([, text]) => text ?? '');
  for (const text of wrapped) expect(await stored()).not.toContain(text);
});

test('a tenant that is given a new key keeps the old one for what it encrypted', async () => {
  const keys = await places.open();
  const old = (await keys.ensure([acme, globex])).get(acme);
  const made = await keys.rekey(acme);
  expect(made).toMatchObject({ subject: acme, ref: old?.ref });
  expect(made.id).not.toBe(old?.id);
  const other = await places.open();
  expect((await other.ensure([acme])).get(acme)?.id).toBe(made.id);
  expect(other.byRef(made.ref)?.id).toBe(made.id);
  expect(secretOf(other.byId(old?.id ?? ''))).toBe(secretOf(old));
  expect((await other.status()).keys).toEqual({ active: 2, retired: 1 });
  await expect(other.rekey('tenant:nobody')).rejects.toMatchObject({ code: 'key_missing' });
});
