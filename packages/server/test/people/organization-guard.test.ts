import { createWalledPool, current } from '@partywall/wall';
import { betterAuthSession } from '@partywall/wall/better-auth';
import { fastifyTenants } from '@partywall/wall/fastify';
import { betterAuth } from 'better-auth';
import { getMigrations } from 'better-auth/db/migration';
import { bearer, organization } from 'better-auth/plugins';
import Fastify from 'fastify';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

/** An application with Better Auth of its own, whose organizations are its tenants. */
const fixture = await controlDatabase();
await fixture.database.query('create schema auth');
const people = new pg.Pool({ connectionString: fixture.database.url, options: '-c search_path=auth' });
people.on('error', () => undefined); // the database is dropped with force
const auth = betterAuth({
  secret: 'a secret of the tests, thirty-two bytes and more',
  baseURL: 'http://localhost:3000',
  database: people,
  emailAndPassword: { enabled: true },
  telemetry: { enabled: false },
  logger: { disabled: true },
  rateLimit: { enabled: false },
  advanced: { database: { generateId: 'uuid' } },
  plugins: [organization(), bearer()],
});
await (await getMigrations(auth.options)).runMigrations();

const pool = createWalledPool({ connectionString: fixture.urls.app });
pool.on('error', () => undefined); // see above
const app = Fastify();
await app.register(fastifyTenants({ verify: betterAuthSession(auth), pages: { signIn: '/sign-in', select: '/org/select' } }));
app.get('/sign-in', async () => 'sign in');
app.get('/org/select', async () => 'select');
app.get('/customers', async () => ({
  context: current(),
  names: (await pool.query<{ name: string }>('select name from customers')).rows.map(({ name }) => name),
}));
afterAll(() => Promise.all([app.close(), pool.end(), people.end()]));

interface Person {
  readonly id: string;
  readonly headers: { readonly cookie: string };
}

async function person(name: string): Promise<Person> {
  const { headers, response } = await auth.api.signUpEmail({
    body: { name, email: `${name}@people.example`, password: 'correct horse battery' },
    returnHeaders: true,
  });
  const cookie = headers
    .getSetCookie()
    .map((line) => line.split(';', 1)[0])
    .join('; ');
  return { id: response.user.id, headers: { cookie } };
}

/** An organization with its tenant, and one customer called like it. */
async function tenantOf(owner: Person, slug: string): Promise<string> {
  const { id } = await auth.api.createOrganization({ body: { name: slug, slug, userId: owner.id } });
  await fixture.database.query('insert into tenants (id, name, slug) values ($1, $2, $2)', [id, slug]);
  await fixture.database.query('insert into customers (tenant_id, name) values ($1, $2)', [id, slug]);
  return id;
}

const select = (who: Person, organizationId: string | null) => auth.api.setActiveOrganization({ body: { organizationId }, headers: new Headers(who.headers) });
const ask = async (headers: Record<string, string>, url = '/customers') => {
  const answer = await app.inject({ url, headers });
  return { status: answer.statusCode, location: answer.headers.location, text: answer.body, json: () => answer.json() };
};

let anna: Person;
let bo: Person;
let acme = '';
let globex = '';
let initech = '';
beforeAll(async () => {
  [anna, bo] = [await person('anna'), await person('bo')];
  [acme, globex, initech] = [await tenantOf(anna, 'acme'), await tenantOf(anna, 'globex'), await tenantOf(bo, 'initech')];
});

describe('a guarded route', () => {
  test('without a session is for nobody: 401, and a browser goes to the sign-in', async () => {
    expect(await ask({})).toMatchObject({ status: 401 });
    expect(await ask({ cookie: 'better-auth.session_token=made.up' })).toMatchObject({ status: 401 });
    expect(await ask({ authorization: 'Bearer made.up' })).toMatchObject({ status: 401 });
    expect(await ask({ accept: 'text/html' })).toMatchObject({ status: 303, location: '/sign-in' });
    expect(await ask({}, '/sign-in')).toMatchObject({ status: 200, text: 'sign in' });
  });

  test('without a selected organization is answered 409 with the page to select on, and a browser goes there', async () => {
    await select(anna, null);
    const refused = await ask(anna.headers);
    expect(refused.json()).toMatchObject({ status: 409, code: 'tenant_unselected', select: '/org/select' });
    expect(await ask({ ...anna.headers, accept: 'text/html' })).toMatchObject({ status: 303, location: '/org/select' });
    expect(await ask(anna.headers, '/org/select')).toMatchObject({ status: 200, text: 'select' });
  });

  test('serves the tenant of the active organization, whichever that is now', async () => {
    await select(anna, acme);
    expect((await ask(anna.headers)).json()).toEqual({ context: { tenant: acme, user: anna.id, requestId: expect.any(String) }, names: ['acme'] });
    await select(anna, globex);
    expect((await ask(anna.headers)).json()).toMatchObject({ context: { tenant: globex }, names: ['globex'] });
  });

  test('takes a session as bearer token too', async () => {
    await select(anna, acme);
    const token = /session_token=([^;]+)/.exec(anna.headers.cookie)?.[1] ?? '';
    expect((await ask({ authorization: `Bearer ${decodeURIComponent(token)}` })).json()).toMatchObject({ names: ['acme'] });
  });
});

describe('a request that names its organization', () => {
  test('has its own, whatever is active in another tab', async () => {
    await select(anna, acme);
    const [one, other] = await Promise.all([ask(anna.headers), ask({ ...anna.headers, 'x-tenant-id': globex })]);
    expect([one.json().names, other.json().names]).toEqual([['acme'], ['globex']]);
    await select(anna, null);
    expect((await ask({ ...anna.headers, 'x-tenant-id': acme })).json()).toMatchObject({ names: ['acme'] });
  });

  test('gets no organization of others', async () => {
    for (const named of [initech, 'nobody', `${acme},${initech}`]) {
      expect((await ask({ ...anna.headers, 'x-tenant-id': named })).json(), named).toMatchObject({ status: 403, code: 'tenant_foreign' });
    }
  });
});

test('whoever is removed from an organization is out with the next request, although the session still has it as active', async () => {
  await auth.api.addMember({ body: { organizationId: acme, userId: bo.id, role: 'member' } });
  await select(bo, acme);
  expect((await ask(bo.headers)).json()).toMatchObject({ names: ['acme'] });
  await fixture.database.query('delete from auth.member where "userId" = $1 and "organizationId" = $2', [bo.id, acme]);
  const session = await auth.api.getSession({ headers: new Headers(bo.headers) });
  expect(session?.session.activeOrganizationId).toBe(acme);
  expect((await ask(bo.headers)).json()).toMatchObject({ status: 409, code: 'tenant_unselected' });
  expect((await ask({ ...bo.headers, 'x-tenant-id': acme })).status).toBe(403);
});

test('a session is read and not prolonged, so that its cookie and its row end together', async () => {
  await select(anna, acme);
  await fixture.database.query(`update auth.session set "expiresAt" = now() + interval '1 hour', "updatedAt" = now() - interval '6 days' where "userId" = $1`, [
    anna.id,
  ]);
  const ends = async () => (await fixture.database.query(`select "expiresAt" from auth.session where "userId" = $1`, [anna.id])).rows;
  const before = await ends();
  expect((await ask(anna.headers)).status).toBe(200);
  expect(await ends()).toEqual(before);
  await fixture.database.query(`update auth.session set "expiresAt" = now() - interval '1 second' where "userId" = $1`, [anna.id]);
  expect((await ask(anna.headers)).status).toBe(401);
});
