import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from 'jose';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type JwtOptions, jwtBearer } from '../../src/http/jwt.ts';
import type { Identity } from '../../src/index.ts';

const issuer = 'https://login.example.com';
const audience = 'crm';
const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
const options: JwtOptions = { issuer, audience, algorithms: ['RS256'], key: publicKey };
const payload = { tenant: 't_1', sub: 'u_1', iss: issuer, aud: audience, exp: inSeconds(60) };

function inSeconds(seconds: number): number {
  return Math.floor(Date.now() / 1000) + seconds;
}

const sign = (claims: JWTPayload, header: { alg?: string; kid?: string } = {}): Promise<string> =>
  new SignJWT(claims).setProtectedHeader({ alg: 'RS256', ...header }).sign(privateKey);

async function identify(authorization: string | null, given: Partial<JwtOptions> = {}): Promise<Identity | null> {
  return jwtBearer({ ...options, ...given })({
    method: 'GET',
    path: '/',
    address: undefined,
    header: (name) => (name === 'authorization' ? authorization : null),
  });
}

const bearer = async (claims: JWTPayload, given?: Partial<JwtOptions>): Promise<Identity | null> => identify(`Bearer ${await sign(claims)}`, given);

test('a token of the issuer for this audience proves its user and its tenants', async () => {
  expect(await bearer(payload)).toEqual({ user: 'u_1', tenants: [{ proven: 't_1' }] });
  expect(await identify(`bearer  ${await sign(payload)}`)).not.toBeNull();
  expect(await bearer({ ...payload, tenant: ['t_1', 't_2'] })).toMatchObject({ tenants: [{ proven: 't_1' }, { proven: 't_2' }] });
  expect(await bearer({ ...payload, tenant: 42 })).toMatchObject({ tenants: [{ proven: '42' }] });
  const claims = { tenant: 'org', user: 'email', unit: 'bu' };
  expect(await bearer({ ...payload, org: 'o', email: 'a@b.c', bu: 7 }, { claims })).toEqual({
    user: 'a@b.c',
    tenants: [{ proven: 'o' }],
    unit: { proven: '7' },
  });
});

test.each([[undefined], [null], [''], [{}], [[]], [[{}]], [true], [1.5], [Number.MAX_SAFE_INTEGER + 1]])(
  'a tenant claim %j proves no tenant',
  async (tenant) => {
    expect(await bearer({ ...payload, tenant })).toMatchObject({ tenants: [] });
  },
);

test.each([[''], [{}], [[]], [['bu_1']], [true], [1.5], [Number.MAX_SAFE_INTEGER + 1]])(
  'a token whose unit claim is %j proves nothing, and not the whole tenant',
  async (bu) => {
    expect(await bearer({ ...payload, bu }, { claims: { unit: 'bu' } })).toBeNull();
  },
);

test.each([undefined, null])('a token whose unit claim is %j is bound to no unit', async (bu) => {
  expect(await bearer({ ...payload, bu }, { claims: { unit: 'bu' } })).toEqual({ user: 'u_1', tenants: [{ proven: 't_1' }] });
});

describe('proves nothing:', () => {
  const { exp: _, ...endless } = payload;
  const cases: [string, () => string | Promise<string>][] = [
    ['an expired token', () => sign({ ...payload, exp: inSeconds(-1) })],
    ['one that never expires', () => sign(endless)],
    ['one that is not valid yet', () => sign({ ...payload, nbf: inSeconds(60) })],
    ['one of another issuer', () => sign({ ...payload, iss: 'https://evil.example' })],
    ['one for another audience', () => sign({ ...payload, aud: 'other' })],
    ['one for nobody', () => sign({ ...payload, aud: [] })],
    ['one that nobody signed', () => new UnsecuredJWT(payload).encode()],
    ['one that says so in other letters', () => forged({ alg: 'nOnE' }, '')],
    ['one whose signature was taken off', async () => (await sign(payload)).replace(/[^.]*$/, '')],
    ['one whose tenant was changed', async () => changed(await sign(payload), { ...payload, tenant: 't_2' })],
    ['one that another key signed', async () => new SignJWT(payload).setProtectedHeader({ alg: 'RS256' }).sign((await generateKeyPair('RS256')).privateKey)],
    ['one that is signed with the public key as a secret', async () => confused(new TextEncoder().encode(await exportSPKI(publicKey)))],
    [
      'one of an algorithm that is not on the list',
      () =>
        new SignJWT(payload)
          .setProtectedHeader({ alg: 'PS256' })
          .sign(privateKey)
          .catch(() => 'x.y.z'),
    ],
    ['one that brings its own key', async () => withOwnKey()],
    [
      'one with a critical header that nobody knows',
      () => new SignJWT(payload).setProtectedHeader({ alg: 'RS256', crit: ['odd'], odd: 1 }).sign(privateKey, { crit: { odd: true } }),
    ],
    ['one that is longer than any token', () => sign({ ...payload, more: 'x'.repeat(10_000) })],
    ['what is no token', () => 'a.b.c'],
    ['two tokens', async () => `${await sign(payload)}, ${await sign(payload)}`],
  ];
  test.each(cases)('%s', async (_name, make) => {
    expect(await identify(`Bearer ${await make()}`)).toBeNull();
  });

  test('a token that comes in another way', async () => {
    const token = await sign(payload);
    for (const authorization of [null, '', 'Bearer', token, `Basic ${token}`, `Bearer ${token} more`])
      expect(await identify(authorization), `${authorization}`).toBeNull();
  });
});

