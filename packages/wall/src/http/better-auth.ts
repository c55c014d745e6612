import { provenTenant } from './proof.ts';
import type { Verify } from './request.ts';

/** The functions of a Better Auth instance with its `organization` plugin that are used. */
export interface BetterAuthInstance {
  readonly api: {
    getSession(input: AsItIs): Promise<Session | null>;
    listOrganizations(input: AsItIs): Promise<readonly { readonly id: string }[] | null>;
  };
}

/** From the database and not from a cookie's copy, and without prolonging the session. */
interface AsItIs {
  readonly headers: Headers;
  readonly query: { readonly disableCookieCache: true; readonly disableRefresh: true };
}

interface Session {
  readonly user: { readonly id: string };
  readonly session: { readonly activeOrganizationId?: string | null | undefined };
}

export interface BetterAuthOptions {
  /** The tenant of an organization, where their ids differ. Default: the organization's id is the tenant's. */
  readonly tenantOf?: (organization: string) => string;
}

/** What a session is told by; nothing else of the request reaches Better Auth. */
const sessionHeaders = ['cookie', 'authorization'] as const;

/**
 * Sessions of Better Auth: the active organization decides the tenant, and where none is selected the request is refused with 409. The active organization
 * belongs to the session, so that two tabs fight over it: a request may name its own, which has to be one of the person's. Memberships are asked for each time,
 * so that whoever was removed from an organization is out with the next request although the session still has it as active.
 *
 * Sessions are read and not prolonged: the cookie that would have to go with it is Better Auth's own routes' to set.
 *
 * @example betterAuthSession(auth)
 */
export function betterAuthSession(auth: BetterAuthInstance, { tenantOf = (id) => id }: BetterAuthOptions = {}): Verify {
  return async (request) => {
    const headers = new Headers();
    for (const name of sessionHeaders) {
      const value = request.header(name);
      if (value !== null) headers.set(name, value);
    }
    if (headers.keys().next().done) return null;
    const asItIs: AsItIs = { headers, query: { disableCookieCache: true, disableRefresh: true } };
    const found = await auth.api.getSession(asItIs);
    if (!found) return null;
    const organizations = (await auth.api.listOrganizations(asItIs)) ?? [];
    const { activeOrganizationId } = found.session;
    const active = organizations.find(({ id }) => id === activeOrganizationId);
    return {
      user: found.user.id,
      tenants: organizations.map(({ id }) => provenTenant(tenantOf(id))),
      active: active && provenTenant(tenantOf(active.id)),
      selects: true,
    };
  };
}
