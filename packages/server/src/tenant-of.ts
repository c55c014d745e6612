import type { FastifyRequest } from 'fastify';

/** The tenant that the request was admitted to. A route whose access and source always give one. */
export function tenantOf({ tenant, method, routeOptions }: FastifyRequest): string {
  if (tenant === null) throw new TypeError(`${method} ${routeOptions.url} acts on no tenant`);
  return tenant;
}
