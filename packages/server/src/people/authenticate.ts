import type { ControlDatabase } from '@partywall/engine';
import type { FastifyRequest } from 'fastify';
import type pg from 'pg';
import type { Principal, TenantRole } from './principal.ts';

interface SessionRow {
  readonly id: string;
  readonly name: string;
  readonly superAdmin: boolean;
  readonly active: string | null;
  readonly memberships: Readonly<Record<string, string>> | null;
}

/** One lookup by primary and unique keys: session, person, memberships. */
const sessionSql = `select u."id", u."name", u."superAdmin", s."activeOrganizationId" as active,
  (select jsonb_object_agg(m."organizationId", m."role") from partywall_people."member" m where m."userId" = u."id") as memberships
from partywall_people."session" s join partywall_people."user" u on u."id" = s."userId"
where s."token" = $1 and s."expiresAt" > now()`;

/** The person behind a session token, or undefined where there is no such session or it has expired. */
export async function principalOfSession(pool: pg.Pool, token: string, byCookie: boolean): Promise<Principal | undefined> {
  const { rows } = await pool.query<SessionRow>({ name: 'partywall_session', text: sessionSql, values: [token] });
  const row = rows[0];
  if (!row) return undefined;
  return {
    kind: 'user',
    id: row.id,
    name: row.name,
    superAdmin: row.superAdmin,
    memberships: new Map(Object.entries(row.memberships ?? {}).map(([tenant, role]) => [tenant, tenantRole(role)])),
    activeTenant: row.active ?? undefined,
    scopes: undefined,
    byCookie,
  };
}

/** Better Auth's owner and admin are both admins here; what is unknown is the least. */
export function tenantRole(role: string): TenantRole {
  return role.split(',').some((one) => one === 'owner' || one === 'admin') ? 'admin' : 'member';
}

/** Whoever the request says it comes from, when that holds: a bearer token of a session. */
export async function authenticate(request: Pick<FastifyRequest, 'headers'>, database: ControlDatabase): Promise<Principal | undefined> {
  const [, token] = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
  return token === undefined ? undefined : principalOfSession(database.pool, token, false);
}
