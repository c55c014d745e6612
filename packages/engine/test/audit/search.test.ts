import { type AuditFilter, type AuditRecord, appendAudit, appendDenial, cursorOfRecord, searchAudit } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const by = (id: string) => fixture.operation({ actor: { kind: 'user', id, name: id, address: '192.0.2.7' }, requestId: `request-${id}` });

for (const tenant of ['alder', 'birch', null]) {
  await appendAudit(control.pool, by('ann'), { tenant, action: 'tenant.suspend', target: 'tenant:x', reason: 'unpaid' });
  await appendDenial(by('bob'), { tenant, action: 'access.cross_tenant', target: 'GET /api/Customers/:id' });
  await appendAudit(control.pool, by('bob'), { tenant, action: 'tenant_plan.change', details: { from: 'free', to: 'pro' } });
}

async function found(filter: AuditFilter): Promise<string[]> {
  const records = await searchAudit(fixture.operation(), filter, { limit: 100 });
  return records.map(({ tenantId, seq }) => `${tenantId ?? 'platform'} ${seq}`);
}

test('lists one chain or all of them merged, newest first', async () => {
  expect(await found({ tenant: 'birch' })).toEqual(['birch 3', 'birch 2', 'birch 1']);
  expect(await found({ tenant: null })).toEqual(['platform 3', 'platform 2', 'platform 1']);
  expect(await found({})).toEqual(['platform 3', 'platform 2', 'platform 1', 'birch 3', 'birch 2', 'birch 1', 'alder 3', 'alder 2', 'alder 1']);
});

test('narrows by actor, beginning of the action, outcome, part of the target and time', async () => {
  expect(await found({ tenant: 'alder', actor: 'ann' })).toEqual(['alder 1']);
  expect(await found({ tenant: 'alder', action: 'tenant' })).toEqual(['alder 3', 'alder 1']);
  expect(await found({ tenant: 'alder', action: 'tenant_' })).toEqual(['alder 3']);
  expect(await found({ tenant: 'alder', action: '%' })).toEqual([]);
  expect(await found({ outcome: 'denied' })).toEqual(['platform 2', 'birch 2', 'alder 2']);
  expect(await found({ tenant: 'alder', target: 'customers/:ID' })).toEqual(['alder 2']);
  const [, second] = await searchAudit(fixture.operation(), { tenant: 'birch' }, { limit: 2 });
  expect(await found({ tenant: 'birch', from: second?.at ?? '' })).toEqual(['birch 3', 'birch 2']);
  expect(await found({ tenant: 'birch', to: second?.at ?? '' })).toEqual(['birch 1']);
});

test('a record says who, from where, what, to what, why and with which hashes', async () => {
  const [record] = await searchAudit(fixture.operation(), { tenant: 'alder', action: 'tenant.suspend' }, { limit: 1 });
  expect(record).toEqual({
    tenantId: 'alder',
    seq: 1,
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
    actor: { kind: 'user', id: 'ann', name: 'ann' },
    address: '192.0.2.7',
    action: 'tenant.suspend',
    target: 'tenant:x',
    outcome: 'done',
    reason: 'unpaid',
    requestId: 'request-ann',
    details: {},
    previous: '0'.repeat(64),
    hash: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
});

test('pages neither skip nor repeat a record, also of the same microsecond', async () => {
  await database.query("update partywall_control.audit_records set at = '2026-01-01 00:00:00.000001+00'");
  const seen: AuditRecord[] = [];
  for (;;) {
    const last = seen.at(-1);
    const page = await searchAudit(fixture.operation(), {}, { limit: 2, after: last && cursorOfRecord(last) });
    seen.push(...page);
    if (page.length < 2) break;
  }
  expect(new Set(seen.map(({ tenantId, seq }) => `${tenantId} ${seq}`)).size).toBe(9);
  expect(seen).toHaveLength(9);
});

test('a page of one chain, of one actor and of all comes from an index', async () => {
  await database.query(`insert into partywall_control.audit_records
    select 'many-' || n % 200, n, now() - make_interval(secs => n), 'user', 'user-' || n % 500, null, null, 'test.' || n % 10, null, 'done', null, null, '{}', '', ''
    from generate_series(1, 40000) n`);
  await database.query('analyze partywall_control.audit_records');
  for (const [where, index] of [
    [`r.tenant_id = 'many-7'`, 'audit_records_tenant_at_idx'],
    [`r.actor_id = 'user-7'`, 'audit_records_actor_idx'],
    ['true', 'audit_records_at_idx'],
  ]) {
    const { rows } = await database.query<{ 'QUERY PLAN': string }>(
      `explain select * from partywall_control.audit_records r where ${where} order by r.at desc, r.tenant_id desc, r.seq desc limit 50`,
    );
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toContain(index);
    expect(plan).not.toMatch(/Seq Scan|Sort/);
  }
});
