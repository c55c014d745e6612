import { randomInt } from 'node:crypto';
import { engineErrors } from '@partywall/engine';
import { wallErrors } from '@partywall/wall';
import fc from 'fast-check';
import type { InjectOptions } from 'fastify';
import { describe, expect, test } from 'vitest';
import { serverErrors, structuredLogs } from '../src/index.ts';
import { createApiKey } from '../src/people/api-keys.ts';
import { anything, type Known, nastyStrings, valuesOf } from './fuzz-values.ts';
import { type NamedOperation, type OpenApiDocument, operationsOf } from './openapi.ts';
import { plantMarker } from './plant-marker.ts';
import { people, serverFixture } from './server.ts';

/**
 * Requests made from the OpenAPI document, valid in shape and broken in every way, as everybody who may knock: no answer is a 5xx, every
 * refusal is a documented problem, and nothing of another tenant is ever in an answer. `PARTYWALL_FUZZ_SEED` repeats a run, `PARTYWALL_FUZZ_FACTOR` makes it longer.
 */
const seed = Number(process.env['PARTYWALL_FUZZ_SEED'] ?? randomInt(2 ** 31));
console.info(`fuzz seed: PARTYWALL_FUZZ_SEED=${seed}`);
const factor = Number(process.env['PARTYWALL_FUZZ_FACTOR'] ?? 1);
/** Requests to each operation by each person. */
const runsPerPerson = 30 * factor;
const runsBySuperAdmin = 100 * factor;
const operationTimeoutMs = 60_000 * factor;

const marker = 'neighbourly7secret';
/** Why the server failed, for whoever reads a failing run. */
let failures: string[] = [];
const fixture = await serverFixture(undefined, {
  people: { ...people, mail: async () => undefined },
  fastify: structuredLogs('error', { write: (line) => failures.push(line) }),
});
const { server } = fixture;
const document: OpenApiDocument = (await server.inject('/api/openapi.json')).json();
/** What ends, hides or erases things goes last, so that the others find something. */
const operations = operationsOf(document).toSorted((a, b) => ends(a) - ends(b));

// On a plan that neither counts nor paces, so that requests reach the handlers.
const own = await fixture.tenant('Alder', 'enterprise');
const other = await fixture.tenant(`Birch ${marker}`, 'enterprise');
const third = await fixture.tenant('Cedar', 'enterprise');
const planted = await plantMarker(fixture, other, marker);

const member = await fixture.person({ memberships: { [own]: 'member' } });
const admin = await fixture.person({ memberships: { [own]: 'admin', [third]: 'member' } });
const expired = await fixture.person({ superAdmin: true, memberships: { [other]: 'admin' } });
await fixture.database.query(`update partywall_people."session" set "expiresAt" = now() - interval '1 second' where "userId" = $1`, [expired.id]);
const superAdmin = await fixture.person({ superAdmin: true });
const scopes = operations.flatMap(({ operation }) => operation['x-partywall-scope'] ?? []);
const { key } = await createApiKey(fixture.operation(), { tenant: own, name: 'key', scopes: [...new Set(scopes)], expiresAt: undefined });

const strangers: readonly { readonly name: string; readonly headers: Readonly<Record<string, string>> }[] = [
  { name: 'nobody', headers: {} },
  { name: 'a forged token', headers: { authorization: `Bearer ${'A'.repeat(32)}.${'B'.repeat(43)}=` } },
  { name: 'an expired super-admin', headers: expired.headers },
  { name: 'a member', headers: member.headers },
  { name: 'an admin', headers: { ...admin.headers, 'x-tenant-id': own } },
  { name: 'an API key', headers: { 'x-api-key': key } },
];

/** Paths that did for a super-admin what they are for. */
const served = new Set<string>();

