import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { structuredLogs } from '../src/index.ts';
import { serverFixture } from './server.ts';

const lines: string[] = [];
const fixture = await serverFixture(
  (app) => {
    const body = z.strictObject({ password: z.string().min(200) });
    app.post('/api/passwords', { config: { access: 'public' }, schema: { body } }, async () => ({}));
    app.post('/api/careless', { config: { access: 'member' } }, async (request) => {
      // What an application's own routes may log.
      request.log.warn({ headers: request.headers, body: request.body, req: request, options: { smtp: { password: 'hunter-5' } } }, 'careless');
      throw new Error('broken');
    });
  },
  { fastify: structuredLogs('debug', { write: (line) => lines.push(line) }) },
);
const { server } = fixture;
const alder = await fixture.tenant('Alder');
const ofAlder = await fixture.person({ memberships: { [alder]: 'admin' } });

interface Line {
  readonly msg: string;
  readonly requestId?: string;
  readonly route?: string | null;
  readonly status?: number;
  readonly tenant?: string | null;
  readonly principal?: string | null;
  readonly ms?: number;
}
const logged = (id: string): Line[] => lines.map((line): Line => JSON.parse(line)).filter(({ requestId }) => requestId === id);

test('a request is one line: who, for which tenant, what came of it, and how long it took', async () => {
  const id = randomUUID();
  await server.inject({ url: '/api/health?token=hunter-0', headers: { 'x-request-id': id } });
  const [line, ...others] = logged(id);
  expect(others).toEqual([]);
  expect(line).toMatchObject({ msg: 'request', route: '/api/health', status: 200, tenant: null, principal: null, ms: expect.any(Number) });
});

test('a failure is a line with its cause, beside that of the request', async () => {
  const id = randomUUID();
  await server.inject({ method: 'POST', url: '/api/careless', headers: { ...ofAlder.headers, 'x-request-id': id } });
  expect(logged(id).map(({ msg }) => msg)).toEqual(['careless', 'the request failed', 'request']);
  expect(logged(id).at(-1)).toMatchObject({ route: '/api/careless', status: 500, tenant: alder, principal: `user:${ofAlder.id}` });
});

test('no secret of a session that used every kind of it is in the log', async () => {
  const [, token = ''] = ofAlder.headers.authorization.split(' ');
  const cookie = `better-auth.session_token=${encodeURIComponent('hunter-1.signature')}`;
  for (const headers of [ofAlder.headers, { 'x-api-key': 'pwk_hunter-2' }, { cookie }, { authorization: 'Basic hunter-3' }]) {
    await server.inject({
      method: 'POST',
      url: '/api/careless?token=hunter-4&reset=hunter-4',
      headers,
      payload: { password: 'hunter-6', adminPassword: 'hunter-7' },
    });
    await server.inject({ method: 'GET', url: '/api/nothing/hunter-8?token=hunter-8', headers });
  }
  await server.inject({ method: 'POST', url: '/api/passwords', payload: { password: 'hunter-9' } });
  await server.inject({ method: 'POST', url: '/api/passwords', payload: '{"password": "hunter-10"', headers: { 'content-type': 'application/json' } });
  await server.inject({ method: 'POST', url: '/api/auth/sign-in/email', payload: { email: 'a@example.com', password: 'hunter-11' } });
  const log = lines.join('');
  expect(log).toContain('[secret]');
  expect([...new Set(log.match(/hunter-\d+/g))]).toEqual([]);
  expect(log).not.toContain(token);
});
