import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { pruneIdempotencyKeys } from '../src/idempotency.ts';
import { serverFixture } from './server.ts';

/** Routes that make something once for each request that reaches them. */
const done: string[] = [];
let gate = Promise.withResolvers<void>();
const fixture = await serverFixture((app) => {
  const body = z.strictObject({ name: z.string(), password: z.string().optional() });
  app.post<{ Body: z.infer<typeof body> }>('/api/things', { config: { access: 'member' }, schema: { body } }, async (request, reply) => {
    if (request.body.name === 'refused') return reply.code(422).send({});
    if (request.body.name === 'failed') throw new Error('failed');
    if (request.body.name === 'slow') await gate.promise;
    done.push(request.body.name);
    return reply.code(201).header('location', '/api/things/1').send({ number: done.length, tenant: request.tenant });
  });
  app.post('/api/slow-things', { config: { access: 'member' }, handlerTimeout: 100 }, async () => {
    await gate.promise;
    done.push('late');
    return {};
  });
  app.delete('/api/things/:id', { config: { access: 'member' } }, async (_request, reply) => {
    done.push('deleted');
    return reply.code(204).send();
  });
  app.post('/api/keys', { config: { access: 'member', idempotent: false } }, async () => ({ secret: 'shown once' }));
});
const { server, database } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
const ofAlder = await fixture.person({ memberships: { [alder]: 'admin', [birch]: 'admin' } });
const another = await fixture.person({ memberships: { [alder]: 'member' } });

const post = (key: string, payload: object, changes: { url?: string; headers?: object } = {}) =>
  server.inject({
    method: 'POST',
    url: changes.url ?? '/api/things',
    payload,
    headers: { ...ofAlder.headers, 'x-tenant-id': alder, 'idempotency-key': key, ...changes.headers },
  });

test('the same request with the same key is done once and answered alike', async () => {
  const key = randomUUID();
  const before = done.length;
  const first = await post(key, { name: 'once' });
  const second = await post(key, { name: 'once' });
  expect(done.length).toBe(before + 1);
  expect([second.statusCode, second.body, second.headers['content-type']]).toEqual([201, first.body, first.headers['content-type']]);
  expect([first.headers['idempotency-replayed'], second.headers['idempotency-replayed']]).toEqual([undefined, 'true']);
});

test('an answer without a body is given again without one', async () => {
  const ask = () => server.inject({ method: 'DELETE', url: '/api/things/7', headers: { ...another.headers, 'idempotency-key': 'delete-7' } });
  const before = done.length;
  expect([(await ask()).statusCode, (await ask()).statusCode, (await ask()).body]).toEqual([204, 204, '']);
  expect(done.length).toBe(before + 1);
});

test('another body, path or tenant with the key of a request is a conflict', async () => {
  const key = randomUUID();
  await post(key, { name: 'a' });
  for (const other of [
    post(key, { name: 'b' }),
    post(key, { name: 'a' }, { url: '/api/things?x=1' }),
    post(key, { name: 'a' }, { headers: { 'x-tenant-id': birch } }),
  ]) {
    const answer = await other;
    expect([answer.statusCode, answer.json().code]).toEqual([409, 'idempotency_conflict']);
  }
});

test('a key is of whoever sent it: nobody gets the answer of another', async () => {
  const key = randomUUID();
  await post(key, { name: 'mine' });
  const theirs = await post(key, { name: 'mine' }, { headers: another.headers });
  expect([theirs.statusCode, theirs.headers['idempotency-replayed']]).toEqual([201, undefined]);
});

test('while the first request runs, fifty others are told to come back, and one thing is done', async () => {
  const key = randomUUID();
  gate = Promise.withResolvers<void>();
  const before = done.length;
  const first = post(key, { name: 'slow' });
  await expect.poll(() => claimed(key), { timeout: 20_000 }).toBe(1);
  const others = await Promise.all(Array.from({ length: 50 }, () => post(key, { name: 'slow' })));
  expect(new Set(others.map((answer) => `${answer.statusCode} ${answer.json().code} ${answer.headers['retry-after']}`))).toEqual(
    new Set(['409 idempotency_running 1']),
  );
  gate.resolve();
  expect((await first).statusCode).toBe(201);
  expect(done.length).toBe(before + 1);
  expect((await post(key, { name: 'slow' })).headers['idempotency-replayed']).toBe('true');
});

