import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { hashPassword } from '../../src/index.ts';
import { signInLimits } from '../../src/people/sign-in-throttle.ts';
import { serverFixture } from '../server.ts';

const fixture = await serverFixture((app) => {
  app.post('/app/things', { config: { access: 'signed_in' } }, async () => ({ done: true }));
});
const { server, database } = fixture;
const password = 'correct horse battery';

/** A person as provisioning writes one: by SQL, with the hash that the server makes. */
async function account(name: string, memberships: readonly string[] = []): Promise<{ id: string; email: string }> {
  const id = randomUUID();
  const email = `${name}-${id.slice(0, 8)}@people.example`;
  await database.query(`insert into partywall_people."user" ("id", "name", "email", "emailVerified") values ($1, $2, $3, true)`, [id, name, email]);
  await database.query(
    `insert into partywall_people."account" ("id", "accountId", "providerId", "userId", "password", "updatedAt") values ($1, $2, 'credential', $2, $3, now())`,
    [randomUUID(), id, await hashPassword(password)],
  );
  for (const tenant of memberships) {
    await database.query(`insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, $1, $1, now()) on conflict do nothing`, [
      tenant,
    ]);
    await database.query(`insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($1, $2, $3, 'admin', now())`, [
      randomUUID(),
      tenant,
      id,
    ]);
  }
  return { id, email };
}

const signIn = (email: string, given = password, extra: { remoteAddress?: string; headers?: Record<string, string> } = {}) =>
  server.inject({ method: 'POST', url: '/api/auth/sign-in/email', payload: { email, password: given }, ...extra });

async function bearer(email: string): Promise<{ authorization: string }> {
  return { authorization: `Bearer ${(await signIn(email)).json<{ token: string }>().token}` };
}

async function cookie(email: string): Promise<string> {
  const [set = ''] = [(await signIn(email)).headers['set-cookie'] ?? ''].flat();
  return set.split(';', 1)[0] ?? '';
}

test('an admin that provisioning wrote by SQL signs in, and the token works as bearer', async () => {
  const tenant = await fixture.tenant('Alder');
  const { id, email } = await account('ada', [tenant]);
  const answer = await signIn(email);
  expect(answer.statusCode).toBe(200);
  const { token, user } = answer.json<{ token: string; user: unknown }>();
  expect(user).toEqual({ id, name: 'ada', email });
  const me = await server.inject({ url: '/api/me', headers: { authorization: `Bearer ${token}` } });
  expect(me.json()).toEqual({
    id,
    name: 'ada',
    email,
    superAdmin: false,
    activeTenant: null,
    memberships: [{ tenantId: tenant, name: 'Alder', role: 'admin', status: 'active' }],
  });
});

test('what the database holds of a session signs nobody in', async () => {
  const { id, email } = await account('bea');
  await signIn(email);
  const { rows } = await database.query<{ token: string }>('select "token" from partywall_people."session" where "userId" = $1', [id]);
  const token = rows[0]?.token ?? '';
  for (const value of [token, `${token}.`, `${token}.AAAA`, `${token}.${Buffer.alloc(32).toString('base64url')}`]) {
    expect((await server.inject({ url: '/api/me', headers: { authorization: `Bearer ${value}` } })).statusCode, value).toBe(401);
  }
});

test('the cookie is for this server alone, and changes something only for pages of an allowed origin', async () => {
  const { email } = await account('cyd');
  const [set = ''] = [(await signIn(email)).headers['set-cookie'] ?? ''].flat();
  expect(set).toMatch(/^partywall\.session_token=.*HttpOnly.*SameSite=Lax/i);
  const headers = { cookie: set.split(';', 1)[0] ?? '' };
  const post = (more: Record<string, string>) => server.inject({ method: 'POST', url: '/app/things', headers: { ...headers, ...more } });
  expect((await post({ origin: 'http://localhost:5000' })).statusCode).toBe(200);
  for (const foreign of [{}, { origin: 'null' }, { origin: 'https://evil.example' }, { origin: 'http://localhost:5000.evil.example' }]) {
    expect((await post(foreign)).json(), JSON.stringify(foreign)).toMatchObject({ status: 403, code: 'csrf_refused' });
  }
  expect((await server.inject({ url: '/api/me', headers })).statusCode).toBe(200);
  // A credential that was given and is not good does not fall back to the cookie, which the header would exempt from the check.
  expect((await post({ authorization: 'Bearer made-up' })).statusCode).toBe(401);
  expect((await post({ 'x-api-key': 'pwk_made-up' })).statusCode).toBe(401);
});

