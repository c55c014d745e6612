import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { people, serverFixture } from '../server.ts';

const sent: { to: string; subject: string; text: string }[] = [];
const fixture = await serverFixture();
const mailing = await serverFixture(undefined, { people: { ...people, mail: async (mail) => void sent.push(mail) } });
const { server, database } = fixture;
const password = 'correct horse battery';

type Headers = Readonly<Record<string, string>>;
const at = (headers: Headers, method: 'GET' | 'POST' | 'PATCH' | 'DELETE', url: string, payload?: object, on = server) =>
  on.inject({ method, url, headers, ...(payload && { payload }) });
const tokenOf = (link: string): string => link.split('#token=')[1] ?? '';

test('somebody without an account joins by the link, with a password of their own, and once', async () => {
  const tenant = await fixture.tenant('Alder');
  const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });
  const invited = await at(admin.headers, 'POST', '/api/tenants/invitations', { email: 'New@People.Example', role: 'admin' });
  expect(invited.statusCode).toBe(201);
  const { link, id } = invited.json<{ link: string; id: string }>();
  expect(link).toMatch(/^http:\/\/localhost:5000\/accept-invitation#token=/);
  const accept = (token: string) => at({}, 'POST', '/api/invitations/accept', { token, name: 'New', password });
  for (const forged of [id, `${id}.`, `${id}.AAAA`, `${tokenOf(link)}x`]) expect((await accept(forged)).statusCode, forged).toBe(404);
  expect((await at({}, 'POST', '/api/invitations/accept', { token: tokenOf(link) })).json()).toMatchObject({ code: 'invalid_request' });
  const both = await Promise.all([accept(tokenOf(link)), accept(tokenOf(link))]);
  expect(both.map(({ statusCode }) => statusCode).sort()).toEqual([200, 404]);
  const signedIn = await at({}, 'POST', '/api/auth/sign-in/email', { email: 'new@people.example', password });
  const headers = { authorization: `Bearer ${signedIn.json<{ token: string }>().token}` };
  expect((await at(headers, 'GET', '/api/me')).json()).toMatchObject({ memberships: [{ tenantId: tenant, role: 'admin' }] });
  const { rows } = await database.query<{ action: string; text: string }>(
    'select action, r::text as text from partywall_control.audit_records r where tenant_id = $1 order by seq',
    [tenant],
  );
  expect(rows.map(({ action }) => action)).toEqual(expect.arrayContaining(['invitation.create', 'invitation.accept']));
  expect(JSON.stringify(rows)).not.toContain(tokenOf(link).split('.')[1]);
});

test('somebody with an account joins as themselves only, whoever holds the link', async () => {
  const [alder, birch] = [await fixture.tenant('Alder three'), await fixture.tenant('Birch three')];
  const admin = await fixture.person({ memberships: { [alder]: 'admin' } });
  const other = await fixture.person({ memberships: { [birch]: 'member' } });
  const { link } = (await at(admin.headers, 'POST', '/api/tenants/invitations', { email: `${other.id}@people.example` })).json<{ link: string }>();
  const body = { token: tokenOf(link), name: 'Impostor', password };
  expect((await at({}, 'POST', '/api/invitations/accept', body)).statusCode).toBe(401);
  expect((await at(admin.headers, 'POST', '/api/invitations/accept', body)).statusCode).toBe(401);
  expect((await at(other.headers, 'POST', '/api/invitations/accept', { token: tokenOf(link) })).json()).toMatchObject({ tenantId: alder, role: 'member' });
  // The membership counts with the next request, although the session was remembered without it.
  expect((await at({ ...other.headers, 'x-tenant-id': alder }, 'GET', '/api/tenants/members')).statusCode).toBe(403);
  expect((await at(admin.headers, 'POST', '/api/tenants/invitations', { email: `${other.id}@people.example` })).json()).toMatchObject({ code: 'conflict' });
});

test('with mail the link goes to the invited person alone; inviting again sends the same invitation', async () => {
  const tenant = await mailing.tenant('Post');
  const admin = await mailing.person({ memberships: { [tenant]: 'admin' } });
  const invite = () => at(admin.headers, 'POST', '/api/tenants/invitations', { email: 'far@people.example' }, mailing.server);
  const [first, again] = [await invite(), await invite()];
  expect(first.json()).toMatchObject({ link: null });
  expect(again.json<{ id: string }>().id).toBe(first.json<{ id: string }>().id);
  expect(sent.map(({ to, subject }) => ({ to, subject }))).toEqual(
    Array.from({ length: 2 }, () => ({ to: 'far@people.example', subject: 'Invitation to Post' })),
  );
  const [, token = ''] = /#token=(\S+)/.exec(sent[0]?.text ?? '') ?? [];
  expect((await at({}, 'POST', '/api/invitations/accept', { token, name: 'Far', password }, mailing.server)).statusCode).toBe(200);
});

