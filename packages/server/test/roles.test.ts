import { expect, test } from 'vitest';
import { createApiKey } from '../src/people/api-keys.ts';
import { routeTable } from './route-table.ts';
import { serverFixture } from './server.ts';

const registered = new Set<string>();
const fixture = await serverFixture(undefined, {
  before: (app) => {
    app.addHook('onRoute', ({ method, url }) => {
      for (const one of [method].flat()) if (one !== 'HEAD') registered.add(`${one} ${url}`);
    });
    // Whoever comes this far has been admitted; nothing is to be done.
    app.addHook('preValidation', async (_request, reply) => reply.code(200).send(admitted));
  },
});
const { server, database } = fixture;
const admitted = 'admitted';
const own = await fixture.tenant('Alder');
const other = await fixture.tenant('Birch');

const member = await fixture.person({ memberships: { [own]: 'member' } });
const admin = await fixture.person({ memberships: { [own]: 'admin' } });
const neighbour = await fixture.person({ memberships: { [other]: 'admin' } });
const superAdmin = await fixture.person({ superAdmin: true });
const expired = await fixture.person({ superAdmin: true, memberships: { [own]: 'admin' } });
await database.query(`update partywall_people."session" set "expiresAt" = now() - interval '1 second' where "userId" = $1`, [expired.id]);
const scopes = [...new Set(routeTable.flatMap(({ scope }) => (scope === undefined ? [] : [scope])))];
const keyFor = async (names: readonly string[]) => ({
  'x-api-key': (await createApiKey(fixture.operation(), { tenant: own, name: 'key', scopes: names, expiresAt: undefined })).key,
});

/** Who asks. `rank` counts only inside the tenants of `tenants`. */
const people = [
  { name: 'nobody', headers: {}, known: false, superAdmin: false, rank: 0, tenants: [], scopes: undefined },
  { name: 'an expired super-admin', headers: expired.headers, known: false, superAdmin: false, rank: 0, tenants: [], scopes: undefined },
  { name: 'a member', headers: member.headers, known: true, superAdmin: false, rank: 1, tenants: [own], scopes: undefined },
  { name: 'an admin', headers: admin.headers, known: true, superAdmin: false, rank: 2, tenants: [own], scopes: undefined },
  { name: "the other tenant's admin", headers: neighbour.headers, known: true, superAdmin: false, rank: 2, tenants: [other], scopes: undefined },
  { name: 'a super-admin', headers: superAdmin.headers, known: true, superAdmin: true, rank: 2, tenants: [own, other], scopes: undefined },
  { name: 'an API key with every scope', headers: await keyFor(scopes), known: true, superAdmin: false, rank: 1, tenants: [own], scopes },
  {
    name: 'an API key with a scope of its own',
    headers: await keyFor(['teapots:read']),
    known: true,
    superAdmin: false,
    rank: 1,
    tenants: [own],
    scopes: ['teapots:read'],
  },
] as const satisfies readonly Person[];

interface Person {
  readonly name: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly known: boolean;
  readonly superAdmin: boolean;
  /** 1 member, 2 admin. */
  readonly rank: 0 | 1 | 2;
  readonly tenants: readonly string[];
  readonly scopes: readonly string[] | undefined;
}

test('the table names every route of the server, and no other', () => {
  const known = new Set(routeTable.map(({ method, url }) => `${method} ${url}`));
  const documentation = (route: string): boolean => /^GET \/api\/docs(\/|$)/.test(route);
  expect([...registered].filter((route) => !known.has(route) && !documentation(route))).toEqual([]);
  expect([...known].filter((route) => !registered.has(route))).toEqual([]);
});

test('every route admits exactly whom the table says, into their own tenant and into no other', async () => {
  const wrong: string[] = [];
  for (const route of routeTable) {
    for (const person of people) {
      for (const tenant of [own, other]) {
        const found = await verdict(route, person, tenant);
        const wanted = expected(route, person, tenant);
        if (found !== wanted) wrong.push(`${route.method} ${route.url}, ${person.name}, ${tenant === own ? 'own' : 'other'} tenant: ${found}, not ${wanted}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test('a tenant that does not exist is answered like one of somebody else', async () => {
  for (const route of routeTable.filter(({ tenant }) => tenant !== 'none')) {
    for (const person of [member, admin]) {
      const answer = await ask(route, person.headers, '00000000-0000-4000-8000-000000000000');
      const foreign = await ask(route, person.headers, other);
      const comparable = ({ requestId: _, ...body }: Record<string, unknown>): unknown => body;
      expect([route.url, answer.statusCode, comparable(answer.json())]).toEqual([route.url, foreign.statusCode, comparable(foreign.json())]);
    }
  }
});

test('an attempt on another tenant is in the audit log of that tenant', async () => {
  await expect
    .poll(
      async () => {
        const { rows } = await database.query<{ actors: number }>(
          `select count(distinct actor_id)::int as actors from partywall_control.audit_records where tenant_id = $1 and outcome = 'denied' and actor_id = any ($2)`,
          [other, [member.id, admin.id]],
        );
        return rows[0]?.actors;
      },
      { timeout: 20_000 },
    )
    .toBe(2);
});

type Route = (typeof routeTable)[number];

function ask(route: Route, headers: Readonly<Record<string, string>>, tenant: string) {
  const url = route.url
    .replace(':id', route.tenant === 'path' ? tenant : 'x')
    .replaceAll(/:\w+/g, 'x')
    .replace('*', 'x');
  const query = route.tenant === 'query' ? `?tenantId=${tenant}` : '';
  const own = route.tenant === 'own' ? { 'x-tenant-id': tenant } : {};
  return server.inject({ method: route.method, url: `${url}${query}`, headers: { ...headers, ...own } });
}

async function verdict(route: Route, person: Person, tenant: string): Promise<string> {
  const answer = await ask(route, person.headers, tenant);
  return answer.body === admitted ? admitted : `${answer.statusCode} ${answer.json().code}`;
}

/** What the table means; written apart from the server's own decision. */
function expected({ access, tenant: source, scope }: Route, person: Person, tenant: string): string {
  if (access === 'public') return admitted;
  if (!person.known) return '401 unauthorized';
  if (person.scopes && !(scope !== undefined && person.scopes.includes(scope))) return '403 forbidden';
  if (access === 'super_admin') return person.superAdmin ? admitted : '403 forbidden';
  if (source === 'none') return admitted;
  if (!person.tenants.includes(tenant)) return '404 not_found';
  return access === 'tenant_admin' && person.rank < 2 ? '403 forbidden' : admitted;
}
