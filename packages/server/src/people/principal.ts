/** Role of a person inside one tenant. */
export type TenantRole = 'admin' | 'member';

/** Who a request comes from, once its token, key or session has been checked. */
export interface Principal {
  readonly kind: 'user' | 'api_key';
  /** Of the user, or of the key. */
  readonly id: string;
  readonly name: string;
  readonly superAdmin: boolean;
  /** Tenants that the person belongs to; of an API key, its own. */
  readonly memberships: ReadonlyMap<string, TenantRole>;
  /** The tenant that the session has chosen, where it has. */
  readonly activeTenant: string | undefined;
  /** What an API key may do: `customers:read`; undefined for people, who may do what their role may. */
  readonly scopes: ReadonlySet<string> | undefined;
  /** True where a cookie made the request known, which a foreign page can send too. */
  readonly byCookie: boolean;
}
