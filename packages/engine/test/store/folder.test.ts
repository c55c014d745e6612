import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openStore } from '../../src/store/open.ts';
import type { Store } from '../../src/store/store.ts';
import { chunks, conformance, keysAndMore, outcome, read } from './conformance.ts';

const program = fileURLToPath(new URL('folder-process.ts', import.meta.url));
const nodeOptions = ['--conditions=partywall-source', '--no-warnings', program];
const ownMounts = ['--map-root-user', '--mount'];
const canMount = await promisify(execFile)('unshare', [...ownMounts, 'true']).then(
  () => true,
  () => false,
);
const largeBytes = 13 * 1024 * 1024;

let base: string;
beforeAll(async () => {
  base = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-store-'));
});
afterAll(() => fs.rm(base, { recursive: true }));

let made = 0;
async function freshStore(): Promise<{ readonly store: Store; readonly folder: string; readonly url: string }> {
  made += 1;
  const folder = path.join(base, `store ${made}`, 'archive');
  const url = new URL(`file://${folder}`).href;
  return { store: await openStore(url), folder, url };
}

describe('a folder', () => {
  let opened: Awaited<ReturnType<typeof freshStore>>;
  beforeAll(async () => {
    opened = await freshStore();
  });
  const own = async (name: string): Promise<string[]> => await fs.readdir(path.join(opened.folder, name)).catch(() => []);

  conformance(() => ({
    store: opened.store,
    replaces: true,
    createsOnce: true,
    largeBytes,
    leftovers: async () => [...(await own('.drafts')), ...(await own('.locks'))],
  }));
});

describe('what lies in the folder', () => {
  test('belongs to its owner alone', async () => {
    const { store, folder } = await freshStore();
    await store.put('a/b/c', Buffer.from('x'));
    const modes = await Promise.all(['', 'a', 'a/b', 'a/b/c'].map(async (name) => ((await fs.stat(path.join(folder, name))).mode & 0o777).toString(8)));
    expect(modes).toEqual(['700', '700', '700', '600']);
  });

  test('is an object only where it is a file with a key', async () => {
    const { store, folder } = await freshStore();
    await store.put('a/object', Buffer.from('x'));
    await fs.writeFile(path.join(folder, '.DS_Store'), 'x');
    await fs.writeFile(path.join(folder, 'Readme.TXT'), 'x');
    await fs.mkdir(path.join(folder, 'lost+found'));
    await fs.writeFile(path.join(folder, 'lost+found', 'file'), 'x');
    expect((await keysAndMore(store, '')).map(({ key }) => key)).toEqual(['a/object']);
  });

  test('is an object or the beginning of other keys, not both', async () => {
    const { store } = await freshStore();
    await store.put('a/b', Buffer.from('x'));
    expect(await outcome(store.put('a/b/c', Buffer.from('y')))).toBe('store_refused');
    expect(await outcome(store.put('a', Buffer.from('y')))).toBe('store_refused');
    expect([await store.head('a'), await store.head('a/b/c')]).toEqual([undefined, undefined]);
    expect((await read(store, 'a/b')).toString()).toBe('x');
  });

  test('goes with its empty folders when it is deleted, while others write there', async () => {
    const { store, folder } = await freshStore();
    const keys = Array.from({ length: 200 }, (_, index) => `packs/${index % 2}/${index}`);
    await Promise.all(
      keys.map(async (key) => {
        await store.put(key, Buffer.from('x'), { ifAbsent: true });
        await store.delete(key);
      }),
    );
    expect(await keysAndMore(store, '')).toEqual([]);
    expect(await fs.readdir(folder)).toEqual(['.drafts']);
  });
});

describe('symbolic links', () => {
  test('lead nobody out of the store: not by a folder, not by a file', async () => {
    const { store, folder } = await freshStore();
    const outside = path.join(base, 'outside');
    await fs.mkdir(outside);
    await fs.writeFile(path.join(outside, 'secret'), 'secret');
    await fs.symlink(outside, path.join(folder, 'linked'));
    await fs.symlink(path.join(outside, 'secret'), path.join(folder, 'file'));

    expect(await outcome(read(store, 'linked/secret'))).toBe('store_refused');
    expect(await outcome(store.head('linked/secret'))).toBe('store_refused');
    expect(await outcome(store.put('linked/secret', Buffer.from('overwritten')))).toBe('store_refused');
    expect(await outcome(store.put('linked/new', Buffer.from('new'), { ifAbsent: true }))).toBe('store_refused');
    expect(await outcome(store.put('linked/deeper/new', Buffer.from('new')))).toBe('store_refused');
    expect(await outcome(store.delete('linked/secret'))).toBe('store_refused');

    expect(await outcome(read(store, 'file'))).toBe('store_object_missing');
    expect(await store.head('file')).toBeUndefined();
    expect(await outcome(store.put('file', Buffer.from('x'), { ifAbsent: true }))).toBe('store_conflict');
    await store.put('file', Buffer.from('in the store')); // in the place of the link

    expect(await keysAndMore(store, 'linked')).toEqual([]);
    expect(await fs.readdir(outside)).toEqual(['secret']);
    expect(await fs.readFile(path.join(outside, 'secret'), 'utf8')).toBe('secret');
  });

  test('the folder itself may be one', async () => {
    const real = path.join(base, 'real');
    await fs.mkdir(real);
    await fs.symlink(real, path.join(base, 'link'));
    const store = await openStore(path.join(base, 'link'));
    await store.put('a/b', Buffer.from('x'));
    expect(await fs.readFile(path.join(real, 'a/b'), 'utf8')).toBe('x');
  });
});

