import { run } from '../context.ts';
import { createGuard, type GuardOptions } from './guard.ts';
import { keepContextOf } from './keep-context.ts';
import { type Answer, tenantCacheControl } from './problem.ts';
import { pathOf, type RequestFacts } from './request.ts';
import { requestIdHeader } from './request-id.ts';

export interface WebOptions extends GuardOptions {
  /**
   * The address that a request came from, where the platform tells: needed for attempts to have a source. Only one that the platform itself vouches for:
   * `X-Forwarded-For` is read by `crossTenantAttempts` as far as its proxies are trusted.
   */
  readonly addressOf?: (request: Request) => string | undefined;
}

type Handler<Rest extends unknown[]> = (request: Request, ...rest: Rest) => Response | Promise<Response>;

/**
 * For handlers from a Web `Request` to a `Response`: route handlers of Next.js, and whatever else has this form.
 *
 * @example
 * const withTenant = webTenants({ verify: jwtBearer({ ... }) });
 * export const GET = withTenant(async () => Response.json((await pool.query('select * from invoices')).rows));
 */
export function webTenants(options: WebOptions): <Rest extends unknown[]>(handler: Handler<Rest>) => (request: Request, ...rest: Rest) => Promise<Response> {
  const guard = createGuard(options);
  return (handler) =>
    async (request, ...rest) => {
      const facts = webFacts(request, options.addressOf?.(request));
      const admission = await guard.admit(facts);
      if (admission.kind === 'refused') return responseOf(admission.answer);
      if (admission.kind === 'public') return namedResponse(await handler(request, ...rest), admission.requestId);
      const { context, requestId } = admission;
      return run(context, async () => {
        try {
          return inContext(namedResponse(await handler(request, ...rest), requestId));
        } catch (error) {
          const answer = await guard.answerTo(error, facts, context);
          if (answer) return responseOf(answer);
          throw error;
        }
      });
    };
}

export function webFacts(request: Request, address: string | undefined): RequestFacts {
  return {
    method: request.method,
    path: pathOf(request.url),
    address,
    header: (name) => request.headers.get(name) ?? (name === 'host' ? hostOf(request.url) : null),
  };
}

export function responseOf({ status, headers, body }: Answer): Response {
  return new Response(body === '' ? null : body, { status, headers });
}

/** The same response, whose body goes on in the context of this call. */
export function inContext(response: Response): Response {
  // An upgrade, or Response.error(): neither can be made anew.
  if (response.status < 200) return response;
  const kept = new Response(response.body && keepContextOf(response.body), response);
  if (!kept.headers.has('cache-control')) kept.headers.set('cache-control', tenantCacheControl);
  return kept;
}

function namedResponse(response: Response, requestId: string): Response {
  if (response.status < 200) return response; // as above
  // Headers of a response that was fetched or redirects cannot be changed.
  const named = new Response(response.body, response);
  named.headers.set(requestIdHeader, requestId);
  return named;
}

function hostOf(url: string): string | null {
  return URL.canParse(url) ? new URL(url).host : null;
}
