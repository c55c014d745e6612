import { expect, test } from 'vitest';
import { boundedServer } from '../src/limits.ts';
import { serverFixture } from './server.ts';

const fixture = await serverFixture((app) => {
  app.get('/api/things/:id', { config: { access: 'public' } }, async () => ({}));
  app.post('/api/things/:id', { config: { access: 'public' } }, async ({ body }) => ({ body }));
});
const { server } = fixture;
const { server: limited } = await serverFixture(
  (app) => {
    app.get('/api/mine', { config: { access: 'member' } }, async () => ({}));
    app.get('/api/guess', { config: { access: 'public', guessable: true } }, async () => ({}));
  },
  { limits: { requestsPerMinute: 3, attemptsPerMinute: 1 } },
);
const json = { 'content-type': 'application/json' };
const post = (payload: string, headers: Record<string, string> = json) => server.inject({ method: 'POST', url: '/api/things/1', payload, headers });

test('malformed JSON, and JSON that reaches for the prototype, are refused with problem details', async () => {
  for (const payload of ['{"a":', '{a:1}', '{"__proto__": {"admin": true}}', '{"constructor": {"prototype": {"admin": true}}}', '\ufeff{"a": 1', 'nul']) {
    const answer = await post(payload);
    expect(answer.statusCode, payload).toBe(400);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json()).toMatchObject({ code: 'invalid_request', status: 400 });
  }
});

test('an empty body with the content type of JSON is no body', async () => {
  expect((await post('')).json()).toEqual({});
  expect((await server.inject({ method: 'POST', url: '/api/things/1' })).json()).toEqual({});
});

test('what is not JSON is refused, text included, which a foreign form may send', async () => {
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'application/xml', 'nonsense']) {
    const answer = await post('a=b', { 'content-type': type });
    expect([type, answer.statusCode]).toEqual([type, 415]);
    expect(answer.json()).toMatchObject({ code: 'unsupported_media_type' });
  }
});

test('a body over the limit is refused', async () => {
  const answer = await post(JSON.stringify('x'.repeat(boundedServer.bodyLimit)));
  expect([answer.statusCode, answer.json().code]).toEqual([413, 'payload_too_large']);
});

test('a known path with another method is 405 and names the ones it takes; an unknown path is 404', async () => {
  const wrong = await server.inject({ method: 'DELETE', url: '/api/things/1?x=1' });
  expect([wrong.statusCode, wrong.headers.allow, wrong.json().code]).toEqual([405, 'GET, HEAD, POST', 'method_not_allowed']);
  for (const url of ['/api/things', '/api/things/', '/api/things/1/2', '/', '/api/nothing']) {
    expect([url, (await server.inject({ method: 'DELETE', url })).statusCode]).toEqual([url, 404]);
  }
});

test('every answer, refusals included, has the security headers, is not kept by caches and names its request', async () => {
  for (const url of ['/api/things/1', '/api/nothing', '/api/health']) {
    const { headers } = await server.inject({ url, headers: { 'x-request-id': 'my-request.1' } });
    expect(headers).toMatchObject({
      'content-security-policy': "default-src 'none';frame-ancestors 'none'",
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'SAMEORIGIN',
      'referrer-policy': 'no-referrer',
      'cache-control': 'no-store',
      'x-request-id': 'my-request.1',
    });
  }
});

test('a URL that cannot be decoded is refused with problem details', async () => {
  const answer = await server.inject('/api/things/%E0%A4%A');
  expect([answer.statusCode, answer.headers['content-type'], answer.json().code]).toEqual([400, 'application/problem+json', 'invalid_request']);
});

test('a request id that is not well-formed is replaced', async () => {
  for (const given of ['', 'a b', 'a\tb', 'x'.repeat(129), '../../etc', 'é']) {
    const { headers } = await server.inject({ url: '/api/health', headers: { 'x-request-id': given } });
    expect(headers['x-request-id']).toMatch(/^[\da-f-]{36}$/);
  }
});

test('an address that asks too often is refused before anybody is asked who it is', async () => {
  const statuses = async (url: string, remoteAddress: string, times: number): Promise<number[]> => {
    const answers = [];
    for (let i = 0; i < times; i += 1) answers.push((await limited.inject({ url, remoteAddress })).statusCode);
    return answers;
  };
  expect(await statuses('/api/mine', '192.0.2.1', 5)).toEqual([401, 401, 401, 429, 429]);
  expect(await statuses('/api/guess', '192.0.2.2', 3)).toEqual([200, 429, 429]);
  // Addresses of one IPv6 network are one client.
  expect(await statuses('/api/guess', '2001:db8::1', 1)).toEqual([200]);
  expect(await statuses('/api/guess', '2001:db8::2', 1)).toEqual([429]);
  const signIn = async (remoteAddress: string): Promise<number> => {
    const payload = { email: 'somebody@example.com', password: 'a guess' };
    return (await limited.inject({ method: 'POST', url: '/api/auth/sign-in/email', payload, remoteAddress })).statusCode;
  };
  expect([await signIn('192.0.2.3'), await signIn('192.0.2.3'), await signIn('192.0.2.4')]).toEqual([401, 429, 401]);
  const answer = await limited.inject({ url: '/api/mine', remoteAddress: '192.0.2.1' });
  expect(answer.json()).toMatchObject({ code: 'too_many_requests' });
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
});
