import { appendDenial, type Operation } from '@partywall/engine';

/**
 * Records an attempt on another tenant. It goes to the chain of the tenant it was aimed at, where there is one; an id that names none would
 * otherwise open a chain for every guess.
 */
export async function recordForeign(operation: Operation, tenant: string, target: string): Promise<void> {
  const { rowCount } = await operation.database.pool.query('select from partywall_control.directory where tenant_id = $1', [tenant]);
  await appendDenial(operation, { tenant: rowCount === 0 ? null : tenant, action: 'access.cross_tenant', target, details: { wanted: tenant.slice(0, 200) } });
}
