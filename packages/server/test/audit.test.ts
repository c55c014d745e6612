import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { type AuditRecord, appendAudit, readVerifier, verifyAuditExport } from '@partywall/engine';
import { describe, expect, test } from 'vitest';
import { serverFixture } from './server.ts';

const fixture = await serverFixture();
const { server, database, control } = fixture;
const alder = await fixture.tenant('Alder');
const birch = await fixture.tenant('Birch');
const member = await fixture.person({ memberships: { [alder]: 'member' } });
const admin = await fixture.person({ memberships: { [alder]: 'admin', [birch]: 'member' } });
const operator = await fixture.person({ superAdmin: true });

for (const [tenant, actor] of [
  [alder, admin.id],
  [alder, member.id],
  [birch, 'somebody of birch'],
  [null, 'platform'],
] as const) {
  await appendAudit(control.pool, fixture.operation({ actor: { kind: 'user', id: actor } }), { tenant, action: 'test.done', details: { secretOf: tenant } });
}

async function list(headers: Record<string, string>, query = ''): Promise<{ status: number; items: AuditRecord[]; nextCursor: string | null }> {
  const answer = await server.inject({ url: `/api/audit-logs${query}`, headers });
  return { status: answer.statusCode, ...answer.json<{ items: AuditRecord[]; nextCursor: string | null }>() };
}
const done = ({ items }: { items: AuditRecord[] }) => items.filter(({ action }) => action === 'test.done').map(({ tenantId, actor }) => [tenantId, actor.id]);

describe('GET /api/audit-logs', () => {
  test('shows a super-admin one tenant, the platform, or all merged', async () => {
    expect(done(await list(operator.headers, `?tenantId=${birch}`))).toEqual([[birch, 'somebody of birch']]);
    expect(done(await list(operator.headers, '?platform=true'))).toEqual([[null, 'platform']]);
    expect(done(await list(operator.headers))).toHaveLength(4);
  });

  test('shows a tenant admin all of the own tenant, and a member what they did themselves', async () => {
    expect(done(await list(admin.headers, `?tenantId=${alder}`))).toEqual([
      [alder, member.id],
      [alder, admin.id],
    ]);
    expect(done(await list(member.headers, `?tenantId=${alder}`))).toEqual([[alder, member.id]]);
    expect(done(await list(member.headers, `?actor=${admin.id}`))).toEqual([[alder, member.id]]);
    // An admin of one tenant is no admin of another they are a member of.
    expect(done(await list(admin.headers, `?tenantId=${birch}`))).toEqual([]);
  });

  test('is 404 for another tenant, 403 for the platform, and says nothing of either', async () => {
    for (const [query, status] of [
      [`?tenantId=${birch}`, 404],
      ['?tenantId=made-up', 404],
      ['?platform=true', 403],
    ] as const) {
      const answer = await server.inject({ url: `/api/audit-logs${query}`, headers: member.headers });
      expect(answer.statusCode).toBe(status);
      expect(answer.body).not.toContain('secretOf');
    }
  });

  test('narrows and pages, and refuses a cursor or filter that is none', async () => {
    const first = await list(operator.headers, '?limit=1&action=test.&outcome=done');
    const second = await list(operator.headers, `?limit=1&action=test.&outcome=done&cursor=${first.nextCursor}`);
    expect([done(first), done(second)].flat()).toEqual([
      [null, 'platform'],
      [birch, 'somebody of birch'],
    ]);
    expect(done(await list(operator.headers, '?from=2999-01-01T00:00:00Z'))).toEqual([]);
    expect(done(await list(operator.headers, '?to=2999-01-01T00:00:00%2B02:00'))).toHaveLength(4);
    for (const query of [
      '?cursor=e30',
      '?cursor=%00',
      `?cursor=${Buffer.from(JSON.stringify({ at: "2026-01-01' or", tenant: '', seq: 1 })).toString('base64url')}`,
      `?cursor=${Buffer.from(JSON.stringify({ at: '2026-01-01T00:00:00Z', tenant: '', seq: 1e30 })).toString('base64url')}`,
      '?from=yesterday',
      '?from=0000-01-01T00:00:00Z',
      '?limit=201',
      '?actor=%00',
      '?nothing=1',
    ]) {
      expect((await server.inject({ url: `/api/audit-logs${query}`, headers: operator.headers })).statusCode, query).toBe(400);
    }
  });
});