/** Ids that exist: of the person's own tenant, and of what they must never see. */
const ids = [own, other, third, ...planted.ids, '00000000-0000-4000-8000-000000000000'];
const known: Known = {
  ids,
  byName: {
    contactEmail: ['contact@example.com'],
    adminEmail: ['admin@example.com'],
    adminPassword: ['long enough to be one'],
    plan: ['free', 'pro', 'enterprise'],
    quota: ['customers', 'storage', 'api_calls'],
    until: [new Date(Date.now() + 86_400_000).toISOString()],
    name: ['error_rate', 'pro', 'hook'],
    user: [member.id, admin.id],
    scopes: ['customers:read'],
    email: ['somebody@example.com'],
  },
};

describe('whoever asks', () => {
  test.each(operations.map((named) => [named.operation.operationId ?? named.path, named] as const))(
    '%s fails for nobody and leaks nothing',
    async (_name, named) => {
      for (const stranger of strangers) {
        await assertAll(requestOf(named, stranger.headers), runsPerPerson, async (request) => {
          const answer = await server.inject(request);
          judge(answer);
          expect(`${JSON.stringify(answer.headers)}${answer.body}`, stranger.name).not.toContain(marker);
        });
      }
    },
    operationTimeoutMs,
  );
});

test('the marker was there to be found', async () => {
  const answer = await server.inject({ url: `/api/tenants/export?tenantId=${other}`, headers: superAdmin.headers });
  expect(answer.body.split(marker).length).toBeGreaterThan(planted.columns / 2);
});

// Last, because a super-admin's random requests suspend, change and erase.
describe('as super-admin', () => {
  test.each(operations.map((named) => [named.operation.operationId ?? named.path, named] as const))(
    '%s never fails',
    async (_name, named) => {
      await assertAll(requestOf(named, superAdmin.headers), runsBySuperAdmin, async (request) => {
        const answer = await server.inject(request);
        judge(answer);
        if (answer.statusCode < 300) served.add(named.path);
      });
    },
    operationTimeoutMs,
  );
});

test('of every three paths at least two were got to do what they are for', () => {
  const paths = new Set(operations.map(({ path }) => path));
  expect(served.size).toBeGreaterThan((paths.size * 2) / 3);
});

/** Each call draws other requests. */
let turn = 0;
/** 0: leaves things as they are, or adds to them. 1: takes something away. 2: takes away what the person asks with. */
function ends({ method, operation }: NamedOperation): 0 | 1 | 2 {
  const name = operation.operationId ?? '';
  if (/signOut|revoke.*Session|changePassword|deletePerson/i.test(name)) return 2;
  return method === 'delete' || /delete|cancel|suspend|revoke|erase|remove|leave|setMemberRole/i.test(name) ? 1 : 0;
}

async function assertAll(requests: fc.Arbitrary<InjectOptions>, numRuns: number, check: (request: InjectOptions) => Promise<void>): Promise<void> {
  turn += 1;
  await fc.assert(fc.asyncProperty(requests, check), { seed: seed + turn, numRuns, endOnFailure: true });
}

const codes = new Set([...Object.keys(serverErrors), ...Object.keys(engineErrors), ...Object.keys(wallErrors)]);

