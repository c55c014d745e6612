import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import type { Subject } from '../../src/keyring/data-keys.ts';
import { commandSource } from '../../src/keyring/sources/command-source.ts';
import type { KeySource } from '../../src/keyring/sources/key-source.ts';
import { keyringPlaces } from './support/places.ts';

const places = keyringPlaces();
const acme: Subject = 'tenant:acme';
const globex: Subject = 'tenant:globex';
const opened: KeySource[] = [];
afterEach(async () => {
  for (const source of opened.splice(0)) await source.close();
});

const folder = (): string => path.join(places.root, 'kms');
const asked = async (): Promise<string[]> => (await readFile(path.join(folder(), 'asked'), 'utf8')).trim().split('\n');
const started = async (): Promise<{ pid: number }[]> =>
  (await readFile(path.join(folder(), 'started'), 'utf8'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

async function kms(mood = 'well'): Promise<KeySource> {
  await mkdir(folder(), { recursive: true });
  const source = commandSource(`${process.execPath} ${path.join(import.meta.dirname, 'kms-hook.ts')} ${folder()} ${mood}`, { env: process.env });
  opened.push(source);
  return source;
}

/** Whether a process runs; one that has ended and that nobody has asked about does not. */
async function isRunning(pid: number | undefined): Promise<boolean> {
  if (pid === undefined) throw new Error('no process was started');
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return state !== '' && !/\) [ZX] /.test(state);
}

const thrownBy = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

test('a key management system behind a command wraps one key for each write, however many tenants there are', async () => {
  const keys = await places.open({ source: await kms() });
  const tenants = Array.from({ length: 3000 }, (_, number): Subject => `tenant:${number}`);
  const made = await keys.ensure([...tenants, acme]);
  expect((await asked()).filter((op) => op === 'wrap')).toHaveLength(1);
  await keys.rotate();
  expect((await asked()).filter((op) => op === 'wrap')).toHaveLength(2);

  const next = await places.open({ source: await kms() });
  expect(next.byId(made.get(acme)?.id ?? '').secret.equals(made.get(acme)?.secret ?? Buffer.of())).toBe(true);
});

test('destroying a tenant destroys older versions in the key management system', async () => {
  const keys = await places.open({ source: await kms() });
  await keys.ensure([acme, globex]);
  await keys.rotate();
  expect(await keys.destroy(acme)).toMatchObject({ keks: { destroyed: [1, 2], pending: [] } });
  expect(await (await kms()).versions()).toEqual([3]);
  expect((await places.open({ source: await kms() })).subjects().map(({ subject }) => subject)).toEqual([globex]);
});

test('the command is started once, sees keys in its standard input only, and ends with the keyring', async () => {
  const keys = await places.open({ source: await kms() });
  const made = await keys.ensure([acme]);
  await keys.rotate();
  await keys.close();
  const starts = await started();
  expect(starts).toHaveLength(1);
  const secret = made.get(acme)?.secret ?? Buffer.of();
  for (const encoding of ['hex', 'base64'] as const) expect(JSON.stringify(starts)).not.toContain(secret.toString(encoding));
  await expect.poll(() => isRunning(starts[0]?.pid), { timeout: 20_000 }).toBe(false);
});

test.each([
  ['exit', /ended with status 3/],
  ['babble', /no answer/],
  ['flood', /line of over/],
  ['wrong', /not of the documented form/],
])('a command that is %s is given up by name', async (mood, message) => {
  const source = await kms(mood);
  expect(await thrownBy(source.wrap(1, Buffer.alloc(32), 'test'))).toMatchObject({ code: 'keyring_refused', message: expect.stringMatching(message) });
  await source.close();
  await expect.poll(async () => isRunning((await started())[0]?.pid), { timeout: 20_000 }).toBe(false);
});

test('a command that is silent is given up after a while, and what it started ends with it', async () => {
  // The shell waits for what it started, so both have to go before its output ends, which closing waits for.
  const source = commandSource('sleep 1000; true', { env: process.env, timeoutMs: 100 });
  expect(await thrownBy(source.versions())).toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('did not answer within 100 ms') });
  await source.close();
});

test('a command that is not there is told so', async () => {
  const source = commandSource('/nowhere/kms-hook', { env: {} });
  expect(await thrownBy(source.versions())).toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('status 127') });
  await source.close();
});

test('what a command repeats of a key is in no error', async () => {
  const secret = Buffer.from('0123456789abcdef0123456789abcdef');
  const error = await thrownBy((await kms('leak')).wrap(1, secret, 'test'));
  expect(error).toMatchObject({ code: 'keyring_refused', message: expect.stringContaining('cannot wrap') });
  expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain(secret.toString('base64').slice(0, 24));
});

test('a command that ended is started again when it is needed', async () => {
  const source = await kms();
  await source.create(0);
  const wrapped = await source.wrap(1, Buffer.from('key'), 'test');
  process.kill((await started())[0]?.pid ?? 0, 'SIGKILL');
  // The first question may still reach the one that is going.
  await expect.poll(() => source.unwrap(1, wrapped, 'test').then(String, () => undefined), { timeout: 20_000 }).toBe('key');
  expect(await thrownBy(source.unwrap(1, wrapped, 'another'))).toMatchObject({ code: 'keyring_refused' });
});