describe('GET /api/audit-logs/export', () => {
  const url = (query: string) => `/api/audit-logs/export${query}`;
  async function* linesOf(body: string): AsyncGenerator<string> {
    yield* body.slice(0, -1).split('\n');
  }

  test('gives a tenant admin the own chain as lines that verify without the database', async () => {
    const answer = await server.inject({ url: url(`?tenantId=${alder}`), headers: admin.headers });
    expect(answer.headers['content-type']).toBe('application/x-ndjson');
    const report = await verifyAuditExport(linesOf(answer.body), { verify: await readVerifier(control.keyring) });
    expect(report).toMatchObject({ sound: true, chains: { visited: 1, of: 1 } });
    expect(answer.body).not.toContain(birch);
  });

  test('is refused to members and to other tenants, and gives a super-admin every chain', async () => {
    expect((await server.inject({ url: url(`?tenantId=${alder}`), headers: member.headers })).statusCode).toBe(403);
    expect((await server.inject({ url: url(`?tenantId=${birch}`), headers: admin.headers })).statusCode).toBe(403);
    expect((await server.inject({ url: url('?tenantId=made-up'), headers: admin.headers })).statusCode).toBe(404);
    const all = await server.inject({ url: url(''), headers: operator.headers });
    expect(await verifyAuditExport(linesOf(all.body), { verify: await readVerifier(control.keyring) })).toMatchObject({ sound: true, chains: { visited: 3 } });
  });

  test('gives every line to a client that stays, and keeps no connection for one that goes away', async () => {
    await database.query(
      `select count(partywall_control.append_audit(jsonb_build_object('tenant_id', $1::text, 'actor_kind', 'system', 'actor_id', 'bulk', 'action', 'test.bulk', 'outcome', 'done',
        'details', jsonb_build_object('text', repeat('x', 10000))))) from generate_series(1, 3000)`,
      [birch],
    );
    await server.listen({ port: 0, host: '127.0.0.1' });
    const { port } = server.server.address() as AddressInfo;
    const read = async (): Promise<http.IncomingMessage> => {
      const request = http.get({ port, host: '127.0.0.1', path: url(`?tenantId=${birch}`), headers: operator.headers });
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      return response;
    };
    const leaving = await read();
    await once(leaving, 'readable');
    leaving.destroy();
    const whole = await read();
    let bytes = 0;
    for await (const chunk of whole) bytes += (chunk as Buffer).length;
    expect(bytes).toBeGreaterThan(60_000_000);
    expect(whole.complete).toBe(true);
    await expect.poll(() => control.pool.idleCount === control.pool.totalCount).toBe(true);
  });
});

describe('POST /api/test/audit', () => {
  test('works for any signed-in person of a tenant, without a body, and its record is in the log', async () => {
    const answer = await server.inject({ method: 'POST', url: '/api/test/audit', headers: member.headers });
    expect(answer.json()).toEqual({ ok: true, seq: expect.any(Number), hash: expect.stringMatching(/^[0-9a-f]{64}$/), fault: null });
    const { items } = await list(member.headers, '?action=audit.test');
    expect(items).toMatchObject([{ seq: answer.json().seq, hash: answer.json().hash, actor: { id: member.id } }]);
  });

  test('works for a super-admin in any tenant, and in none', async () => {
    expect((await server.inject({ method: 'POST', url: '/api/test/audit', headers: operator.headers })).json()).toMatchObject({ ok: true });
    expect((await server.inject({ method: 'POST', url: `/api/test/audit?tenantId=${birch}`, headers: operator.headers })).json()).toMatchObject({ ok: true });
  });

  test('says so when the chain behind its record is broken', async () => {
    await database.query(`update partywall_control.audit_heads set hash = sha256('x') where tenant_id = $1`, [alder]);
    const answer = await server.inject({ method: 'POST', url: '/api/test/audit', headers: member.headers });
    expect(answer.json()).toMatchObject({ ok: false, fault: expect.stringMatching(/^record \d+ does not follow record \d+/) });
  });
});

describe('POST /api/admin/audit/verify', () => {
  test('tells a super-admin which chain is broken, where and why', async () => {
    const answer = await server.inject({ method: 'POST', url: '/api/admin/audit/verify', headers: operator.headers });
    expect(answer.json()).toMatchObject({ sound: false, faults: [{ tenantId: alder, kind: 'replaced' }], more: 0 });
    const one = await server.inject({ method: 'POST', url: '/api/admin/audit/verify', headers: operator.headers, payload: { tenantId: birch } });
    expect(one.json()).toMatchObject({ sound: true, chains: { visited: 1, of: 1 } });
  });

  test('leaves connections to others: of many at once some are asked to come again', async () => {
    const ask = () => server.inject({ method: 'POST', url: '/api/admin/audit/verify', headers: operator.headers });
    const statuses = (await Promise.all(Array.from({ length: 6 }, ask))).map(({ statusCode }) => statusCode);
    expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(2);
    expect(statuses.filter((status) => status === 503).length).toBeGreaterThanOrEqual(1);
    expect((await ask()).statusCode).toBe(200);
  });

  test('is a super-admin’s alone, and so are the anchors', async () => {
    for (const [method, url] of [
      ['POST', '/api/admin/audit/verify'],
      ['POST', '/api/admin/audit/anchors'],
      ['GET', '/api/admin/audit/anchors'],
    ] as const) {
      expect((await server.inject({ method, url, headers: admin.headers })).statusCode).toBe(403);
    }
  });
});

test('anchors are signed on demand, and come as lines to keep', async () => {
  expect((await server.inject({ method: 'POST', url: '/api/admin/audit/anchors', headers: operator.headers })).json()).toMatchObject({
    chains: { visited: 3, of: 3 },
  });
  const answer = await server.inject({ url: '/api/admin/audit/anchors', headers: operator.headers });
  const anchors = answer.body
    .trimEnd()
    .split('\n')
    .map((line): { tenant: string } => JSON.parse(line));
  expect(anchors.map(({ tenant }) => tenant).sort()).toEqual(['', alder, birch].sort());
});
