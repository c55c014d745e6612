import type { Principal } from './people/principal.ts';

/**
 * What a route needs. Every route of the server, and of the application it is mounted in, declares one; one that does not is refused when
 * the server starts.
 *
 * public: nobody in particular. signed_in: somebody, in no tenant. member: a member of the tenant it acts on. tenant_admin: its admin.
 * super_admin: the platform's operator. A super-admin is admin of every tenant.
 */
export const accessLevels = ['public', 'signed_in', 'member', 'tenant_admin', 'super_admin'] as const;
export type Access = (typeof accessLevels)[number];

/**
 * Where a route finds the tenant it acts on. path: parameter `id`. query: `tenantId`, or else as own. query_or_all: the same, but a super-admin
 * who names none acts on all. own: header `X-Tenant-ID`, else the session's active tenant, else the only one of the person. none: it acts on no
 * tenant.
 */
export type TenantSource = 'path' | 'query' | 'query_or_all' | 'own' | 'none';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
    tenant?: TenantSource;
    /** What an API key needs beside its role, such as `customers:read`; without it no API key is admitted. */
    scope?: string;
    /** Scoped table whose row the parameter `id` names, as `public.customers`: a 404 for another tenant's row is recorded as an attempt. */
    resource?: string;
    /** True: a route of the control plane that its tenant may use while suspended or cancelled. */
    whileSuspended?: boolean;
    /** False: an `Idempotency-Key` is not looked at, because the body is a stream or the answer must be fresh. */
    idempotent?: boolean;
    /** False: the request is not counted as an API call of its tenant. */
    counted?: boolean;
  }
}

export type Verdict =
  | { readonly kind: 'admitted'; readonly tenant: string | undefined }
  | { readonly kind: 'unauthorized' }
  /** The role or scope does not suffice. */
  | { readonly kind: 'forbidden' }
  /** Another tenant's: the answer is that there is nothing. */
  | { readonly kind: 'foreign'; readonly tenant: string }
  /** The person belongs to several tenants and the request names none, or to none. */
  | { readonly kind: 'undecided' };

export interface Wanted {
  readonly access: Access;
  readonly source: TenantSource;
  readonly scope: string | undefined;
  /** Tenant that the path or query names, if it does. */
  readonly named: string | undefined;
  /** Tenant of the header `X-Tenant-ID`, if there is one. */
  readonly header: string | undefined;
}

/** Decides whether a request may go on, and for which tenant. Pure: the test walks all routes × roles × own and other tenants through it. */
export function decide(principal: Principal | undefined, wanted: Wanted): Verdict {
  const { access, source } = wanted;
  if (access === 'public') return { kind: 'admitted', tenant: undefined };
  if (!principal) return { kind: 'unauthorized' };
  if (principal.scopes && (wanted.scope === undefined || !principal.scopes.has(wanted.scope))) return { kind: 'forbidden' };
  if (access === 'signed_in') return { kind: 'admitted', tenant: undefined };
  if (access === 'super_admin' && !principal.superAdmin) return { kind: 'forbidden' };

  // A header that says otherwise than the path or query is an attempt, whoever makes it.
  if (wanted.header !== undefined && wanted.named !== undefined && wanted.header !== wanted.named) {
    return { kind: 'foreign', tenant: principal.memberships.has(wanted.named) ? wanted.header : wanted.named };
  }
  const explicit = wanted.named ?? wanted.header;
  if (source === 'none' || (source === 'query_or_all' && principal.superAdmin && explicit === undefined)) return { kind: 'admitted', tenant: undefined };
  const tenant = explicit ?? principal.activeTenant ?? (principal.memberships.size === 1 ? principal.memberships.keys().next().value : undefined);
  if (tenant === undefined) return { kind: 'undecided' };
  if (principal.superAdmin) return { kind: 'admitted', tenant };
  const role = principal.memberships.get(tenant);
  if (role === undefined) return { kind: 'foreign', tenant };
  if (access === 'tenant_admin' && role !== 'admin') return { kind: 'forbidden' };
  return { kind: 'admitted', tenant };
}
