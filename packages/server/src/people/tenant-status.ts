import { TenantCancelledError, TenantSuspendedError } from '@partywall/wall';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import { problem } from '../problem.ts';

/**
 * Holds the control plane's own routes to the state of the tenant, as the wall holds the application's: a tenant that is not active is closed
 * to everybody but super-admins, at once, because nothing is remembered. Routes with `whileSuspended` are exempt.
 *
 * @throws TenantSuspendedError, TenantCancelledError; Problem not_found where there is no such tenant
 */
export async function refuseInactiveTenant(request: FastifyRequest, pool: pg.Pool): Promise<void> {
  const { principal, tenant, routeOptions } = request;
  if (tenant === null || principal === null || principal.superAdmin || routeOptions.config.whileSuspended === true) return;
  const { rows } = await pool.query<{ status: string }>({
    name: 'partywall_tenant_status',
    text: 'select d.status from partywall_control.directory d where d.tenant_id = $1',
    values: [tenant],
  });
  const status = rows[0]?.status;
  if (status === 'active') return;
  if (status === 'suspended') throw new TenantSuspendedError();
  if (status === undefined) throw problem('not_found');
  throw new TenantCancelledError();
}
