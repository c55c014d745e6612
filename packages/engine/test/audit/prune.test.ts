import { anchorAudit, appendAudit, pruneAudit, searchAudit, verifyAudit } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { database, control } = fixture;
const operation = fixture.operation();

/** Adds records of these ages in days to a chain, as if they had been written then. */
async function aged(tenant: string, days: readonly number[]): Promise<void> {
  const first = Number(await appendAudit(control.pool, operation, { tenant, action: 'test.aged' }));
  for (let n = 1; n < days.length; n += 1) await appendAudit(control.pool, operation, { tenant, action: 'test.aged' });
  await database.query(
    `update partywall_control.audit_records set at = at - make_interval(days => ($3::int[])[seq - $2 + 1]) where tenant_id = $1 and seq >= $2`,
    [tenant, first, days],
  );
  await database.query(
    `create or replace function pg_temp.rehash(chain text) returns void language plpgsql as $$ declare r partywall_control.audit_records; before bytea; begin
      for r in select * from partywall_control.audit_records where tenant_id = chain order by seq loop
        r.previous := coalesce(before, r.previous);
        before := sha256(r.previous || convert_to(partywall_control.audit_text(r), 'UTF8'));
        update partywall_control.audit_records set previous = r.previous, hash = before where tenant_id = chain and seq = r.seq;
      end loop;
      update partywall_control.audit_heads set hash = before where tenant_id = chain;
    end $$`,
  );
  await database.query('select pg_temp.rehash($1)', [tenant]);
}

async function kept(tenant: string): Promise<number[]> {
  const { rows } = await database.query<{ seq: string }>('select seq from partywall_control.audit_records where tenant_id = $1 order by seq', [tenant]);
  return rows.map(({ seq }) => Number(seq));
}

const retention = { free: 90, starter: 365, pro: 1095, enterprise: 2555 };

test('each tier keeps its records as long as its plan says, and what remains still verifies', async () => {
  const tenants = new Map<string, string>();
  for (const [plan, days] of Object.entries(retention)) {
    const tenant = await fixture.tenant(`Retained ${plan}`, plan);
    tenants.set(plan, tenant);
    await aged(tenant, [days + 30, days + 1, days - 1, 0]);
  }
  await aged('gone for good', [2556, 2554]);

  expect(await pruneAudit(operation, { dryRun: true })).toMatchObject({ pruned: 5, removed: 9, held: 0 });
  const report = await pruneAudit(operation);
  expect(report).toMatchObject({ pruned: 5, removed: 9, held: 0 });
  expect(report.chains.visited).toBe(report.chains.of);
  for (const tenant of tenants.values()) {
    expect(await kept(tenant)).toEqual([3, 4, 5]);
    const [newest] = await searchAudit(operation, { tenant }, { limit: 1 });
    expect(newest).toMatchObject({ seq: 5, action: 'audit.prune', details: { through: 2, removed: 2 } });
  }
  expect(await kept('gone for good')).toEqual([2, 3]);
  expect(await verifyAudit(operation)).toMatchObject({ sound: true });
  expect(await pruneAudit(operation)).toMatchObject({ pruned: 0, removed: 0 });
});

test('a legal hold keeps all of a tenant’s records until it is lifted, whoever asks', async () => {
  const tenant = await fixture.tenant('Held', 'free');
  await aged(tenant, [400, 300, 0]);
  await database.query(`update partywall_control.directory set hold_reason = 'case 17', held_at = now() where tenant_id = $1`, [tenant]);
  expect(await pruneAudit(operation)).toMatchObject({ held: 1, removed: 0 });
  const { rows } = await database.query<{ hash: Buffer }>('select hash from partywall_control.audit_records where tenant_id = $1 and seq = 1', [tenant]);
  const direct = control.pool.query(`select partywall_control.prune_audit($1, 1, $2, 1, now(), 'k', '')`, [tenant, rows[0]?.hash]);
  await expect(direct).rejects.toThrow('these audit records are kept');
  await database.query('update partywall_control.directory set hold_reason = null, held_at = null where tenant_id = $1', [tenant]);
  expect(await pruneAudit(operation)).toMatchObject({ held: 0, removed: 2 });
});

test('only the beginning of a chain goes: an old time behind a young record stays', async () => {
  const tenant = await fixture.tenant('Clock set back', 'free');
  await aged(tenant, [200, 10, 200]);
  await pruneAudit(operation);
  expect(await kept(tenant)).toEqual([2, 3, 4]);
  expect(await verifyAudit(operation, { tenant })).toMatchObject({ sound: true });
});

test('a long chain goes in several transactions and is one piece afterwards', async () => {
  const tenant = await fixture.tenant('Long', 'free');
  await aged(
    tenant,
    Array.from({ length: 4_500 }, () => 100),
  );
  expect(await pruneAudit(operation)).toMatchObject({ removed: 4_500 });
  expect(await kept(tenant)).toEqual([4_501, 4_502, 4_503]);
  const { rows } = await database.query('select seq, removed from partywall_control.audit_checkpoints where tenant_id = $1', [tenant]);
  expect(rows).toEqual([{ seq: '4500', removed: '4500' }]);
  expect(await verifyAudit(operation, { tenant })).toMatchObject({ sound: true });
});

test('records that were removed without a checkpoint of the keyring are missed', async () => {
  const tenant = await fixture.tenant('Forger', 'free');
  await aged(tenant, [400, 400, 0, 0]);
  await pruneAudit(operation);
  await database.query('delete from partywall_control.audit_records where tenant_id = $1 and seq = 3', [tenant]);
  expect((await verifyAudit(operation, { tenant })).faults).toMatchObject([{ seq: 3, kind: 'missing' }]);
  await database.query(
    `update partywall_control.audit_checkpoints set seq = 3, removed = 3, hash = (select previous from partywall_control.audit_records where tenant_id = $1 and seq = 4) where tenant_id = $1`,
    [tenant],
  );
  expect((await verifyAudit(operation, { tenant })).faults).toMatchObject([
    { kind: 'signature', message: 'the checkpoint at record 3 has a signature that is not of what it says' },
  ]);
});

test('an anchor from before a pruning still holds', async () => {
  const tenant = await fixture.tenant('Anchored', 'free');
  await aged(tenant, [400, 400]);
  await anchorAudit(operation);
  await pruneAudit(operation);
  expect(await kept(tenant)).toEqual([3]);
  expect(await verifyAudit(operation, { tenant })).toMatchObject({ sound: true, anchors: 1 });
});
