import { hash } from 'node:crypto';
import type pg from 'pg';
import type { TenantRole } from './principal.ts';
import type { Known } from './principal-cache.ts';

/** What a credential stands for in the database: one statement each, by unique and primary keys. */

interface SessionRow {
  readonly id: string;
  readonly name: string;
  readonly superAdmin: boolean;
  readonly active: string | null;
  readonly expiresAt: Date;
  readonly memberships: Readonly<Record<string, string>> | null;
}

const sessionSql = `select u."id", u."name", u."superAdmin", s."activeOrganizationId" as active, s."expiresAt",
  (select jsonb_object_agg(m."organizationId", m."role") from partywall_people."member" m where m."userId" = u."id") as memberships
from partywall_people."session" s join partywall_people."user" u on u."id" = s."userId"
where s."token" = $1 and s."expiresAt" > now()`;

/** The person behind a session's row, or undefined where there is no such session or it has expired. */
export async function findSession(pool: pg.Pool, token: string, byCookie: boolean): Promise<Known | undefined> {
  const { rows } = await pool.query<SessionRow>({ name: 'partywall_session', text: sessionSql, values: [token] });
  const row = rows[0];
  if (!row) return undefined;
  const memberships = new Map(Object.entries(row.memberships ?? {}).map(([tenant, role]) => [tenant, tenantRole(role)]));
  return {
    principal: {
      kind: 'user',
      id: row.id,
      name: row.name,
      superAdmin: row.superAdmin,
      memberships,
      // A membership may have ended since the session chose its tenant.
      activeTenant: row.active !== null && memberships.has(row.active) ? row.active : undefined,
      scopes: undefined,
      byCookie,
    },
    subject: hash('sha256', `user:${row.id}`),
    expiresAt: row.expiresAt.getTime(),
  };
}

interface KeyRow {
  readonly id: string;
  readonly name: string | null;
  readonly tenant: string;
  readonly expiresAt: Date | null;
  readonly permissions: string | null;
}

const keySql = `select k."id", k."name", k."referenceId" as tenant, k."expiresAt", k."permissions"
from partywall_people."apikey" k join partywall_people."organization" o on o."id" = k."referenceId"
where k."key" = $1 and coalesce(k."enabled", true) and coalesce(k."expiresAt" > now(), true)`;

/** The key that hashes to `keyHash`: a member of its tenant and of no other, with the scopes it was given. */
export async function findApiKey(pool: pg.Pool, keyHash: string): Promise<Known | undefined> {
  const { rows } = await pool.query<KeyRow>({ name: 'partywall_api_key', text: keySql, values: [keyHash] });
  const row = rows[0];
  if (!row) return undefined;
  return {
    principal: {
      kind: 'api_key',
      id: row.id,
      name: row.name ?? row.id,
      superAdmin: false,
      memberships: new Map([[row.tenant, 'member' as const]]),
      activeTenant: row.tenant,
      scopes: new Set(scopesOf(row.permissions)),
      byCookie: false,
    },
    subject: hash('sha256', `key:${row.id}`),
    expiresAt: row.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY,
  };
}

/** Better Auth's owner and admin are both admins here; what is unknown is the least. */
export function tenantRole(role: string): TenantRole {
  return role.split(',').some((one) => one === 'owner' || one === 'admin') ? 'admin' : 'member';
}

/** `{"customers": ["read"]}` → `customers:read`; what is not of that form gives nothing. */
export function scopesOf(permissions: string | null): string[] {
  const parsed: unknown = permissions === null ? {} : JSON.parse(permissions);
  if (typeof parsed !== 'object' || parsed === null) return [];
  return Object.entries(parsed).flatMap(([resource, actions]: [string, unknown]) =>
    Array.isArray(actions) ? actions.map((action) => `${resource}:${String(action)}`) : [],
  );
}
