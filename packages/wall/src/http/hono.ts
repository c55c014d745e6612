import { run } from '../context.ts';
import { createGuard, type GuardOptions } from './guard.ts';
import { requestIdHeader } from './request-id.ts';
import { inContext, responseOf, webFacts } from './web.ts';

/** The parts of Hono's context that are used. */
interface Context {
  readonly req: { readonly raw: Request };
  /** What `@hono/node-server` tells of the connection. */
  readonly env: unknown;
  readonly error: Error | undefined;
  get res(): Response;
  set res(response: Response | undefined);
  header(name: string, value: string): void;
}

export interface HonoOptions extends GuardOptions {
  /** The address that a request came from. Default: that of the connection, under `@hono/node-server`. */
  readonly addressOf?: (request: Request) => string | undefined;
}

/**
 * A middleware for Hono 4.
 *
 * @example
 * app.use(honoTenants({ verify: jwtBearer({ ... }), public: ['/health'] }));
 * app.get('/invoices', async (c) => c.json((await pool.query('select * from invoices')).rows));
 */
export function honoTenants(options: HonoOptions): (context: Context, next: () => Promise<void>) => Promise<Response | undefined> {
  const guard = createGuard(options);
  return async (c, next) => {
    const facts = webFacts(c.req.raw, options.addressOf ? options.addressOf(c.req.raw) : peerOf(c.env));
    const admission = await guard.admit(facts);
    if (admission.kind === 'refused') return responseOf(admission.answer);
    if (admission.kind === 'public') {
      await next();
      c.header(requestIdHeader, admission.requestId);
      return undefined;
    }
    const { context, requestId } = admission;
    return run(context, async () => {
      await next();
      // Hono has answered an error by then; of the wall's it knows nothing.
      const answer = c.error && (await guard.answerTo(c.error, facts, context));
      if (answer) {
        replace(c, responseOf(answer));
        return undefined;
      }
      c.header(requestIdHeader, requestId);
      replace(c, inContext(c.res));
      return undefined;
    });
  };
}

/** Setting a second response would merge the headers of the first into it. */
function replace(c: Context, response: Response): void {
  c.res = undefined;
  c.res = response;
}

function peerOf(env: unknown): string | undefined {
  if (typeof env !== 'object' || env === null || !('incoming' in env)) return undefined;
  const { incoming } = env;
  if (typeof incoming !== 'object' || incoming === null || !('socket' in incoming)) return undefined;
  const { socket } = incoming;
  if (typeof socket !== 'object' || socket === null || !('remoteAddress' in socket)) return undefined;
  return typeof socket.remoteAddress === 'string' ? socket.remoteAddress : undefined;
}
