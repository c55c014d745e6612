import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { cancelTenant, deleteTenant, holdTenant, reactivateTenant, restoreTenant, showTenant, suspendTenant, unholdTenant } from '../../src/index.ts';

const fixture = await controlDatabase();
const { database, operation } = fixture;

async function audited(tenant: string): Promise<string[]> {
  const { rows } = await database.query<{ action: string }>('select action from partywall_control.audit_records where tenant_id = $1 order by seq', [tenant]);
  return rows.map(({ action }) => action);
}

async function rootStatus(tenant: string): Promise<string | undefined> {
  const { rows } = await database.query<{ status: string }>('select status from tenants where id = $1', [tenant]);
  return rows[0]?.status;
}

/** An operation that happens so many days from now. */
function inDays(days: number) {
  return operation({ database: { ...fixture.control, clock: () => new Date(Date.now() + days * 86_400_000) } });
}

describe('a transition', () => {
  test('moves directory, wall and the status of the application together, and is audited with its reason', async () => {
    const tenant = await fixture.tenant('Together');
    const { changed } = await suspendTenant(operation(), { tenant, reason: 'unpaid' });
    expect(changed).toBe(true);
    expect(await showTenant(operation(), tenant)).toMatchObject({ status: 'suspended', reason: 'unpaid', wall: { state: 'suspended' } });
    expect(await rootStatus(tenant)).toBe('suspended');
    const { rows } = await database.query('select action, reason, details from partywall_control.audit_records where tenant_id = $1', [tenant]);
    expect(rows).toEqual([{ action: 'tenant.suspend', reason: 'unpaid', details: { from: 'active', to: 'suspended' } }]);
    await reactivateTenant(operation(), { tenant });
    expect(await showTenant(operation(), tenant)).toMatchObject({ status: 'active', reason: null, wall: { state: 'active' } });
    expect(await rootStatus(tenant)).toBe('active');
  });

  test('repeated is granted once more and audited once', async () => {
    const tenant = await fixture.tenant('Repeated');
    await suspendTenant(operation(), { tenant });
    expect((await suspendTenant(operation(), { tenant })).changed).toBe(false);
    expect(await audited(tenant)).toEqual(['tenant.suspend']);
  });

  test('asked for by twenty at once happens once', async () => {
    const tenant = await fixture.tenant('Twenty');
    const results = await Promise.all(Array.from({ length: 20 }, () => cancelTenant(operation(), { tenant })));
    expect(results.filter(({ changed }) => changed)).toHaveLength(1);
    expect(await audited(tenant)).toEqual(['tenant.cancel']);
  });

  test('that is not possible says in which state the tenant is and what is possible', async () => {
    const tenant = await fixture.tenant('Impossible');
    await deleteTenant(operation(), { tenant });
    await expect(suspendTenant(operation(), { tenant })).rejects.toMatchObject({
      code: 'transition_refused',
      message: expect.stringContaining('it is deleted; possible now: restore'),
      extra: { tenantStatus: 'deleted', asked: 'suspend', possible: ['restore'] },
    });
  });

  test('of a tenant that does not exist, or of a key that no tenant can have, is answered alike', async () => {
    for (const tenant of ['00000000-0000-4000-8000-000000000000', 'not a uuid', "'; drop table tenants; --"]) {
      await expect(suspendTenant(operation(), { tenant })).rejects.toMatchObject({ code: 'tenant_unknown' });
    }
  });

  test('gives the application the status that it had while the tenant was active', async () => {
    await database.query('alter table tenants drop constraint tenants_status_check');
    const tenant = await fixture.tenant('Trial');
    await database.query("update tenants set status = 'trial' where id = $1", [tenant]);
    await suspendTenant(operation(), { tenant });
    await cancelTenant(operation(), { tenant });
    await reactivateTenant(operation(), { tenant });
    expect(await rootStatus(tenant)).toBe('trial');
  });

  test('follows a status that the application wrote itself', async () => {
    const tenant = await fixture.tenant('Self-made');
    await database.query("update tenants set status = 'suspended' where id = $1", [tenant]);
    expect((await showTenant(operation(), tenant)).status).toBe('suspended');
    await reactivateTenant(operation(), { tenant });
    expect(await rootStatus(tenant)).toBe('active');
  });
});

