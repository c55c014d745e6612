import { chmod, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openSecret, sealSecret } from '../../src/keyring/secret-box.ts';

let keyring = '';
beforeEach(async () => {
  keyring = path.join(await mkdtemp(path.join(os.tmpdir(), 'partywall-secrets-')), 'keyring');
});
afterEach(() => rm(path.dirname(keyring), { recursive: true, force: true }));

const secret = 'https://hooks.example/T000/ö';

test('a sealed secret opens for what it was sealed for', async () => {
  const box = await sealSecret(keyring, 'alert_channel:ops', secret);
  expect(box.includes(Buffer.from('hooks.example'))).toBe(false);
  expect(await openSecret(keyring, 'alert_channel:ops', box)).toBe(secret);
});

test('the same text is never sealed to the same bytes', async () => {
  const boxes = await Promise.all(Array.from({ length: 20 }, () => sealSecret(keyring, 'alert_channel:ops', secret)));
  expect(new Set(boxes.map((box) => box.toString('hex'))).size).toBe(20);
});

test('a box that was moved to another row does not open', async () => {
  const box = await sealSecret(keyring, 'alert_channel:ops', secret);
  await expect(openSecret(keyring, 'alert_channel:dev', box)).rejects.toMatchObject({ code: 'secret_unreadable' });
});

test('a box in which any byte was changed, or that was cut short, does not open', async () => {
  const box = await sealSecret(keyring, 'alert_channel:ops', secret);
  for (let at = 0; at < box.length; at += 1) {
    const changed = Buffer.from(box);
    changed.writeUInt8(box.readUInt8(at) ^ 1, at);
    await expect(openSecret(keyring, 'alert_channel:ops', changed), `byte ${at}`).rejects.toMatchObject({ code: 'secret_unreadable' });
    await expect(openSecret(keyring, 'alert_channel:ops', box.subarray(0, at)), `cut at ${at}`).rejects.toMatchObject({ code: 'secret_unreadable' });
  }
});

test('twenty processes that seal for the first time at once agree on one key, and nobody else can read it', async () => {
  const boxes = await Promise.all(Array.from({ length: 20 }, (_, index) => sealSecret(keyring, `${index}`, secret)));
  for (const [index, box] of boxes.entries()) expect(await openSecret(keyring, `${index}`, box)).toBe(secret);
  expect(await readdir(keyring)).toEqual(['secrets-1.key']);
  expect((await stat(keyring)).mode & 0o777).toBe(0o700);
  expect((await stat(path.join(keyring, 'secrets-1.key'))).mode & 0o777).toBe(0o600);
});

test('after a newer key is put beside it, the older one opens what it sealed and the newer one seals', async () => {
  const before = await sealSecret(keyring, 'alert_channel:ops', secret);
  await writeFile(path.join(keyring, 'secrets-2.key'), Buffer.alloc(32, 7), { mode: 0o600 });
  const after = await sealSecret(keyring, 'alert_channel:ops', secret);
  expect(await openSecret(keyring, 'alert_channel:ops', before)).toBe(secret);
  expect(await openSecret(keyring, 'alert_channel:ops', after)).toBe(secret);
  await rm(path.join(keyring, 'secrets-1.key'));
  await expect(openSecret(keyring, 'alert_channel:ops', before)).rejects.toMatchObject({ code: 'secret_unreadable' });
  expect(await openSecret(keyring, 'alert_channel:ops', after)).toBe(secret);
});

test('a key that others can read is not used', async () => {
  await sealSecret(keyring, 'alert_channel:ops', secret);
  await chmod(path.join(keyring, 'secrets-1.key'), 0o644);
  await expect(sealSecret(keyring, 'alert_channel:ops', secret)).rejects.toMatchObject({ code: 'secret_unreadable' });
});