test('clocks may differ by as much as is said', async () => {
  const late = { ...payload, exp: inSeconds(-5) };
  expect(await bearer(late, { clockToleranceSeconds: 30 })).not.toBeNull();
  expect(await bearer(late, { clockToleranceSeconds: 1 })).toBeNull();
});

describe('options that would accept a forged token', () => {
  const refused: [string, Partial<JwtOptions>][] = [
    ['no algorithm', { algorithms: [] }],
    ['none', { algorithms: ['RS256', 'None'] }],
    ['a shared secret beside a public key', { algorithms: ['RS256', 'HS256'] }],
    ['a shared secret from a public address', { algorithms: ['HS256'], key: new URL('https://login.example.com/jwks.json') }],
    ['a public key as bytes', { key: new TextEncoder().encode('-----BEGIN PUBLIC KEY-----') }],
    ['no issuer', { issuer: [] }],
    ['no audience', { audience: [] }],
    ['a tolerance of a day', { clockToleranceSeconds: 86_400 }],
    ['a tolerance that is no number', { clockToleranceSeconds: Number.NaN }],
  ];
  test.each(refused)('are refused: %s', (_name, given) => {
    expect(() => jwtBearer({ ...options, ...given })).toThrow(TypeError);
  });
});

test('a secret serves as a key of its own algorithms', async () => {
  const secret = new TextEncoder().encode('x'.repeat(32));
  const token = await new SignJWT(payload).setProtectedHeader({ alg: 'HS256' }).sign(secret);
  expect(await identify(`Bearer ${token}`, { algorithms: ['HS256'], key: secret })).toMatchObject({ user: 'u_1' });
  expect(await identify(`Bearer ${await sign(payload)}`, { algorithms: ['HS256'], key: secret })).toBeNull();
});

describe('keys that the issuer publishes', () => {
  test('are fetched; a token of an unknown key proves nothing', async () => {
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k1', alg: 'RS256', use: 'sig' };
    const key = await published(JSON.stringify({ keys: [jwk] }));
    expect(await identify(`Bearer ${await sign(payload, { kid: 'k1' })}`, { key })).toMatchObject({ user: 'u_1' });
    expect(await identify(`Bearer ${await sign(payload, { kid: '../../k1' })}`, { key })).toBeNull();
  });

  test('that cannot be had are no missing credential: the verifier throws', async () => {
    const token = `Bearer ${await sign(payload, { kid: 'k1' })}`;
    for (const key of [new URL('http://127.0.0.1:1/jwks.json'), await published('not found', 404), await published('<html>')]) {
      await expect(identify(token, { key })).rejects.toThrow();
    }
  });
});

function forged(header: object, signature: string): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${encode(header)}.${encode(payload)}.${signature}`;
}

function changed(token: string, claims: object): string {
  const [header, , signature] = token.split('.');
  return `${header}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`;
}

function confused(secret: Uint8Array): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: 'HS256' }).sign(secret);
}

async function withOwnKey(): Promise<string> {
  const own = await generateKeyPair('RS256');
  const jwk = await exportJWK(own.publicKey);
  return new SignJWT(payload).setProtectedHeader({ alg: 'RS256', jwk }).sign(own.privateKey);
}

async function published(body: string, status = 200): Promise<URL> {
  const server = http.createServer((_, response) => response.writeHead(status, { 'content-type': 'application/json' }).end(body));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`); // it listens on TCP
}
