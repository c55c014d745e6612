import type { HTTPMethods } from 'fastify';
import type { Access } from '../src/index.ts';

/** Whom a route is for, as people would say it; tests hold the server to it. */
export interface RouteRow {
  readonly access: Access;
  /** Where the request names the tenant. */
  readonly tenant: 'path' | 'query' | 'own' | 'none';
  readonly scope: string | undefined;
  readonly method: HTTPMethods;
  readonly url: string;
}

/** access, tenant, scope or -, method, path. A route that is not here fails the tests: whoever adds one decides here whom it is for. */
const table = `
public       none  -            GET     /health
public       none  -            GET     /api/health
public       none  -            GET     /metrics
public       none  -            GET     /api/openapi.json
public       none  -            POST    /api/auth/sign-in/email
public       none  -            GET     /api/auth/get-session
public       none  -            POST    /api/invitations/accept
signed_in    none  -            POST    /api/auth/sign-out
signed_in    none  -            GET     /api/auth/list-sessions
signed_in    none  -            POST    /api/auth/revoke-session
signed_in    none  -            POST    /api/auth/revoke-other-sessions
signed_in    none  -            POST    /api/auth/change-password
signed_in    none  -            GET     /api/auth/organization/list
signed_in    none  -            POST    /api/auth/organization/set-active
signed_in    none  -            GET     /api/me
member       query -            POST    /api/tenants/leave
tenant_admin query -            GET     /api/tenants/members
tenant_admin query -            PATCH   /api/tenants/members/:user
tenant_admin query -            DELETE  /api/tenants/members/:user
tenant_admin query -            GET     /api/tenants/invitations
tenant_admin query -            POST    /api/tenants/invitations
tenant_admin query -            DELETE  /api/tenants/invitations/:invitation
tenant_admin query -            GET     /api/tenants/api-keys
tenant_admin query -            POST    /api/tenants/api-keys
tenant_admin query -            DELETE  /api/tenants/api-keys/:key
super_admin  none  -            GET     /api/admin/alerts
super_admin  none  -            POST    /api/admin/alerts/evaluate
super_admin  none  -            POST    /api/admin/alerts/:id/acknowledge
super_admin  none  -            GET     /api/admin/attempts
super_admin  none  -            GET     /api/admin/rollout
super_admin  none  -            GET     /api/admin/alert-rules
super_admin  none  -            GET     /api/admin/alert-rules/:name
super_admin  none  -            PUT     /api/admin/alert-rules/:name
super_admin  none  -            DELETE  /api/admin/alert-rules/:name
super_admin  none  -            GET     /api/admin/alert-rules/:name/tenants
super_admin  none  -            PUT     /api/admin/alert-rules/:name/tenants/:tenantId
super_admin  none  -            DELETE  /api/admin/alert-rules/:name/tenants/:tenantId
super_admin  none  -            GET     /api/admin/alert-channels
super_admin  none  -            GET     /api/admin/alert-channels/:name
super_admin  none  -            PUT     /api/admin/alert-channels/:name
super_admin  none  -            DELETE  /api/admin/alert-channels/:name
super_admin  none  -            POST    /api/admin/alert-channels/:name/test
super_admin  none  -            GET     /api/admin/alert-deliveries
super_admin  none  -            GET     /api/admin/metrics
super_admin  none  -            GET     /api/admin/tenants/:id/usage
super_admin  none  -            GET     /api/admin/top
super_admin  none  -            GET     /api/admin/connections
super_admin  none  -            GET     /api/admin/slow-queries
super_admin  none  -            POST    /api/admin/tenants/provision
super_admin  none  -            GET     /api/admin/tenants
super_admin  none  -            GET     /api/admin/tenants/:id
super_admin  none  -            POST    /api/admin/tenants/:id/suspend
super_admin  none  -            POST    /api/admin/tenants/:id/reactivate
super_admin  none  -            POST    /api/admin/tenants/:id/cancel
super_admin  none  -            POST    /api/admin/tenants/:id/restore
super_admin  none  -            POST    /api/admin/tenants/:id/restore-from-backup
super_admin  none  -            POST    /api/admin/tenants/:id/clone
super_admin  none  -            POST    /api/admin/tenants/:id/move
super_admin  none  -            POST    /api/admin/tenants/:id/move/back
super_admin  none  -            POST    /api/admin/tenants/:id/move/cancel
super_admin  none  -            POST    /api/admin/tenants/:id/move/finish
super_admin  none  -            GET     /api/admin/moves
super_admin  none  -            POST    /api/admin/tenants/:id/delete
super_admin  none  -            PUT     /api/admin/tenants/:id/legal-hold
super_admin  none  -            DELETE  /api/admin/tenants/:id/legal-hold
super_admin  none  -            POST    /api/admin/tenants/:id/notify
super_admin  none  -            GET     /api/admin/certificates
super_admin  none  -            GET     /api/admin/certificates/:tenantId
super_admin  none  -            GET     /api/admin/backups
super_admin  none  -            GET     /api/admin/backups/status
super_admin  none  -            GET     /api/admin/backups/:id
super_admin  none  -            POST    /api/admin/backups
super_admin  none  -            POST    /api/admin/backups/retention
tenant_admin query -            GET     /api/tenants/backups
super_admin  none  -            GET     /api/admin/operations
super_admin  none  -            GET     /api/admin/operations/:id
super_admin  none  -            POST    /api/admin/audit/verify
super_admin  none  -            GET     /api/admin/audit/anchors
super_admin  none  -            POST    /api/admin/audit/anchors
super_admin  none  -            GET     /api/admin/plans
super_admin  none  -            GET     /api/admin/plans/:name
super_admin  none  -            PUT     /api/admin/plans/:name
super_admin  none  -            DELETE  /api/admin/plans/:name
super_admin  none  -            POST    /api/admin/tenants/:id/plan
super_admin  none  -            GET     /api/admin/tenants/:id/quotas
super_admin  none  -            POST    /api/admin/tenants/:id/quotas
super_admin  none  -            DELETE  /api/admin/tenants/:id/quotas/:quota
super_admin  none  -            POST    /api/admin/tenants/:id/rate-limit
super_admin  none  -            DELETE  /api/admin/tenants/:id/rate-limit
super_admin  none  -            POST    /api/admin/tenants/restore
tenant_admin query -            GET     /api/tenants/alerts
tenant_admin query usage:read   GET     /api/tenants/usage
tenant_admin query quotas:read  GET     /api/tenants/quotas
tenant_admin query -            GET     /api/tenants/export
member       query audit:read   GET     /api/audit-logs
tenant_admin query -            GET     /api/audit-logs/export
super_admin  none  -            POST    /api/audit-logs
member       query audit:read   POST    /api/test/audit
`;

export const routeTable: readonly RouteRow[] = table
  .trim()
  .split('\n')
  .map((line) => {
    const [access, tenant, scope, method, url] = line.split(/\s+/);
    // What the lines above hold.
    return { access, tenant, scope: scope === '-' ? undefined : scope, method, url } as RouteRow;
  });
