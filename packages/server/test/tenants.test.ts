import { randomUUID } from 'node:crypto';
import { verifyPassword } from 'better-auth/crypto';
import { describe, expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture();
const { server, database } = fixture;
const root = await fixture.person({ superAdmin: true });

/** The body of the operations manual. */
const documented = {
  name: 'New Company',
  contactEmail: 'contact@newcompany.com',
  adminName: 'Admin User',
  adminEmail: 'admin@newcompany.com',
  adminPassword: 'secure_password',
  plan: 'pro',
};

async function post(url: string, body?: object, headers: Record<string, string> = root.headers) {
  return server.inject({ method: 'POST', url, headers, ...(body && { payload: body }) });
}

async function get(url: string) {
  return server.inject({ url, headers: root.headers });
}

describe('provisioning over HTTP', () => {
  test('takes the documented body, and the admin can sign in with that password', async () => {
    const answer = await post('/api/admin/tenants/provision', documented);
    expect(answer.statusCode).toBe(201);
    const { tenant } = answer.json();
    expect(tenant).toMatchObject({ name: 'New Company', plan: 'pro', status: 'active', contactEmail: 'contact@newcompany.com', legalHold: null });
    const { rows } = await database.query<{ password: string }>(
      `select a."password" from partywall_people."account" a join partywall_people."user" u on u."id" = a."userId" where u."email" = 'admin@newcompany.com'`,
    );
    // What sign-in asks.
    expect(await verifyPassword({ hash: rows[0]?.password ?? '', password: 'secure_password' })).toBe(true);
    expect(await verifyPassword({ hash: rows[0]?.password ?? '', password: 'secure_passwort' })).toBe(false);
    expect(answer.body).not.toContain('secure_password');
  });

  test('again answers 200 with the same tenant, and with another content 409', async () => {
    const first = (await post('/api/admin/tenants/provision', { ...documented, name: 'Twice', adminEmail: 'twice@example.org' })).json();
    const again = await post('/api/admin/tenants/provision', {
      ...documented,
      name: 'twice',
      adminEmail: 'twice@example.org',
      adminPassword: 'another_password',
    });
    expect([again.statusCode, again.json()]).toEqual([200, { tenant: first.tenant, created: false }]);
    const other = await post('/api/admin/tenants/provision', { ...documented, name: 'Twice', adminEmail: 'other@example.org' });
    expect([other.statusCode, other.json().code]).toEqual([409, 'tenant_exists']);
  });

  test('of one name a thousand times at once makes one tenant and answers nobody with 5xx', async () => {
    const body = { ...documented, name: 'Stampede', adminEmail: 'stampede@example.org' };
    const answers = await Promise.all(Array.from({ length: 1000 }, () => post('/api/admin/tenants/provision', body)));
    const statuses = answers.map(({ statusCode }) => statusCode);
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    expect(statuses.filter((status) => status === 200)).toHaveLength(999);
    expect(new Set(answers.map((answer) => answer.json().tenant.id)).size).toBe(1);
  });

  test.each([
    ['a short password', { adminPassword: 'short' }, 400],
    ['an unknown plan', { plan: 'gold' }, 400],
    ['an unknown field', { superAdmin: true }, 400],
    ['a name of nothing', { name: '   ' }, 400],
    ['a NUL in the name', { name: 'a\0b' }, 400],
    ['half a character', { name: '\ud800' }, 400],
    ['no address', { adminEmail: 'not an address' }, 400],
  ])('refuses %s', async (_what, change, status) => {
    const before = (await database.query('select count(*) from tenants')).rows;
    const answer = await post('/api/admin/tenants/provision', { ...documented, name: randomUUID(), ...change });
    expect(answer.statusCode).toBe(status);
    expect((await database.query('select count(*) from tenants')).rows).toEqual(before);
  });
});

describe('a transition over HTTP', () => {
  test('takes no body at all, as the manual calls it, and shows the status afterwards', async () => {
    const id = await fixture.tenant('Plain');
    for (const [action, status] of [
      ['suspend', 'suspended'],
      ['reactivate', 'active'],
      ['cancel', 'cancelled'],
      ['reactivate', 'active'],
      ['delete', 'deleted'],
      ['restore', 'active'],
    ] as const) {
      const answer = await post(`/api/admin/tenants/${id}/${action}`);
      expect([action, answer.statusCode, answer.json().tenant.status]).toEqual([action, 200, status]);
      expect((await get(`/api/admin/tenants/${id}`)).json().status).toBe(status);
    }
  });

  test('takes a reason and records it with who asked', async () => {
    const id = await fixture.tenant('Reasoned');
    expect((await post(`/api/admin/tenants/${id}/suspend`, { reason: 'unpaid' })).json().tenant.reason).toBe('unpaid');
    const { rows } = await database.query('select actor_kind, actor_id, action, reason from partywall_control.audit_records where tenant_id = $1', [id]);
    expect(rows).toEqual([{ actor_kind: 'user', actor_id: root.id, action: 'tenant.suspend', reason: 'unpaid' }]);
  });

  test('that is not possible is 409 with the state and what is possible; of no tenant 404', async () => {
    const id = await fixture.tenant('Not possible');
    await post(`/api/admin/tenants/${id}/delete`);
    const answer = await post(`/api/admin/tenants/${id}/suspend`);
    expect(answer.statusCode).toBe(409);
    expect(answer.json()).toMatchObject({ code: 'transition_refused', tenantStatus: 'deleted', asked: 'suspend', possible: ['restore'] });
    for (const unknown of [randomUUID(), 'nobody', '%27%3B--']) expect((await post(`/api/admin/tenants/${unknown}/suspend`)).statusCode).toBe(404);
  });

  test('is for super-admins: the tenant’s own admin is told 403', async () => {
    const id = await fixture.tenant('Own');
    const admin = await fixture.person({ memberships: { [id]: 'admin' } });
    for (const action of ['suspend', 'reactivate', 'cancel', 'delete', 'restore']) {
      expect((await post(`/api/admin/tenants/${id}/${action}`, undefined, admin.headers)).statusCode).toBe(403);
    }
    expect((await get(`/api/admin/tenants/${id}`)).json().status).toBe('active');
  });
});

describe('a legal hold over HTTP', () => {
  test('refuses every deletion until it is lifted', async () => {
    const id = await fixture.tenant('Held');
    const held = await server.inject({ method: 'PUT', url: `/api/admin/tenants/${id}/legal-hold`, headers: root.headers, payload: { reason: 'case 1' } });
    expect(held.json().tenant.legalHold).toMatchObject({ reason: 'case 1' });
    for (const body of [undefined, { hardDelete: true, force: true }]) {
      const answer = await post(`/api/admin/tenants/${id}/delete`, body);
      expect([answer.statusCode, answer.json().held]).toEqual([409, true]);
    }
    await server.inject({ method: 'DELETE', url: `/api/admin/tenants/${id}/legal-hold`, headers: root.headers, payload: { reason: 'over' } });
    expect((await post(`/api/admin/tenants/${id}/delete`)).statusCode).toBe(200);
  });
});

describe('deleting for good over HTTP', () => {
  test('takes the documented body, and answers with a certificate that holds', async () => {
    const id = await fixture.tenant('Erased');
    await database.query("insert into customers (tenant_id, name) select $1, 'c' || n from generate_series(1, 10) n", [id]);
    const answer = await post(`/api/admin/tenants/${id}/delete`, { hardDelete: true, force: true });
    expect(answer.statusCode).toBe(200);
    expect(answer.json()).toMatchObject({ operation: { state: 'done', tenantId: id, done: 10 }, certificate: { tenantId: id, rows: 11 } });
    expect((await get(`/api/admin/tenants/${id}`)).statusCode).toBe(404);
    const shown = (await get(`/api/admin/certificates/${id}`)).json();
    expect(shown).toMatchObject({ valid: true, problem: null, certificate: answer.json().certificate, publicKey: expect.stringContaining('BEGIN PUBLIC KEY') });
    expect((await get('/api/admin/certificates?limit=1')).json().items).toEqual([shown.certificate]);
    expect((await get(`/api/admin/operations/${answer.json().operation.id}`)).json()).toEqual(answer.json().operation);
    expect((await get(`/api/admin/operations?tenant=${id}`)).json().items).toHaveLength(1);
  });

  test('answers 409 with the operation where it stops, and goes on when asked again', async () => {
    const [id, neighbour] = [await fixture.tenant('Stops'), await fixture.tenant('Beside')];
    await database.query('alter table files add column about uuid references customers (id) on delete cascade');
    await database.query("insert into customers (tenant_id, name) values ($1, 'c')", [id]);
    await database.query("insert into files (tenant_id, name, size_bytes, about) select $1, 'f', 1, id from customers where tenant_id = $2", [neighbour, id]);
    const stopped = await post(`/api/admin/tenants/${id}/delete`, { hardDelete: true, force: true });
    expect(stopped.statusCode).toBe(409);
    expect(stopped.json()).toMatchObject({ code: 'erasure_refused', detail: expect.stringContaining('public.files'), operationId: expect.any(String) });
    expect((await get(`/api/admin/operations/${stopped.json().operationId}`)).json()).toMatchObject({ state: 'failed' });
    await database.query('alter table files drop column about');
    expect((await post(`/api/admin/tenants/${id}/delete`, { hardDelete: true, force: true })).statusCode).toBe(200);
  });

  test('without force is refused before the retention has ended', async () => {
    const id = await fixture.tenant('Retained');
    await post(`/api/admin/tenants/${id}/delete`, { hardDelete: false });
    const answer = await post(`/api/admin/tenants/${id}/delete`, { hardDelete: true });
    expect([answer.statusCode, answer.json().code]).toEqual([409, 'transition_refused']);
  });

  test('an operation or certificate that does not exist is 404, whatever the id looks like', async () => {
    for (const id of [randomUUID(), 'x', '%00']) {
      expect([400, 404]).toContain((await get(`/api/admin/operations/${id}`)).statusCode);
      expect([400, 404]).toContain((await get(`/api/admin/certificates/${id}`)).statusCode);
    }
  });
});

describe('the list over HTTP', () => {
  test.each(['created', 'name'])('pages by %s through every tenant once', async (sort) => {
    const { rows } = await database.query<{ count: string }>('select count(*) from partywall_control.directory');
    const ids: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const page: { items: { id: string }[]; nextCursor: string | null } = (
        await get(`/api/admin/tenants?sort=${sort}&limit=4${cursor === '' ? '' : `&cursor=${cursor}`}`)
      ).json();
      ids.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor;
    }
    expect(ids).toHaveLength(Number(rows[0]?.count));
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('refuses a cursor that it did not give', async () => {
    const made = (key: unknown): string => Buffer.from(JSON.stringify(key)).toString('base64url');
    for (const cursor of ['x', made({ at: 'now', id: 'x' }), made({ at: 1 }), made({ at: 1e300, id: 'x' }), made([])]) {
      expect((await get(`/api/admin/tenants?cursor=${cursor}`)).statusCode, cursor).toBe(400);
    }
    for (const at of [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0]) {
      expect((await get(`/api/admin/tenants?cursor=${made({ at, id: 'x' })}`)).statusCode).toBe(200);
    }
  });
});