function judge({ statusCode, headers, body }: Awaited<ReturnType<typeof server.inject>>): void {
  expect(statusCode, `${body}\n${failures.join('')}`).toBeLessThan(500);
  failures = [];
  if (statusCode < 400) return;
  expect(headers['content-type']).toBe('application/problem+json');
  const answer: { code?: string; status?: number; requestId?: string } = JSON.parse(body);
  expect(codes).toContain(answer.code);
  expect(answer).toMatchObject({ status: statusCode, requestId: headers['x-request-id'] });
  expect(body).not.toMatch(/\bat \S+ \(|node_modules|syntax error at|partywall_people|\.ts:\d+/);
}

/** Requests to one operation: most of the right shape, so that they reach what lies behind validation. */
function requestOf({ method, path, operation }: NamedOperation, headers: Readonly<Record<string, string>>): fc.Arbitrary<InjectOptions> {
  const parameters = (place: string) =>
    fc.record(
      Object.fromEntries(
        (operation.parameters ?? [])
          .filter((parameter) => parameter.in === place)
          .map((parameter) => [parameter.name, mostly(valuesOf(document, parameter.schema, known, parameter.name), fc.constantFrom(...nastyStrings))]),
      ),
      place === 'path' ? {} : { requiredKeys: [] },
    );
  return fc
    .record({
      path: parameters('path'),
      query: mostly(parameters('query'), fc.dictionary(fc.constantFrom('limit', 'cursor', 'tenantId', '__proto__', 'x'), fc.constantFrom(...nastyStrings))),
      given: mostly(
        fc.constant({}),
        fc.dictionary(
          fc.constantFrom('x-tenant-id', 'x-request-id', 'idempotency-key', 'origin'),
          fc.constantFrom(...[...ids, ...nastyStrings].map(headerValue)),
        ),
      ),
      body: bodyOf(operation),
    })
    .map(({ path: values, query, given, body }) => {
      const url = path.replaceAll(/\{(\w+)\}/g, (_match, name: string) => encoded(Reflect.get(values, name)) || 'x');
      const search = Object.entries(query).map(([name, value]) => `${encoded(name)}=${encoded(value)}`);
      return {
        method: method.toUpperCase() as 'GET', // of the document
        url: search.length > 0 ? `${url}?${search.join('&')}` : url,
        headers: { ...headers, ...given, ...(body && { 'content-type': body.type }) },
        ...(body && { payload: body.text }),
      };
    });
}

function bodyOf(operation: NamedOperation['operation']): fc.Arbitrary<{ readonly type: string; readonly text: string } | undefined> {
  const [[type, { schema = {} }] = ['application/json', {}]] = Object.entries(operation.requestBody?.content ?? {});
  const json = (value: unknown): { type: string; text: string } => ({ type, text: JSON.stringify(value) ?? '' });
  const shaped = valuesOf(document, schema, known);
  if (!operation.requestBody) return mostly(fc.constant(undefined), anything.map(json));
  return fc.oneof(
    { weight: 6, arbitrary: shaped.map(json) },
    // One field of another type, one too many, one that reaches for the prototype.
    { weight: 2, arbitrary: fc.tuple(shaped, fc.nat(20), anything).map(([value, place, other]) => json(replaced(value, place, other))) },
    { weight: 1, arbitrary: fc.tuple(shaped, anything).map(([value, other]) => json(isRecord(value) ? { ...value, surplus: other } : other)) },
    { weight: 1, arbitrary: shaped.map((value) => ({ type, text: JSON.stringify(value)?.replace('{', '{"__proto__": {"superAdmin": true}, ') ?? '' })) },
    { weight: 1, arbitrary: anything.map(json) },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom('', '{', '[', 'nul', '{"a":}', '"\\ud800"', '{"a": 1e999}', `[${'['.repeat(5_000)}`, `"${'x'.repeat(1_100_000)}"`)
        .map((broken) => ({ type, text: broken })),
    },
    { weight: 1, arbitrary: shaped.map((value) => ({ ...json(value), type: 'text/plain' })) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  );
}

function mostly<T>(usual: fc.Arbitrary<T>, rare: fc.Arbitrary<T>): fc.Arbitrary<T>;
function mostly(usual: fc.Arbitrary<unknown>, rare: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 4, arbitrary: usual }, { weight: 1, arbitrary: rare });
}

function replaced(value: unknown, place: number, other: unknown): unknown {
  if (!isRecord(value)) return other;
  const names = Object.keys(value);
  const name = names[place % Math.max(names.length, 1)];
  return name === undefined ? { x: other } : { ...value, [name]: other };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Halves of surrogate pairs cannot be encoded as a client would; their bytes are sent as such. */
function encoded(value: unknown): string {
  const string = String(value);
  return string.isWellFormed() ? encodeURIComponent(string) : `%ED%A0%80${encodeURIComponent(string.toWellFormed())}`;
}

/** What a header may hold at all; Node refuses the rest before it is sent. */
function headerValue(value: string): string {
  return value.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '?').slice(0, 4_000);
}
