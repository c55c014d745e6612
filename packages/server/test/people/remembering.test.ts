import { getMigrations } from 'better-auth/db/migration';
import pg from 'pg';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createAuth } from '../../src/people/better-auth.ts';
import { principalCache } from '../../src/people/principal-cache.ts';
import { people, serverFixture } from '../server.ts';

const fixture = await serverFixture();
const { server, database } = fixture;
const status = async (headers: Record<string, string>): Promise<number> => (await server.inject({ url: '/api/me', headers })).statusCode;
const lookups = async (): Promise<number> => {
  const { rows } = await database.query<{ calls: number }>(
    `select coalesce(sum(calls), 0)::integer as calls from pg_stat_statements s join pg_database d on d.oid = s.dbid
     where d.datname = current_database() and query like '%s."activeOrganizationId" as active%' and query not like '%pg_stat_statements%'`,
  );
  return rows[0]?.calls ?? 0;
};

test("the migration has all that Better Auth's tables need", async () => {
  const url = new URL(fixture.urls.service);
  const pool = new pg.Pool({ connectionString: url.toString(), options: '-c search_path=partywall_people' });
  onTestFinished(() => pool.end());
  const { toBeCreated, toBeAdded } = await getMigrations(createAuth(pool, people, false).options);
  expect({ toBeCreated, toBeAdded }).toEqual({ toBeCreated: [], toBeAdded: [] });
});

test('a known session costs no look at the database, until anybody changes it by whatever way', async () => {
  await database.query('create extension if not exists pg_stat_statements');
  const { id, headers } = await fixture.person({});
  // The listener trusts itself once it has heard its own announcement.
  await vi.waitFor(async () => {
    await status(headers);
    const before = await lookups();
    expect(await status(headers)).toBe(200);
    expect(await lookups()).toBe(before);
  });
  await database.query('delete from partywall_people."session" where "userId" = $1', [id]);
  await vi.waitFor(async () => expect(await status(headers)).toBe(401));
});

test('while the database cannot be heard, every request looks', async () => {
  const { id, headers } = await fixture.person({});
  expect(await status(headers)).toBe(200);
  const role = fixture.model.roles.service;
  await database.query(`alter role ${role} connection limit 0`);
  onTestFinished(async () => void (await database.query(`alter role ${role} connection limit -1`)));
  await database.query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'partywall listen'`);
  await vi.waitFor(async () => {
    const { rowCount } = await database.query(`select from pg_stat_activity where datname = current_database() and application_name = 'partywall listen'`);
    expect(rowCount).toBe(0);
  });
  await status(headers);
  await database.query('alter table partywall_people."session" disable trigger changed');
  onTestFinished(async () => void (await database.query('alter table partywall_people."session" enable trigger changed')));
  await database.query('delete from partywall_people."session" where "userId" = $1', [id]);
  expect(await status(headers)).toBe(401);
});

test('what is announced names nobody and no token', async () => {
  const { id } = await fixture.person({});
  const listener = new pg.Client(database.url);
  await listener.connect();
  onTestFinished(() => listener.end());
  const heard: string[] = [];
  listener.on('notification', ({ payload }) => void heard.push(payload ?? ''));
  await listener.query('listen partywall_people');
  await database.query('delete from partywall_people."user" where "id" = $1', [id]);
  await vi.waitFor(() => expect(heard.some((payload) => /^[0-9a-f]{64}$/.test(payload))).toBe(true));
  expect(heard.join()).not.toContain(id);
});

const known = (subject: string, expiresAt = Number.POSITIVE_INFINITY) => ({
  principal: {
    kind: 'user' as const,
    id: subject,
    name: subject,
    superAdmin: false,
    memberships: new Map(),
    activeTenant: undefined,
    scopes: undefined,
    byCookie: false,
  },
  subject,
  expiresAt,
});

test('the memory answers only while it is trusted, and not past the expiry of a session', () => {
  let time = 0;
  const cache = principalCache(
    () => time,
    () => time,
  );
  cache.set('a', known('ann'), cache.mark());
  cache.trustUntil(100);
  expect(cache.get('a')).toBeUndefined();
  cache.set('a', known('ann'), cache.mark());
  cache.set('b', known('bob', 50), cache.mark());
  time = 49;
  expect([cache.get('a')?.id, cache.get('b')?.id]).toEqual(['ann', 'bob']);
  time = 50;
  expect([cache.get('a')?.id, cache.get('b')?.id]).toEqual(['ann', undefined]);
  time = 100;
  expect(cache.get('a')).toBeUndefined();
});

test('a lookup that began before something was forgotten is not remembered', () => {
  const cache = principalCache(
    () => 0,
    () => 0,
  );
  cache.trustUntil(1);
  const mark = cache.mark();
  cache.forget('ann');
  cache.set('a', known('ann'), mark);
  expect(cache.get('a')).toBeUndefined();
});

test('the memory is bounded: the oldest goes first', () => {
  const cache = principalCache(
    () => 0,
    () => 0,
  );
  cache.trustUntil(1);
  for (let n = 0; n <= 10_000; n += 1) cache.set(`hash ${n}`, known(`person ${n}`), cache.mark());
  expect(cache.get('hash 0')).toBeUndefined();
  expect(cache.get('hash 1')?.id).toBe('person 1');
});