test('a foreign page cannot sign a visitor in', async () => {
  const { email } = await account('dot');
  expect((await signIn(email, password, { headers: { origin: 'https://evil.example' } })).json()).toMatchObject({ code: 'csrf_refused' });
});

test('an unknown account and a wrong password get the same answer, and both are recorded without the password', async () => {
  const { email } = await account('eve');
  const unknown = await signIn('nobody@people.example', 'a wrong password');
  const wrong = await signIn(email, 'a wrong password');
  const { requestId: _one, ...first } = unknown.json();
  const { requestId: _other, ...second } = wrong.json();
  expect(first).toEqual(second);
  expect(first).toMatchObject({ status: 401, code: 'sign_in_refused' });
  const { rows } = await database.query<{ target: string; record: string }>(
    `select target, r::text as record from partywall_control.audit_records r where action = 'sign_in.refused' and outcome = 'denied' and target = any ($1) order by seq`,
    [['email:nobody@people.example', `email:${email}`]],
  );
  expect(rows.map(({ target }) => target)).toEqual(['email:nobody@people.example', `email:${email}`]);
  expect(JSON.stringify(rows)).not.toContain('a wrong password');
});

test('an account is throttled after so many attempts from anywhere, even when they come at once', async () => {
  const { email } = await account('fay');
  const attempts = Array.from({ length: signInLimits.account + 5 }, (_, n) => signIn(email, 'a wrong password', { remoteAddress: `10.0.0.${n}` }));
  const statuses = (await Promise.all(attempts)).map(({ statusCode }) => statusCode);
  expect(statuses.filter((status) => status === 401)).toHaveLength(signInLimits.account);
  expect(statuses.filter((status) => status === 429)).toHaveLength(5);
  const late = await signIn(email, password, { remoteAddress: '10.0.1.1' });
  expect(late.statusCode).toBe(429);
  expect(Number(late.headers['retry-after'])).toBeGreaterThan(0);
  await database.query(`update partywall_people.sign_in_attempts set expires_at = now() - interval '1 second'`);
  expect((await signIn(email, password, { remoteAddress: '10.0.1.1' })).statusCode).toBe(200);
});

test('an address is throttled whichever accounts it tries', async () => {
  const attempt = async (n: number) => (await signIn(`guess-${n}@people.example`, 'a wrong password', { remoteAddress: '10.9.9.9' })).statusCode;
  const statuses = [await attempt(0)];
  // Those in between were made at another process: the database has them.
  await database.query('update partywall_people.sign_in_attempts set attempts = $1 where subject = sha256($2)', [
    signInLimits.address - 1,
    Buffer.from('address:10.9.9.9'),
  ]);
  statuses.push(await attempt(1), await attempt(2));
  expect(statuses.at(-2)).toBe(401);
  expect(statuses.at(-1)).toBe(429);
});

test('signing out ends the session at once, for the token that was remembered', async () => {
  const { email } = await account('gus');
  const headers = await bearer(email);
  expect((await server.inject({ url: '/api/me', headers })).statusCode).toBe(200);
  expect((await server.inject({ method: 'POST', url: '/api/auth/sign-out', headers })).json()).toEqual({ success: true });
  expect((await server.inject({ url: '/api/me', headers })).statusCode).toBe(401);
});

test('a new password ends every other session and the old password, and this session goes on under a new token', async () => {
  const { email } = await account('hal');
  const [one, other] = [await bearer(email), await bearer(email)];
  const change = (currentPassword: string) =>
    server.inject({
      method: 'POST',
      url: '/api/auth/change-password',
      headers: one,
      payload: { currentPassword, newPassword: 'another horse battery' },
    });
  expect((await change('a wrong password')).statusCode).toBe(400);
  const { token } = (await change(password)).json<{ token: string }>();
  for (const headers of [one, other]) expect((await server.inject({ url: '/api/me', headers })).statusCode).toBe(401);
  expect((await server.inject({ url: '/api/me', headers: { authorization: `Bearer ${token}` } })).statusCode).toBe(200);
  expect((await signIn(email)).statusCode).toBe(401);
  expect((await signIn(email, 'another horse battery')).statusCode).toBe(200);
});