test('of many that arrive together one is done', async () => {
  const key = randomUUID();
  const before = done.length;
  const answers = await Promise.all(Array.from({ length: 50 }, () => post(key, { name: 'together' })));
  expect(done.length).toBe(before + 1);
  expect(answers.filter(({ statusCode }) => statusCode !== 201 && statusCode !== 409)).toEqual([]);
});

test('a request that was refused or that failed frees its key', async () => {
  for (const name of ['refused', 'failed']) {
    const key = randomUUID();
    expect((await post(key, { name })).statusCode).toBeGreaterThanOrEqual(400);
    expect(await claimed(key)).toBe(0);
    expect((await post(key, { name: 'now' })).statusCode).toBe(201);
  }
});

test('the key of a lost process can be taken over by the same request once its lease is up, not before, and by no other', async () => {
  const key = randomUUID();
  await post(key, { name: 'lost' });
  const lose = (until: string) =>
    database.query(`update partywall_control.idempotency_keys set status = null, body = null, claimed_until = now() + $2::interval where key = $1`, [
      key,
      until,
    ]);
  await lose('1 minute');
  expect((await post(key, { name: 'lost' })).json().code).toBe('idempotency_running');
  await lose('-1 second');
  expect((await post(key, { name: 'other' })).json().code).toBe('idempotency_conflict');
  expect((await post(key, { name: 'lost' })).statusCode).toBe(201);
});

test('a request that takes too long is answered, and its key stays claimed while its handler still runs', async () => {
  const key = randomUUID();
  gate = Promise.withResolvers<void>();
  const before = done.length;
  const late = await post(key, {}, { url: '/api/slow-things' });
  expect([late.statusCode, late.json().code]).toEqual([503, 'timed_out']);
  expect((await post(key, {}, { url: '/api/slow-things' })).json().code).toBe('idempotency_running');
  gate.resolve();
  await expect.poll(() => done.length, { timeout: 20_000 }).toBe(before + 1);
});

test('a key is free again after its time, and expired ones are deleted', async () => {
  const key = randomUUID();
  await post(key, { name: 'old' });
  await database.query(`update partywall_control.idempotency_keys set expires_at = now() - interval '1 second' where key = $1`, [key]);
  expect((await post(key, { name: 'new' })).statusCode).toBe(201);
  await database.query(`update partywall_control.idempotency_keys set expires_at = now() - interval '1 second' where key = $1`, [key]);
  expect(await pruneIdempotencyKeys(fixture.control.pool)).toBe(1);
  expect(await claimed(key)).toBe(0);
});

test('a route whose answer is not kept, and a malformed key, are refused rather than promised', async () => {
  for (const answer of [await post('k', {}, { url: '/api/keys' }), await post('a b', { name: 'x' }), await post('x'.repeat(201), { name: 'x' })]) {
    expect([answer.statusCode, answer.json().errors[0].field]).toEqual([400, 'headers/idempotency-key']);
  }
});

test('neither a password of the request nor anything to guess it by is kept', async () => {
  const key = randomUUID();
  await post(key, { name: 'secretive', password: 'correct horse' });
  const { rows } = await database.query<{ row: string }>('select k::text as row from partywall_control.idempotency_keys k where key = $1', [key]);
  expect(rows[0]?.row).not.toContain('correct horse');
  const other = await post(key, { name: 'secretive', password: 'wrong horse' });
  expect(other.json().code).toBe('idempotency_conflict');
});

async function claimed(key: string): Promise<number> {
  const { rowCount } = await database.query('select from partywall_control.idempotency_keys where key = $1', [key]);
  return rowCount ?? 0;
}
