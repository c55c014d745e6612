import type { FastifyRequest } from 'fastify';
import { problem } from '../problem.ts';

const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Refuses a request that changes something and is known by a cookie, unless a page of an allowed origin made it: a browser sends the cookie
 * whoever's page it is. Browsers send `Origin` with every such request; one without is nobody's page.
 *
 * @throws Problem csrf_refused
 */
export function refuseForeignOrigin(request: Pick<FastifyRequest, 'method' | 'headers'>, origins: ReadonlySet<string>): void {
  if (safeMethods.has(request.method)) return;
  const { origin } = request.headers;
  if (origin === undefined || !origins.has(origin)) throw problem('csrf_refused');
}

/**
 * The same for a request that will be answered with a cookie, such as signing in: a foreign page must not sign a visitor in as somebody else.
 * Programs send no `Origin`.
 *
 * @throws Problem csrf_refused
 */
export function refuseForeignPage(request: Pick<FastifyRequest, 'headers'>, origins: ReadonlySet<string>): void {
  const { origin } = request.headers;
  if (origin !== undefined && !origins.has(origin)) throw problem('csrf_refused');
}
