import { randomBytes, randomUUID } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import type { Store, StoredObject } from '../../src/store/store.ts';

/** What differs between the stores that the suite runs against. */
export interface Candidate {
  readonly store: Store;
  /** Keeps `ifMatch`; otherwise it must refuse it. */
  readonly replaces: boolean;
  /** Of two that write one new name at the same time, one wins. */
  readonly createsOnce: boolean;
  /** Over which a body that comes takes more than two parts. */
  readonly largeBytes: number;
  /** What is left of writes that came to nothing: drafts, parts. */
  leftovers(): Promise<readonly string[]>;
}

const day = 86_400_000;
const pathsOut = ['', '/', 'a/', '/a', 'a//b', '.', '..', '../a', 'a/../b', 'a/..', '.hidden', 'a/.hidden', 'a\\..\\b', 'a%2fb'];
const foreignLetters = ['A', 'a b', 'ä', '\ufb01', '🗄', 'a\u0000b', 'a\n', '\u202ea'];
const refusedKeys = [...pathsOut, ...foreignLetters, 'x'.repeat(1_025), `a/${'x'.repeat(201)}`];

/** What every store has to do. The names of objects are new each time, so that the tests share one store. */
export function conformance(candidate: () => Candidate): void {
  const store = (): Store => candidate().store;
  const place = (): string => `t-${randomUUID()}`;

  test('an object is there as it was written, and is not before', async () => {
    const key = `${place()}/a.b_c-1`;
    expect(await store().head(key)).toBeUndefined();
    expect(await outcome(store().put(key, Buffer.from('content')))).toMatchObject({ key, bytes: 7 });
    expect(await read(store(), key)).toEqual(Buffer.from('content'));
    expect(await store().head(key)).toMatchObject({ key, bytes: 7, tag: expect.stringMatching(/.+/), modifiedAt: expect.any(Date) });
  });

  test('what put, head and list say of an object is the same', async () => {
    const key = `${place()}/object`;
    const put = await store().put(key, Buffer.from('content'));
    const [listed] = await keysAndMore(store(), key);
    const head = await store().head(key);
    for (const found of [head, listed]) expect(found).toMatchObject({ key, bytes: 7, tag: put.tag });
  });

  test('an empty object is an object', async () => {
    const key = `${place()}/empty`;
    expect(await store().put(key, Buffer.alloc(0))).toMatchObject({ bytes: 0 });
    expect(await read(store(), key)).toHaveLength(0);
    const comes = `${place()}/empty-stream`;
    expect(await store().put(comes, chunks())).toMatchObject({ bytes: 0 });
    expect(await store().head(comes)).toMatchObject({ bytes: 0 });
  });

  test('what is not there is missing', async () => {
    const key = `${place()}/nothing`;
    expect(await store().head(key)).toBeUndefined();
    expect(await outcome(read(store(), key))).toBe('store_object_missing');
    expect(await outcome(read(store(), key, { offset: 0, length: 4 }))).toBe('store_object_missing');
    expect(await outcome(store().delete(key))).toBeUndefined();
  });

  test('a body that comes in chunks of any size is written in its order', async () => {
    const content = randomBytes(candidate().largeBytes);
    const key = `${place()}/large`;
    const cuts = [0, 1, 70_000, 70_000, 5_300_000, content.length - 1, content.length];
    const put = await store().put(key, chunks(...cuts.slice(1).map((to, index) => content.subarray(cuts[index], to))));
    expect(put.bytes).toBe(content.length);
    expect((await read(store(), key)).equals(content)).toBe(true);
    expect(await store().head(key)).toMatchObject({ bytes: content.length, tag: put.tag });
  });

  test('a range gives its bytes and no others', async () => {
    const content = randomBytes(1_000_000);
    const key = `${place()}/ranges`;
    await store().put(key, content);
    for (const [offset, length] of [
      [0, 1],
      [0, 1_000_000],
      [999_999, 1],
      [123_456, 600_001],
      [5, 0],
    ] as const) {
      expect((await read(store(), key, { offset, length })).equals(content.subarray(offset, offset + length)), `${offset}+${length}`).toBe(true);
    }
  });

  test('a range past the end is an error, never a short answer', async () => {
    const key = `${place()}/short`;
    await store().put(key, Buffer.from('0123456789'));
    expect(await outcome(read(store(), key, { offset: 5, length: 6 }))).toBe('archive_damaged');
    expect(await outcome(read(store(), key, { offset: 10, length: 1 }))).toBe('archive_damaged');
    expect(await outcome(read(store(), key, { offset: 100, length: 1 }))).toBe('archive_damaged');
  });

  test('a reader may stop in the middle', async () => {
    const key = `${place()}/stop`;
    await store().put(key, randomBytes(3_000_000));
    for await (const chunk of store().get(key)) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    expect(await store().head(key)).toBeDefined();
  });

  test('a listing gives every object below a prefix, in the order of the keys', async () => {
    const base = place();
    const written = ['a-b/c', 'a.b', 'a/b', 'a/b-c', 'a/d/c', 'a0', 'b/1/2/3', 'ab'].map((name) => `${base}/${name}`);
    for (const key of written) await store().put(key, Buffer.from('x'));
    expect((await keysAndMore(store(), `${base}/`)).map(({ key }) => key)).toEqual(written.toSorted());
    expect((await keysAndMore(store(), `${base}/a`)).map(({ key }) => key)).toEqual(written.filter((key) => key.startsWith(`${base}/a`)).toSorted());
    expect((await keysAndMore(store(), `${base}/a/`)).map(({ key }) => key)).toEqual([`${base}/a/b`, `${base}/a/b-c`, `${base}/a/d/c`]);
    expect(await keysAndMore(store(), `${base}/nothing`)).toEqual([]);
  });

  test('a listing goes over pages, and gives each object once', async () => {
    const base = place();
    const keys = Array.from({ length: 1_105 }, (_, index) => `${base}/${String((index * 7919) % 1_105).padStart(5, '0')}`);
    await inParallel(keys, 16, (key) => store().put(key, Buffer.from('x')));
    expect((await keysAndMore(store(), base)).map(({ key }) => key)).toEqual(keys.toSorted());
  });

  test('a key that some store could not keep, or that leads out of one, is refused by all', async () => {
    for (const key of refusedKeys) {
      expect(await outcome(store().put(key, Buffer.from('x'))), key).toBe('store_refused');
      expect(await outcome(store().head(key)), key).toBe('store_refused');
      expect(await outcome(read(store(), key)), key).toBe('store_refused');
      expect(await outcome(store().delete(key)), key).toBe('store_refused');
      expect(await outcome(store().extendLock(key, new Date())), key).toBe('store_refused');
    }
  });

  test('a prefix that leads out of the store is refused', async () => {
    for (const prefix of ['..', '../', '/etc', 'a/../..', '.drafts']) expect(await outcome(keysAndMore(store(), prefix)), prefix).toBe('store_refused');
  });

  test('a deleted object is gone, and its neighbours are not', async () => {
    const base = place();
    const names = ['a/1', 'a/10', 'a/1.x', 'b'].map((name) => `${base}/${name}`);
    for (const key of names) await store().put(key, Buffer.from(key));
    await store().delete(`${base}/a/1`);
    expect(await store().head(`${base}/a/1`)).toBeUndefined();
    for (const key of names.slice(1)) expect((await read(store(), key)).toString()).toBe(key);
    await store().put(`${base}/a/1`, Buffer.from('again'), { ifAbsent: true });
    expect((await read(store(), `${base}/a/1`)).toString()).toBe('again');
  });

  test('an object that is there is not written again where it must be absent', async () => {
    const key = `${place()}/once`;
    await store().put(key, Buffer.from('first'), { ifAbsent: true });
    expect(await outcome(store().put(key, Buffer.from('second'), { ifAbsent: true }))).toBe('store_conflict');
    expect(await outcome(store().put(key, chunks(randomBytes(candidate().largeBytes)), { ifAbsent: true }))).toBe('store_conflict');
    expect((await read(store(), key)).toString()).toBe('first');
    expect(await candidate().leftovers()).toEqual([]);
  });

  test('of twenty writers of a new object one wins', async () => {
    if (!candidate().createsOnce) return;
    const key = `${place()}/race`;
    const outcomes = await Promise.all(Array.from({ length: 20 }, (_, index) => outcome(store().put(key, Buffer.from(`writer ${index}`), { ifAbsent: true }))));
    expect(outcomes.filter((code) => code === 'store_conflict')).toHaveLength(19);
    expect((await read(store(), key)).toString()).toBe(`writer ${outcomes.findIndex((code) => code !== 'store_conflict')}`);
  });

  test('of twenty writers that replace the same content one wins, each time', async () => {
    const key = `${place()}/book`;
    let { tag } = await store().put(key, Buffer.from('0'));
    if (!candidate().replaces) {
      expect(await outcome(store().put(key, Buffer.from('1'), { ifMatch: tag }))).toBe('store_refused');
      expect((await read(store(), key)).toString()).toBe('0');
      return;
    }
    const tags = new Set([tag]);
    for (let round = 1; round <= 3; round += 1) {
      const outcomes = await Promise.all(Array.from({ length: 20 }, (_, n) => outcome(store().put(key, Buffer.from(`${round}.${n}`), { ifMatch: tag }))));
      const winners = outcomes.flatMap((result, n) => (typeof result === 'object' ? [{ ...result, n }] : []));
      expect(winners).toHaveLength(1);
      expect(outcomes.filter((code) => code === 'store_conflict')).toHaveLength(19);
      expect((await read(store(), key)).toString()).toBe(`${round}.${winners[0]?.n}`);
      tag = winners[0]?.tag ?? '';
      tags.add(tag);
      expect(await store().head(key)).toMatchObject({ tag });
    }
    expect(tags.size).toBe(4);
    expect(await candidate().leftovers()).toEqual([]);
  });

  test('nothing is replaced where there is nothing', async () => {
    const key = `${place()}/absent`;
    expect(await outcome(store().put(key, Buffer.from('x'), { ifMatch: 'abc' }))).toBe(candidate().replaces ? 'store_conflict' : 'store_refused');
    expect(await store().head(key)).toBeUndefined();
  });

  test('a body that fails leaves nothing, however much of it was there', async () => {
    for (const before of [0, 10, candidate().largeBytes]) {
      const key = `${place()}/fails`;
      const failing = async function* (): AsyncGenerator<Buffer> {
        yield randomBytes(before);
        throw new RangeError('the source broke');
      };
      await expect(store().put(key, failing(), { ifAbsent: true })).rejects.toThrow(new RangeError('the source broke'));
      expect(await store().head(key)).toBeUndefined();
    }
    expect(await candidate().leftovers()).toEqual([]);
  });

  test('a lock keeps an object until its date, and is never shortened', async () => {
    const key = `${place()}/locked`;
    const until = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + day);
    await store().put(key, Buffer.from('kept'), { lockUntil: until });
    await store().extendLock(key, new Date(until.getTime() - day / 2));
    if (!store().can.lock) {
      expect((await store().head(key))?.lockedUntil).toBeUndefined();
      await store().delete(key);
      expect(await store().head(key)).toBeUndefined();
      return;
    }
    expect((await store().head(key))?.lockedUntil).toEqual(until);
    const later = new Date(until.getTime() + day);
    await Promise.all([later, until, new Date(until.getTime() + day / 2)].map((date) => store().extendLock(key, date)));
    expect((await store().head(key))?.lockedUntil).toEqual(later);
    expect(await outcome(store().delete(key))).toBe('store_locked');
    expect((await read(store(), key)).toString()).toBe('kept');
    expect((await keysAndMore(store(), key)).map((object) => object.key)).toEqual([key]);
  });

  test('an object in parts is locked too, and one without a lock can be locked later', async () => {
    if (!store().can.lock) return;
    const until = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + day);
    const [large, later] = [`${place()}/large`, `${place()}/later`];
    await store().put(large, chunks(randomBytes(candidate().largeBytes)), { lockUntil: until });
    await store().put(later, Buffer.from('x'));
    await store().extendLock(later, until);
    for (const key of [large, later]) {
      expect((await store().head(key))?.lockedUntil).toEqual(until);
      expect(await outcome(store().delete(key))).toBe('store_locked');
    }
  });
}

/** What it came to: the value, or the code of the error. */
export async function outcome<T>(work: Promise<T>): Promise<T | string> {
  return await work.catch((error: unknown) => {
    if (typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string') return error.code;
    throw error;
  });
}

export async function read(store: Store, key: string, range?: { offset: number; length: number }): Promise<Buffer> {
  return await buffer(store.get(key, range));
}

export async function keysAndMore(store: Store, prefix: string): Promise<StoredObject[]> {
  const found: StoredObject[] = [];
  for await (const object of store.list(prefix)) found.push(object);
  return found;
}

export async function* chunks(...parts: Buffer[]): AsyncGenerator<Buffer> {
  yield* parts;
}

export async function inParallel<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const item of rest) await work(item);
    }),
  );
}
