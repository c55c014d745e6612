import type { IncomingMessage, ServerResponse } from 'node:http';
import { run, type TenantContext } from '../context.ts';
import { createGuard, type GuardOptions } from './guard.ts';
import { keepContextIn } from './keep-context.ts';
import { type Answer, tenantCacheControl } from './problem.ts';
import { headerOf, pathOf, type RequestFacts } from './request.ts';
import { requestIdHeader } from './request-id.ts';

type Request = IncomingMessage & { readonly originalUrl?: string };
type Next = (error?: unknown) => void;

export interface ExpressTenants {
  /** Before the routes, and before body parsers: who the request is for, and its context. */
  readonly enter: (request: Request, response: ServerResponse, next: Next) => void;
  /** After the routes: answers errors of the wall, and passes on all others. */
  readonly problems: (error: unknown, request: Request, response: ServerResponse, next: Next) => void;
}

/**
 * Express 5, and whatever else takes its middlewares.
 *
 * @example
 * const { enter, problems } = expressTenants({ verify: jwtBearer({ ... }), public: ['/health'] });
 * app.use(enter);
 * app.get('/invoices', async (_, response) => response.json((await pool.query('select * from invoices')).rows));
 * app.use(problems);
 */
export function expressTenants(options: GuardOptions): ExpressTenants {
  const guard = createGuard(options);
  const contexts = new WeakMap<IncomingMessage, TenantContext>();
  return {
    enter: (request, response, next) => {
      const admit = async (): Promise<void> => {
        const admission = await guard.admit(factsOf(request));
        if (admission.kind === 'refused') return send(response, admission.answer);
        response.setHeader(requestIdHeader, admission.requestId);
        if (admission.kind === 'public') return next();
        response.setHeader('cache-control', tenantCacheControl);
        contexts.set(request, admission.context);
        await run(admission.context, () => {
          keepContextIn(request);
          keepContextIn(response);
          next();
        });
      };
      admit().catch(next);
    },
    problems: (error, request, response, next) => {
      const answer = async (): Promise<void> => {
        const problem = await guard.answerTo(error, factsOf(request), contexts.get(request));
        // What has begun cannot be answered otherwise any more: Express ends the connection.
        if (!problem || response.headersSent) return next(error);
        send(response, problem);
      };
      answer().catch(next);
    },
  };
}

function factsOf(request: Request): RequestFacts {
  return {
    method: request.method ?? 'GET',
    path: pathOf(request.originalUrl ?? request.url ?? '/'),
    address: request.socket.remoteAddress,
    header: (name) => headerOf(request.headers, name),
  };
}

function send(response: ServerResponse, { status, headers, body }: Answer): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, { ...headers });
  response.end(body);
}