test('a person lists and ends their own sessions, and cannot end those of others', async () => {
  const [ida, jon] = [await account('ida'), await account('jon')];
  const [mine, second, foreign] = [await bearer(ida.email), await bearer(ida.email), await bearer(jon.email)];
  const sessions = (await server.inject({ url: '/api/auth/list-sessions', headers: foreign })).json<{ token: string }[]>();
  const revoke = (headers: { authorization: string }, token: string) =>
    server.inject({ method: 'POST', url: '/api/auth/revoke-session', headers, payload: { token } });
  await revoke(mine, sessions[0]?.token ?? '');
  expect((await server.inject({ url: '/api/me', headers: foreign })).statusCode).toBe(200);
  await server.inject({ method: 'POST', url: '/api/auth/revoke-other-sessions', headers: mine });
  expect((await server.inject({ url: '/api/me', headers: second })).statusCode).toBe(401);
  expect((await server.inject({ url: '/api/me', headers: mine })).statusCode).toBe(200);
});

test('the session says which tenant it acts on, and only one of its own', async () => {
  const [alder, birch, foreign] = [await fixture.tenant('Alder two'), await fixture.tenant('Birch two'), await fixture.tenant('Foreign')];
  const { id, email } = await account('kim', [alder, birch]);
  await account('lea', [foreign]);
  const headers = { cookie: await cookie(email), origin: 'http://localhost:5000' };
  const choose = (organizationId: string | null) =>
    server.inject({ method: 'POST', url: '/api/auth/organization/set-active', headers, payload: { organizationId } });
  expect((await choose(birch)).json()).toMatchObject({ id: birch });
  expect((await server.inject({ url: '/api/me', headers })).json()).toMatchObject({ activeTenant: birch });
  expect((await choose(foreign)).statusCode).toBe(404);
  const { rows } = await database.query('select actor_id, action from partywall_control.audit_records where tenant_id = $1', [foreign]);
  expect(rows).toEqual([{ actor_id: id, action: 'access.cross_tenant' }]);
  expect((await choose(null)).json()).toBeNull();
  expect(
    (await server.inject({ url: '/api/auth/organization/list', headers }))
      .json<{ id: string }[]>()
      .map((one) => one.id)
      .sort(),
  ).toEqual([alder, birch].sort());
});

test("Better Auth's other routes are not there", async () => {
  const tenant = await fixture.tenant('Closed');
  const { email } = await account('max', [tenant]);
  const headers = await bearer(email);
  // biome-ignore format: a list of names
  const closed = [
    'sign-up/email', 'delete-user', 'update-user', 'change-email', 'request-password-reset', 'sign-in/social',
    'organization/create', 'organization/delete', 'organization/update', 'organization/invite-member', 'organization/accept-invitation',
    'organization/list-user-invitations', 'organization/remove-member', 'organization/update-member-role', 'organization/add-member',
    'api-key/create', 'api-key/list', 'api-key/verify', 'ok', 'error', 'SIGN-UP/email', 'sign-in/email/', '../auth/organization/create',
  ];
  for (const path of closed) {
    for (const method of ['GET', 'POST'] as const) {
      const answer = await server.inject({ method, url: `/api/auth/${path}`, headers, ...(method === 'POST' && { payload: { organizationId: tenant } }) });
      expect([404, 405], `${method} ${path}`).toContain(answer.statusCode);
    }
  }
});

test('without a session get-session answers null, with one who it is', async () => {
  expect((await server.inject('/api/auth/get-session')).body).toBe('null');
  const { id, email } = await account('ned');
  const answer = await server.inject({ url: '/api/auth/get-session', headers: await bearer(email) });
  expect(answer.json()).toMatchObject({ user: { id, email } });
  expect(answer.body).not.toContain('"token"');
});