test('a cancelled invitation, an expired one and one into a suspended tenant are worth nothing', async () => {
  const tenant = await fixture.tenant('Void');
  const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });
  const invite = async (email: string) => (await at(admin.headers, 'POST', '/api/tenants/invitations', { email })).json<{ link: string; id: string }>();
  const [cancelled, expired, held] = [await invite('a@people.example'), await invite('b@people.example'), await invite('c@people.example')];
  expect((await at(admin.headers, 'DELETE', `/api/tenants/invitations/${cancelled.id}`)).statusCode).toBe(204);
  await database.query(`update partywall_people."invitation" set "expiresAt" = now() - interval '1 second' where "id" = $1`, [expired.id]);
  const listed = (await at(admin.headers, 'GET', '/api/tenants/invitations')).json<{ items: { id: string }[] }>();
  expect(listed.items.map(({ id }) => id)).toEqual([held.id]);
  await database.query("update tenants set status = 'suspended' where id = $1", [tenant]);
  for (const { link } of [cancelled, expired, held]) {
    expect((await at({}, 'POST', '/api/invitations/accept', { token: tokenOf(link), name: 'Late', password })).statusCode).toBe(404);
  }
});

test('another tenant’s members, invitations and keys are not found, and its admin has no say', async () => {
  const [alder, birch] = [await fixture.tenant('Own'), await fixture.tenant('Neighbour')];
  const admin = await fixture.person({ memberships: { [alder]: 'admin' } });
  const neighbour = await fixture.person({ memberships: { [birch]: 'admin' } });
  const target = await fixture.person({ memberships: { [birch]: 'member' } });
  const invitation = (await at(neighbour.headers, 'POST', '/api/tenants/invitations', { email: 'x@people.example' })).json<{ id: string }>();
  const key = (await at(neighbour.headers, 'POST', '/api/tenants/api-keys', { name: 'k', scopes: ['usage:read'] })).json<{ id: string }>();
  const attempts: ['GET' | 'POST' | 'PATCH' | 'DELETE', string, object?][] = [
    ['GET', `/api/tenants/members?tenantId=${birch}`],
    ['GET', `/api/tenants/invitations?tenantId=${birch}`],
    ['GET', `/api/tenants/api-keys?tenantId=${birch}`],
    ['POST', `/api/tenants/invitations?tenantId=${birch}`, { email: 'mole@people.example', role: 'admin' }],
    ['POST', `/api/tenants/api-keys?tenantId=${birch}`, { name: 'mole', scopes: ['usage:read'] }],
    ['PATCH', `/api/tenants/members/${target.id}`, { role: 'admin' }],
    ['DELETE', `/api/tenants/members/${target.id}`],
    ['DELETE', `/api/tenants/members/${target.id}?tenantId=${birch}`],
    ['DELETE', `/api/tenants/invitations/${invitation.id}`],
    ['DELETE', `/api/tenants/api-keys/${key.id}`],
    ['POST', `/api/tenants/leave?tenantId=${birch}`],
  ];
  for (const [method, url, payload] of attempts) expect((await at(admin.headers, method, url, payload)).statusCode, `${method} ${url}`).toBe(404);
  const members = (await at(neighbour.headers, 'GET', '/api/tenants/members')).json<{ items: { userId: string }[] }>();
  expect(members.items.map(({ userId }) => userId).sort()).toEqual([neighbour.id, target.id].sort());
  for (const [method, url] of attempts.slice(0, 3)) expect((await at(target.headers, method, url)).statusCode, url).toBe(403);
});

test('a role counts with the next request, and the last admin stays, also when two demote each other', async () => {
  const tenant = await fixture.tenant('Roles');
  const [one, two] = [await fixture.person({ memberships: { [tenant]: 'admin' } }), await fixture.person({ memberships: { [tenant]: 'admin' } })];
  const demote = (by: Headers, user: string) => at(by, 'PATCH', `/api/tenants/members/${user}`, { role: 'member' });
  const statuses = (await Promise.all([demote(one.headers, two.id), demote(two.headers, one.id)])).map(({ statusCode }) => statusCode);
  expect(statuses.filter((status) => status === 200)).toHaveLength(1);
  const lists = [await at(one.headers, 'GET', '/api/tenants/members'), await at(two.headers, 'GET', '/api/tenants/members')];
  expect(lists.map(({ statusCode }) => statusCode).sort()).toEqual([200, 403]);
  const [left] = lists[0]?.statusCode === 200 ? [one] : [two];
  expect((await at(left?.headers ?? {}, 'POST', '/api/tenants/leave')).json()).toMatchObject({ code: 'last_admin' });
  expect((await demote(left?.headers ?? {}, left?.id ?? '')).json()).toMatchObject({ code: 'last_admin' });
});