describe('the retention', () => {
  test('lasts as long as the plan says, and within it a cancelled tenant can be reactivated and a deleted one restored', async () => {
    const tenant = await fixture.tenant('Retained', 'pro');
    const { tenant: cancelled } = await cancelTenant(operation(), { tenant });
    expect((cancelled.retainedUntil?.getTime() ?? 0) - cancelled.statusChangedAt.getTime()).toBe(30 * 86_400_000);
    await reactivateTenant(inDays(29), { tenant });
    await deleteTenant(operation(), { tenant });
    expect((await restoreTenant(inDays(29), { tenant })).tenant).toMatchObject({ status: 'active', retainedUntil: null });
  });

  test('lasts 30 days at the least, whatever the plan says', async () => {
    await database.query(
      "insert into partywall_control.plans (name, title, tier, limits, retention_days, audit_retention_days) values ('brief', 'Brief', 'free', '{}', 0, 1) on conflict do nothing",
    );
    for (const end of [cancelTenant, deleteTenant]) {
      const tenant = await fixture.tenant(`Brief ${end.name}`, 'brief');
      const { tenant: ended } = await end(operation(), { tenant });
      expect((ended.retainedUntil?.getTime() ?? 0) - ended.statusChangedAt.getTime()).toBe(30 * 86_400_000);
    }
  });

  test('ends, and then it cannot', async () => {
    const tenant = await fixture.tenant('Expired', 'pro');
    await deleteTenant(operation(), { tenant });
    await expect(restoreTenant(inDays(31), { tenant })).rejects.toMatchObject({
      code: 'transition_refused',
      message: expect.stringContaining('its retention has ended; possible now: erase'),
    });
  });

  test('is not shortened by a deletion that follows a cancellation', async () => {
    const tenant = await fixture.tenant('Longer', 'enterprise');
    const { tenant: cancelled } = await cancelTenant(operation(), { tenant });
    await database.query("update partywall_control.directory set plan = 'free' where tenant_id = $1", [tenant]);
    const { tenant: deleted } = await deleteTenant(operation(), { tenant });
    expect(deleted.retainedUntil).toEqual(cancelled.retainedUntil);
  });
});

describe('what the application does by itself', () => {
  test('cannot let a deleted tenant in again', async () => {
    const tenant = await fixture.tenant('Let in');
    await deleteTenant(operation(), { tenant });
    await expect(database.query("update tenants set status = 'active' where id = $1", [tenant])).rejects.toThrow('the tenant is deleted');
  });

  test('cannot delete a tenant that is under a legal hold', async () => {
    const tenant = await fixture.tenant('Held');
    await holdTenant(operation(), { tenant, reason: 'case 12' });
    await expect(database.query('delete from tenants where id = $1', [tenant])).rejects.toThrow('the tenant is under a legal hold');
    await unholdTenant(operation(), { tenant, reason: 'closed' });
    await database.query('delete from tenants where id = $1', [tenant]);
    await expect(showTenant(operation(), tenant)).rejects.toMatchObject({ code: 'tenant_unknown' });
  });
});

describe('a legal hold', () => {
  test('refuses a soft deletion until it is lifted, and both are audited with their reasons', async () => {
    const tenant = await fixture.tenant('Hold');
    expect((await holdTenant(operation(), { tenant, reason: 'case 7' })).hold).toMatchObject({ reason: 'case 7' });
    await expect(deleteTenant(operation(), { tenant })).rejects.toMatchObject({ code: 'transition_refused', message: expect.stringContaining('legal hold') });
    expect((await suspendTenant(operation(), { tenant })).changed).toBe(true);
    await unholdTenant(operation(), { tenant, reason: 'settled' });
    expect((await deleteTenant(operation(), { tenant })).changed).toBe(true);
    expect(await audited(tenant)).toEqual(['tenant.hold', 'tenant.suspend', 'tenant.unhold', 'tenant.delete']);
  });

  test('takes a reason', async () => {
    const tenant = await fixture.tenant('Reasonless');
    await expect(holdTenant(operation(), { tenant, reason: '  ' })).rejects.toMatchObject({ code: 'input_invalid' });
  });
});