describe('processes', () => {
  test('that replace one object at once lose no change', async () => {
    const { store, url } = await freshStore();
    await store.put('book', Buffer.from('0'));
    const ends = [1, 2, 3].map(() => ended(start([url, 'count', 'book', '40'])));
    expect(await Promise.all(ends)).toEqual([0, 0, 0]);
    expect((await read(store, 'book')).toString()).toBe('120');
  });

  test('that are killed while they write leave no object, and a draft that is cleaned when it is old', async () => {
    const { store, folder, url } = await freshStore();
    await store.put('packs/before', Buffer.from('x'));
    const child = start([url, 'pour', 'packs/killed']);
    await once(child.stdout ?? child, 'data');
    child.kill('SIGKILL');
    await ended(child);

    const drafts = path.join(folder, '.drafts');
    expect((await keysAndMore(store, '')).map(({ key }) => key)).toEqual(['packs/before']);
    expect(await fs.readdir(drafts)).toHaveLength(1);
    const again = await openStore(url);
    expect(await fs.readdir(drafts), 'a young draft may belong to somebody').toHaveLength(1);
    for (const draft of await fs.readdir(drafts)) await fs.utimes(path.join(drafts, draft), 0, 0);
    await openStore(url);
    expect(await fs.readdir(drafts)).toEqual([]);
    await again.put('packs/killed', Buffer.from('y'), { ifAbsent: true });
    expect((await keysAndMore(store, '')).map(({ key }) => key)).toEqual(['packs/before', 'packs/killed']);
  });

  test('that are killed with a lock in their hands hold nobody up', async () => {
    const { store, folder } = await freshStore();
    const dead = spawn('true');
    await ended(dead);
    const lock = path.join(folder, '.locks', 'book');
    const { tag } = await store.put('book', Buffer.from('0'));
    await fs.mkdir(path.dirname(lock));
    await fs.writeFile(lock, JSON.stringify({ token: crypto.randomUUID(), host: os.hostname(), pid: dead.pid }));
    const outcomes = await Promise.all(Array.from({ length: 10 }, (_, n) => outcome(store.put('book', Buffer.from(`${n}`), { ifMatch: tag }))));
    expect(outcomes.filter((code) => code !== 'store_conflict')).toHaveLength(1);
    expect(await fs.readdir(path.dirname(lock))).toEqual([]);
  });

  test('of another machine are given a minute, and no more', async () => {
    const { store, folder } = await freshStore();
    const lock = path.join(folder, '.locks', 'book');
    const { tag } = await store.put('book', Buffer.from('0'));
    await fs.mkdir(path.dirname(lock));
    await fs.writeFile(lock, JSON.stringify({ token: crypto.randomUUID(), host: 'elsewhere', pid: 1 }));
    const put = store.put('book', Buffer.from('1'), { ifMatch: tag });
    await expect(Promise.race([put, new Promise((resolve) => setTimeout(() => resolve('waits'), 300))])).resolves.toBe('waits');
    const before = new Date(Date.now() - 61_000);
    await fs.utimes(lock, before, before);
    expect(await put).toMatchObject({ key: 'book' });
    expect(await fs.readdir(path.dirname(lock))).toEqual([]);
  });
});

describe.skipIf(!canMount && process.env['PARTYWALL_NO_SKIPS'] !== '1')('a disk that is full', () => {
  test('is said to be full, and nothing of the object stays', async () => {
    const disk = path.join(base, 'disk');
    await fs.mkdir(disk);
    const fill = (key: string, bytes: number): string => `"${process.execPath}" ${nodeOptions.join(' ')} "file://${disk}" fill ${key} ${bytes}`;
    const commands = [
      `mount -t tmpfs -o size=1m none "${disk}"`,
      fill('small', 100_000),
      fill('large', 3_000_000),
      fill('small-2', 100_000),
      `find "${disk}" -type f -printf '%P %s\\n' | sort`,
    ];
    const { stdout } = await promisify(execFile)('unshare', [...ownMounts, 'sh', '-c', commands.join(' && ')]);
    expect(stdout.trim().split('\n')).toEqual(['stored', 'store_full', 'stored', 'small 100000', 'small-2 100000']);
  });
});

describe('a caller that gives up', () => {
  test('leaves neither object nor draft', async () => {
    const { folder, url } = await freshStore();
    const caller = new AbortController();
    const store = await openStore(url, { signal: caller.signal });
    const body = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.alloc(1_000);
      caller.abort(new Error('enough'));
      yield Buffer.alloc(1_000);
    };
    await expect(store.put('a/b', body())).rejects.toThrow('enough');
    expect(await fs.readdir(path.join(folder, '.drafts'))).toEqual([]);
    expect(await keysAndMore(await openStore(url), '')).toEqual([]);
  });
});

test('a write that fails by the disk says what was being done, and to what', async () => {
  const { store, folder } = await freshStore();
  await fs.rm(path.join(folder, '.drafts'), { recursive: true });
  await expect(store.put('a/b', chunks(Buffer.from('x')))).rejects.toMatchObject({
    code: 'store_unavailable',
    message: expect.stringMatching(/^writing a\/b in folder .*: ENOENT$/),
  });
});

function start(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [...nodeOptions, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}
