import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import { ListMultipartUploadsCommand, ListObjectVersionsCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Fault, type FaultyS3, type SeenRequest, startFaultyS3 } from '../../../../test/support/faulty-s3.ts';
import { type Radosgw, radosgwInstalled, startRadosgw } from '../../../../test/support/radosgw.ts';
import { PartywallError } from '../../src/errors.ts';
import { openStore } from '../../src/store/open.ts';
import type { S3Limits } from '../../src/store/s3-limits.ts';
import type { Store } from '../../src/store/store.ts';
import { chunks, conformance, keysAndMore, outcome, read } from './conformance.ts';

const absent = !radosgwInstalled && process.env['PARTYWALL_NO_SKIPS'] !== '1';
const partBytes = 5 * 1024 * 1024;
const limits: Partial<S3Limits> = {
  connectMs: 1_000,
  idleMs: 300,
  retryForMs: 20_000,
  openForMs: 2_000,
  firstPauseMs: 5,
  pauseMaxMs: 50,
  partBytes,
  partsAtOnce: 2,
};
/** One that has to give up, and soon. */
const impatient: Partial<S3Limits> = { ...limits, retryForMs: 1_200, openForMs: 5_000 };

describe.skipIf(absent)('a bucket behind a network that fails', () => {
  let server: Radosgw;
  let proxy: FaultyS3;
  let bucket: string;
  beforeAll(async () => {
    server = await startRadosgw();
    proxy = await startFaultyS3(server.endpoint);
    bucket = await server.createBucket();
  });
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });
  beforeEach(() => proxy.inject(() => undefined));

  const open = (options: Partial<Parameters<typeof openStore>[1]> & { readonly at?: string; readonly query?: string } = {}): Promise<Store> =>
    openStore(`s3://${options.at ?? bucket}/archive?endpoint=${proxy.endpoint}${options.query ?? ''}`, { env: { ...server.credentials }, limits, ...options });

  /** The first so many requests of a kind have this fault. */
  const failing = (times: number, fault: Fault, of: (request: SeenRequest) => boolean = () => true): void => {
    let left = times;
    proxy.inject((request) => {
      if (left === 0 || !of(request)) return undefined;
      left -= 1;
      return fault;
    });
  };

  const uploads = async (): Promise<string[]> => {
    const client = plainClient();
    const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    client.destroy();
    return Uploads.map(({ Key }) => Key ?? '');
  };

  const plainClient = (): S3Client =>
    new S3Client({
      endpoint: server.endpoint,
      forcePathStyle: true,
      region: 'us-east-1',
      credentials: { accessKeyId: server.credentials.AWS_ACCESS_KEY_ID, secretAccessKey: server.credentials.AWS_SECRET_ACCESS_KEY },
    });

  describe('where one request in ten fails', () => {
    let store: Store;
    const seed = Number(process.env['PARTYWALL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    beforeAll(async () => {
      process.stdout.write(`faults by seed ${seed}\n`);
      store = await open({ limits: { ...limits, idleMs: 5_000 } });
    });
    beforeEach(() => {
      const next = random(seed);
      proxy.inject((request) => (next() < 0.1 ? anyFault(request, next) : undefined));
    });

    conformance(() => ({ store, replaces: true, createsOnce: true, largeBytes: 13 * 1024 * 1024, leftovers: uploads }));
  });

  describe('what passes is tried again', () => {
    test.each([
      { kind: 'answer', status: 500, code: 'InternalError' },
      { kind: 'answer', status: 503, code: 'SlowDown' },
      { kind: 'reset' },
      { kind: 'silence' },
      { kind: 'lost-answer' },
    ] satisfies Fault[])('$kind $status $code', async (fault) => {
      const store = await open();
      const key = `passes/${randomBytes(4).toString('hex')}`;
      failing(3, fault);
      await store.put(key, Buffer.from('content'));
      failing(3, fault);
      expect((await read(store, key)).toString()).toBe('content');
      failing(3, fault);
      expect(await keysAndMore(store, key)).toHaveLength(1);
      failing(3, fault);
      await store.delete(key);
      failing(3, fault);
      expect(await store.head(key)).toBeUndefined();
    });

    test('an upload that the server found too slow', async () => {
      const store = await open();
      failing(3, { kind: 'answer', status: 400, code: 'RequestTimeout' });
      await store.put('passes/slow', Buffer.from('content'));
      expect((await read(store, 'passes/slow')).toString()).toBe('content');
    });

    test('a store that is silent for a while, connections included, is waited for', async () => {
      const store = await open();
      failing(6, { kind: 'silence' });
      await store.put('after/silence', chunks(randomBytes(2 * partBytes), randomBytes(10)));
      expect(await store.head('after/silence')).toMatchObject({ bytes: 2 * partBytes + 10 });
    });

    test('a write whose answer was lost is found to be its own, in one request and in parts', async () => {
      const store = await open();
      await store.put('lost/first', Buffer.from('x'), { ifAbsent: true }); // conditions are proved here
      failing(1, { kind: 'lost-answer' }, ({ method, url }) => method === 'PUT' && url.includes('lost/whole'));
      await store.put('lost/whole', Buffer.from('whole'), { ifAbsent: true });
      expect((await read(store, 'lost/whole')).toString()).toBe('whole');

      const { tag } = await store.put('lost/book', Buffer.from('0'));
      failing(1, { kind: 'lost-answer' }, ({ method }) => method === 'PUT');
      const replaced = await store.put('lost/book', Buffer.from('1'), { ifMatch: tag });
      expect(await store.head('lost/book')).toMatchObject({ tag: replaced.tag });

      failing(1, { kind: 'lost-answer' }, ({ method, url }) => method === 'POST' && url.includes('uploadId='));
      const parts = await store.put('lost/parts', chunks(randomBytes(partBytes + 1)), { ifAbsent: true });
      expect(await store.head('lost/parts')).toMatchObject({ bytes: partBytes + 1, tag: parts.tag });
      expect(await uploads()).toEqual([]);
    });

    test('one that finds the object of somebody else in its way after a failure is told so', async () => {
      const store = await open();
      await store.put('lost/other', Buffer.from('theirs'), { ifAbsent: true });
      failing(1, { kind: 'answer', status: 500, code: 'InternalError' }, ({ method }) => method === 'PUT');
      expect(await outcome(store.put('lost/other', Buffer.from('mine'), { ifAbsent: true }))).toBe('store_conflict');
      expect((await read(store, 'lost/other')).toString()).toBe('theirs');
    });
  });

  describe('a body that ends early', () => {
    const content = randomBytes(3_000_000);
    const isRead = ({ method, url }: SeenRequest): boolean => method === 'GET' && url.includes('cut/object');
    let store: Store;
    beforeAll(async () => {
      store = await open();
      await store.put('cut/object', content);
    });

    test.each(['reset', 'silence'] as const)('is read to its end, from where it ended by %s', async (ending) => {
      failing(3, { kind: 'cut', bytes: 700_000, ending }, isRead);
      expect((await read(store, 'cut/object')).equals(content)).toBe(true);
      failing(2, { kind: 'cut', bytes: 1, ending }, isRead);
      const range = { offset: 1_000, length: 2_000_000 };
      expect((await read(store, 'cut/object', range)).equals(content.subarray(1_000, 2_001_000))).toBe(true);
    });

    test('again and again, without a byte between, is an error and not a short answer', async () => {
      proxy.inject((request) => (isRead(request) ? { kind: 'cut', bytes: 0, ending: 'reset' } : undefined));
      expect(await outcome(read(store, 'cut/object'))).toBe('store_unavailable');
    });

    test('is not continued with the bytes of another content', async () => {
      await store.put('cut/object-2', Buffer.alloc(1_000_000, 1));
      let cuts = 0;
      proxy.inject(({ method, url }) =>
        method === 'GET' && url.includes('object-2') && cuts++ === 0 ? { kind: 'cut', bytes: 1_000, ending: 'reset' } : undefined,
      );
      const reading = store.get('cut/object-2')[Symbol.asyncIterator]();
      await reading.next();
      await store.put('cut/object-2', Buffer.alloc(1_000_000, 2));
      const rest = async (): Promise<void> => {
        while (!(await reading.next()).done);
      };
      expect(await outcome(rest())).toBe('store_conflict');
    });
  });

  describe('what does not pass ends', () => {
    test.each([
      [{ kind: 'answer', status: 503, code: 'SlowDown' }, 'SlowDown, HTTP 503'],
      [{ kind: 'reset' }, 'ECONNRESET'],
      [{ kind: 'silence' }, 'TimeoutError'],
    ] as const satisfies (readonly [Fault, string])[])('after a time: %o', async (fault, named) => {
      const store = await open({ limits: impatient });
      proxy.inject(() => fault);
      const before = proxy.requests.length;
      await expect(store.put('gone/object', Buffer.from('x'))).rejects.toMatchObject({ code: 'store_unavailable', message: expect.stringContaining(named) });
      expect(proxy.requests.length - before).toBeGreaterThan(1);
      expect(await outcome(store.put('gone/parts', chunks(randomBytes(partBytes + 1))))).toBe('store_unavailable');
      proxy.inject(() => undefined);
      expect(await store.head('gone/object')).toBeUndefined();
      expect(await store.head('gone/parts')).toBeUndefined();
      expect(await uploads()).toEqual([]);
    });

    test('a part that cannot be stored takes the upload back', async () => {
      const store = await open({ limits: { ...impatient, idleMs: 10_000 } });
      proxy.inject(({ url }) => (url.includes('partNumber=2') ? { kind: 'answer', status: 500, code: 'InternalError' } : undefined));
      expect(await outcome(store.put('gone/part', chunks(randomBytes(3 * partBytes))))).toBe('store_unavailable');
      expect(await store.head('gone/part')).toBeUndefined();
      expect(await uploads()).toEqual([]);
    });

    test('a server that is not there is told within the time of opening', async () => {
      const free = await startFaultyS3(server.endpoint);
      await free.stop();
      const env = { ...server.credentials };
      expect(await outcome(openStore(`s3://${bucket}?endpoint=${free.endpoint}`, { env, limits: { ...limits, openForMs: 500 } }))).toBe('store_unavailable');
    });

    test('a store without space says so, and is asked once', async () => {
      const store = await open();
      for (const fault of [
        { kind: 'answer', status: 403, code: 'QuotaExceeded' },
        { kind: 'answer', status: 507, code: 'InsufficientStorage' },
      ] as const) {
        proxy.inject(() => fault);
        const before = proxy.requests.length;
        expect(await outcome(store.put('full/object', Buffer.from('x')))).toBe('store_full');
        expect(proxy.requests.length - before).toBe(1);
      }
    });
  });

  describe('a caller that gives up', () => {
    test('ends what waits for an answer, and takes the upload back', async () => {
      const caller = new AbortController();
      const store = await open({ signal: caller.signal, limits: { ...limits, idleMs: 60_000 } });
      proxy.inject(({ url }) => (url.includes('partNumber=') ? { kind: 'silence' } : undefined));
      let taken = 0;
      const endless = async function* (): AsyncGenerator<Buffer> {
        for (;;) {
          taken += 1;
          yield Buffer.alloc(partBytes);
        }
      };
      const put = store.put('caller/parts', endless());
      const rejected = expect(put).rejects.toThrow('enough');
      await until(() => proxy.requests.filter(({ url }) => url.includes('caller/parts') && url.includes('partNumber=')).length === 2);
      caller.abort(new Error('enough'));
      await rejected;
      expect(taken).toBeLessThanOrEqual(3); // no more is taken in than what is on its way, and one part
      proxy.inject(() => undefined);
      expect(await uploads()).toEqual([]);
    });
  });

  describe('credentials', () => {
    test('a wrong secret is refused at once, and is in no message', async () => {
      const env = { ...server.credentials, AWS_SECRET_ACCESS_KEY: 'wrong-secret-wrong-secret' };
      const before = proxy.requests.length;
      const error = await open({ env }).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: 'store_refused', message: expect.stringContaining('SignatureDoesNotMatch') });
      expect(proxy.requests.length - before).toBe(1);
      expectNoSecrets(error, env);
    });

    test('an expired credential is refused with the way on, in the middle of the work too', async () => {
      const store = await open();
      proxy.inject(() => ({ kind: 'answer', status: 400, code: 'ExpiredToken' }));
      const before = proxy.requests.length;
      const error = await store.put('expired/object', Buffer.from('x')).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: 'store_refused', hint: expect.stringContaining('expired') });
      expect(proxy.requests.length - before).toBe(1);
      expectNoSecrets(error, server.credentials);
    });

    test('a key that is taken away is refused from then on', async () => {
      const other = await server.createUser();
      expect(await outcome(open({ env: { ...other } }))).toBe('store_refused'); // it may not look into this bucket
      const error = await open({ env: { ...other } }).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ message: expect.stringContaining('AccessDenied') });
      await server.revoke(other);
      await expect(open({ env: { ...other } })).rejects.toMatchObject({ code: 'store_refused', message: expect.stringContaining('InvalidAccessKeyId') });
      expectNoSecrets(error, other);
    });

    test('no credentials at all are refused with where to put them', async () => {
      const nowhere = { AWS_EC2_METADATA_DISABLED: 'true' };
      const kept = { ...process.env };
      for (const name of Object.keys(process.env).filter((variable) => variable.startsWith('AWS_'))) delete process.env[name];
      Object.assign(process.env, nowhere, { AWS_SHARED_CREDENTIALS_FILE: '/dev/null', AWS_CONFIG_FILE: '/dev/null' });
      try {
        await expect(open({ env: nowhere })).rejects.toMatchObject({ code: 'store_refused', hint: expect.stringContaining('AWS_ACCESS_KEY_ID') });
      } finally {
        for (const name of ['AWS_EC2_METADATA_DISABLED', 'AWS_SHARED_CREDENTIALS_FILE', 'AWS_CONFIG_FILE']) delete process.env[name];
        Object.assign(process.env, kept);
      }
    });

    test('a bucket that is not there is refused, and not made', async () => {
      for (const _attempt of [1, 2]) {
        await expect(open({ at: 'no-such-bucket-here' })).rejects.toMatchObject({ code: 'store_refused', message: expect.stringContaining('NoSuchBucket') });
      }
    });

    test('a lock that the bucket cannot keep is refused before anything is written', async () => {
      await expect(open({ query: '&lock=compliance' })).rejects.toMatchObject({ code: 'store_refused', message: expect.stringContaining('object lock') });
    });
  });

  describe('what a server does not do', () => {
    test('entries that a listing misses are there all the same', async () => {
      const store = await open();
      for (const name of ['seen', 'unseen']) await store.put(`late/${name}`, Buffer.from(name));
      proxy.inject(({ url }) => (url.includes('list-type=2') ? { kind: 'missing-entries', holding: 'late/unseen' } : undefined));
      expect((await keysAndMore(store, 'late/')).map(({ key }) => key)).toEqual(['late/seen']);
      expect((await read(store, 'late/unseen')).toString()).toBe('unseen');
      expect(await outcome(store.put('late/unseen', Buffer.from('other'), { ifAbsent: true }))).toBe('store_conflict');
      await store.delete('late/unseen');
      expect(await store.head('late/unseen')).toBeUndefined();
    });

    test('where conditions are refused, as by Backblaze B2, new objects are looked for and nothing is replaced', async () => {
      const store = await open();
      proxy.inject(({ method, headers }) =>
        method === 'PUT' && ('if-none-match' in headers || 'if-match' in headers) ? { kind: 'answer', status: 501, code: 'NotImplemented' } : undefined,
      );
      const { tag } = await store.put('b2/object', Buffer.from('first'), { ifAbsent: true });
      expect(await outcome(store.put('b2/object', Buffer.from('second'), { ifAbsent: true }))).toBe('store_conflict');
      await expect(store.put('b2/object', Buffer.from('third'), { ifMatch: tag })).rejects.toMatchObject({
        code: 'store_refused',
        hint: expect.stringContaining('folder'),
      });
      expect((await read(store, 'b2/object')).toString()).toBe('first');
      expect(await keysAndMore(store, 'partywall-probe-')).toEqual([]);
    });

    test('a bucket with versions keeps none of a deleted object', async () => {
      const versioned = await server.createBucket({ versioned: true });
      const store = await open({ at: versioned });
      for (const content of ['1', '2', '3']) await store.put('versions/object', Buffer.from(content));
      await store.put('versions/object-2', Buffer.from('stays'));
      await store.delete('versions/object');
      const client = plainClient();
      const { Versions = [], DeleteMarkers = [] } = await client.send(new ListObjectVersionsCommand({ Bucket: versioned }));
      client.destroy();
      expect(Versions.map(({ Key }) => Key)).toEqual(['archive/versions/object-2']);
      expect(DeleteMarkers).toEqual([]);
    });
  });

  function expectNoSecrets(error: unknown, env: { readonly AWS_ACCESS_KEY_ID: string; readonly AWS_SECRET_ACCESS_KEY: string }): void {
    expect(error).toBeInstanceOf(PartywallError);
    const all = inspect(error, { depth: 20, showHidden: true });
    for (const secret of [env.AWS_ACCESS_KEY_ID, env.AWS_SECRET_ACCESS_KEY, 'Signature=', 'AWS4-HMAC']) expect(all).not.toContain(secret);
  }
});

/** A fault that a request of its kind can have, without an orphan that nobody could know of. */
function anyFault({ method, url }: SeenRequest, next: () => number): Fault {
  const passing: Fault[] = [{ kind: 'answer', status: 500, code: 'InternalError' }, { kind: 'answer', status: 503, code: 'SlowDown' }, { kind: 'reset' }];
  const begins = method === 'POST' && url.includes('uploads');
  const reads = method === 'GET' && !url.includes('list-type=');
  const possible: Fault[] = [
    ...passing,
    ...(begins ? [] : [{ kind: 'lost-answer' } as const]),
    ...(reads ? [{ kind: 'cut', bytes: Math.floor(next() * 1_000_000), ending: 'reset' } as const] : []),
  ];
  return possible[Math.floor(next() * possible.length)] ?? { kind: 'reset' };
}

/** Numbers from 0 to 1 that a seed decides. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error('it never holds');
    await new Promise((resolve) => setTimeout(resolve, 5)); // until it holds, not for a time
  }
}