test('members are paged by address, each once', async () => {
  const tenant = await fixture.tenant('Many');
  const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });
  for (let n = 0; n < 6; n += 1) await fixture.person({ memberships: { [tenant]: 'member' } });
  const seen: string[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const page = await at(admin.headers, 'GET', `/api/tenants/members?limit=3${cursor && `&cursor=${cursor}`}`);
    const { items, nextCursor } = page.json<{ items: { userId: string }[]; nextCursor: string | null }>();
    seen.push(...items.map(({ userId }) => userId));
    cursor = nextCursor;
  }
  expect(new Set(seen).size).toBe(7);
  expect(seen).toHaveLength(7);
});

test('an API key is shown once, stored hashed, and does what its scopes say until it is deleted', async () => {
  const keyed = await serverFixture((app) => {
    app.get('/app/customers', { config: { access: 'member', scope: 'customers:read' } }, async ({ tenant }) => ({ tenant }));
    app.get('/app/secrets', { config: { access: 'member' } }, async () => ({}));
    app.get('/app/admin', { config: { access: 'tenant_admin', scope: 'customers:read' } }, async () => ({}));
  });
  const [tenant, other] = [await keyed.tenant('Keys'), await keyed.tenant('Other keys')];
  const admin = await keyed.person({ memberships: { [tenant]: 'admin' } });
  const on = (headers: Headers, method: 'GET' | 'POST' | 'DELETE', url: string, payload?: object) => at(headers, method, url, payload, keyed.server);
  const made = await on(admin.headers, 'POST', '/api/tenants/api-keys', { name: 'sync', scopes: ['customers:read', 'customers:write', 'notes:read'] });
  expect(made.statusCode).toBe(201);
  const { key, id, scopes } = made.json<{ key: string; id: string; scopes: string[] }>();
  expect(scopes).toEqual(['customers:read', 'customers:write', 'notes:read']);
  for (const headers of [{ 'x-api-key': key }, { authorization: `Bearer ${key}` }]) {
    expect((await on(headers, 'GET', '/app/customers')).json()).toEqual({ tenant });
    expect((await on({ ...headers, 'x-tenant-id': other }, 'GET', '/app/customers')).statusCode).toBe(404);
    for (const url of ['/app/secrets', '/app/admin', '/api/me', '/api/tenants/members']) expect((await on(headers, 'GET', url)).statusCode, url).toBe(403);
  }
  expect((await on(admin.headers, 'GET', '/api/tenants/api-keys')).body).not.toContain(key);
  const stored = await keyed.database.query(
    `select k::text || r::text as text from partywall_people."apikey" k, partywall_control.audit_records r where k."id" = $1`,
    [id],
  );
  expect(JSON.stringify(stored.rows)).not.toContain(key);
  expect((await on(admin.headers, 'DELETE', `/api/tenants/api-keys/${id}`)).statusCode).toBe(204);
  expect((await on({ 'x-api-key': key }, 'GET', '/app/customers')).statusCode).toBe(401);

  const expiring = await on(admin.headers, 'POST', '/api/tenants/api-keys', { name: 'brief', scopes: ['customers:read'], expiresAt: '2001-01-01T00:00:00Z' });
  expect((await on({ 'x-api-key': expiring.json<{ key: string }>().key }, 'GET', '/app/customers')).statusCode).toBe(401);
  for (const scope of ['customers', 'customers:delete', '*:read', 'customers:read:all']) {
    expect((await on(admin.headers, 'POST', '/api/tenants/api-keys', { name: 'x', scopes: [scope] })).statusCode, scope).toBe(400);
  }
});

test('a suspended tenant is closed to its people at once, and open to a super-admin', async () => {
  const tenant = await fixture.tenant('Held');
  const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });
  const operator = await fixture.person({ superAdmin: true });
  const list = (headers: Headers) => at(headers, 'GET', `/api/tenants/members?tenantId=${tenant}`);
  expect((await list(admin.headers)).statusCode).toBe(200);
  await database.query("update tenants set status = 'suspended' where id = $1", [tenant]);
  expect((await list(admin.headers)).json()).toMatchObject({ status: 403, code: 'tenant_suspended' });
  expect((await list(operator.headers)).statusCode).toBe(200);
  expect((await at(admin.headers, 'GET', '/api/me')).json()).toMatchObject({ memberships: [{ status: 'suspended' }] });
  await database.query("update tenants set status = 'cancelled' where id = $1", [tenant]);
  expect((await list(admin.headers)).json()).toMatchObject({ status: 403, code: 'tenant_cancelled' });
});

test('a super-admin who belongs nowhere invites into a tenant that registered itself', async () => {
  const tenant = await fixture.tenant('By itself');
  const operator = await fixture.person({ superAdmin: true });
  const url = `/api/tenants/invitations?tenantId=${tenant}`;
  expect((await at(operator.headers, 'POST', url, { email: 'first@people.example', role: 'admin' })).statusCode).toBe(201);
  expect((await at(operator.headers, 'POST', `/api/tenants/invitations?tenantId=${randomUUID()}`, { email: 'x@people.example' })).statusCode).toBe(404);
});
