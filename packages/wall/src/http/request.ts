import type { Proven } from './proof.ts';

/** A request as the guard sees it, whatever framework it came through. */
export interface RequestFacts {
  readonly method: string;
  /** Without the query, which may hold secrets. */
  readonly path: string;
  /** Of the connection, which behind a proxy is the proxy's; undefined where the platform does not tell. */
  readonly address: string | undefined;
  /** A header by its lower-case name; what came several times is joined by a comma. */
  header(name: string): string | null;
}

/** Whoever the request comes from, as a verifier has proved it. */
export interface Identity {
  readonly user?: string | number | bigint | undefined;
  /** All tenants that it may act for. */
  readonly tenants: readonly Proven<'tenant'>[];
  /** The one that it acts for where the request names none. */
  readonly active?: Proven<'tenant'> | undefined;
  /** Left out where it holds for the whole tenant. */
  readonly unit?: Proven<'unit'> | undefined;
  /** People select their tenant in a session: one that has none is answered 409, or sent to the page where it is selected. */
  readonly selects?: boolean | undefined;
}

/** Says who the request comes from, or null where no credential holds. Throws only where it cannot tell. */
export type Verify = (request: RequestFacts) => Identity | null | Promise<Identity | null>;

/** `/a/b` of `/a/b?c` and of `http://host/a/b?c`. */
export function pathOf(target: string): string {
  const rest = target.startsWith('/') ? target : target.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i, '');
  return rest.split(/[?#]/, 1)[0] || '/';
}

/** A header of Node's, which is a list where a test or a proxy gives one. HTTP/2 names the host by `:authority`. */
export function headerOf(headers: Readonly<Record<string, string | string[] | undefined>>, name: string): string | null {
  const value = (name === 'host' ? headers[':authority'] : undefined) ?? headers[name];
  return (Array.isArray(value) ? value.join(', ') : value) ?? null;
}

/** The values of a header that is a list, each once. */
export function listed(value: string | null): string[] {
  const values = (value ?? '').split(',').map((item) => item.trim());
  return [...new Set(values.filter((item) => item !== ''))];
}
