import { expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const token = 'a token for the collector';
const open = await serverFixture();
const crowded = await serverFixture();
const guarded = await serverFixture(undefined, { metricsToken: token });

test('a process of this machine may scrape, in the format of Prometheus', async () => {
  await open.tenant('Alder');
  const answer = await open.server.inject('/metrics');
  expect(answer.statusCode).toBe(200);
  expect(answer.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  for (const line of [
    /^partywall_database_up 1$/m,
    /^partywall_tenants\{status="active"\} 1$/m,
    /^process_resident_memory_bytes \d/m,
    /^partywall_request_duration_seconds_bucket\{le="0\.005"\} /m,
  ]) {
    expect(answer.body).toMatch(line);
  }
});

test.each([
  ['from another machine', { remoteAddress: '10.0.0.7' }],
  ['through a proxy of this machine', { headers: { 'x-forwarded-for': '10.0.0.7' } }],
  ['through a proxy that says so otherwise', { headers: { forwarded: 'for=10.0.0.7' } }],
])('without a token nobody scrapes %s', async (_, request) => {
  expect((await open.server.inject({ url: '/metrics', ...request })).statusCode).toBe(401);
});

test('with a token whoever has it scrapes, from anywhere, and nobody else from this machine', async () => {
  const ask = (authorization?: string) =>
    guarded.server.inject({ url: '/metrics', remoteAddress: '10.0.0.7', headers: authorization ? { authorization } : {} });
  expect((await ask(`Bearer ${token}`)).statusCode).toBe(200);
  for (const wrong of [undefined, 'Bearer', 'Bearer ', `Bearer ${token}x`, `Basic ${token}`, token]) expect((await ask(wrong)).statusCode, wrong).toBe(401);
  expect((await guarded.server.inject('/metrics')).statusCode).toBe(401);
});

test('tenants beyond the labelled ones are one line', async () => {
  const { database } = crowded;
  await database.query(`insert into tenants (name, slug) select 'Tenant ' || n, 'tenant-' || n from generate_series(1, 50) n`);
  await database.query(
    `insert into partywall_control.request_hours select id::text, date_trunc('hour', now()), 10, 1, 100, '{10,0,0,0,0,0,0,0,0,0,0}' from tenants`,
  );
  const { body } = await crowded.server.inject('/metrics');
  const lines = body.split('\n').filter((line) => line.startsWith('partywall_tenant_usage_24h{measure="calls"'));
  expect(lines).toHaveLength(21);
  expect(lines).toContain('partywall_tenant_usage_24h{measure="calls",tenant="(other)"} 300');
});
