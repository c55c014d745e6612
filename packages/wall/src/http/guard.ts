import { wallErrorOf } from '../clients/wall-error-of.ts';
import { run, type TenantContext } from '../context.ts';
import { CrossTenantError, RequestRefusedError, WallError } from '../errors.ts';
import type { Attempts } from './attempts.ts';
import { type Attempt, type Decision, decide, type Known } from './decide.ts';
import { type Answer, problemAnswer } from './problem.ts';
import { type Claimed, claimOf } from './proof.ts';
import { listed, type RequestFacts, type Verify } from './request.ts';
import { requestIdHeader, requestIdOf } from './request-id.ts';

/** What the adapters take. */
export interface GuardOptions {
  /** Proves who the request comes from: `jwtBearer` of `@partywall/wall/jwt`, `betterAuthSession` of `@partywall/wall/better-auth`, or a function of your own. */
  readonly verify: Verify;
  /** Paths that run without credential and without context: `/health`, or all below with `/assets/*`. */
  readonly public?: readonly string[];
  /** The header that names the tenant. */
  readonly tenantHeader?: {
    /** Default: `x-tenant-id`. */
    readonly name?: string;
    /** True: a request without it, and without a subdomain, is answered 400. */
    readonly required?: boolean;
  };
  /** Tenants have subdomains: `acme.app.example.com`. */
  readonly subdomain?: {
    /** What follows the tenant's label: `app.example.com`. */
    readonly of: string;
    /** The tenant of a label; undefined where there is none. Runs without context: use `system`. */
    readonly tenantOf: (label: string) => string | undefined | Promise<string | undefined>;
    /** Labels that are nobody's: `['www', 'api']`. */
    readonly except?: readonly string[];
  };
  /** Requests name a business unit. */
  readonly unit?: {
    /** Default: `x-unit-id`. */
    readonly header?: string;
    /** Whether the unit is one of the tenant that the context names: it runs in that context. See `unitIn`. */
    readonly belongs: (unit: string) => boolean | Promise<boolean>;
  };
  /** Pages that browsers are sent to where a program is answered 401, or 409. They are public. */
  readonly pages?: { readonly signIn?: string; readonly select?: string };
  /** Records attempts on other tenants, and refuses sources that made too many. */
  readonly attempts?: Attempts;
}

/** What becomes of a request. */
export type Admission = { readonly requestId: string } & (
  | { readonly kind: 'public' }
  | { readonly kind: 'admitted'; readonly context: TenantContext }
  | { readonly kind: 'refused'; readonly answer: Answer }
);

/** The part of the middlewares that knows no framework. */
export interface Guard {
  /** Rejects where it cannot be told: the verifier or the database failed. */
  admit(request: RequestFacts): Promise<Admission>;
  /** The answer to an error of the wall that a request failed with; undefined where it is none. Attempts are recorded. */
  answerTo(error: unknown, request: RequestFacts, context?: TenantContext): Promise<Answer | undefined>;
}

const redirectStatus = 303;
/** Values of one header. */
const claimsMax = 8;

export function createGuard(options: GuardOptions): Guard {
  const { attempts, verify } = options;
  // A page that sends to itself would do so for ever.
  const isPublic = publicPaths([...(options.public ?? []), ...Object.values(options.pages ?? {}).map((page) => page.replace(/[?#].*$/s, ''))]);
  const rules = { nameRequired: options.tenantHeader?.required ?? false, asksUnits: options.unit !== undefined };

  const attempted = async (request: RequestFacts, requestId: string, attempt: Attempt | undefined): Promise<void> => {
    if (attempt) await attempts?.record(request, attempt, requestId);
  };

  const decided = async (request: RequestFacts, requestId: string): Promise<Decision> => {
    const identity = await verify(request);
    const tenants = identity ? await tenantClaims(request, options) : [];
    const known: Known = { requestId, identity, tenants, units: unitClaims(request, options) };
    const decision = decide(known, rules);
    if (decision.kind !== 'ask_unit') return decision;
    const unitBelongs = await run(decision.context, async () => (await options.unit?.belongs(decision.unit)) ?? false);
    return decide({ ...known, unitBelongs }, rules);
  };

  return {
    admit: async (request) => {
      const requestId = requestIdOf(request.header(requestIdHeader));
      const seconds = (await attempts?.blockedSeconds(request)) ?? 0;
      if (seconds > 0) {
        const headers = { 'retry-after': String(seconds) };
        return { kind: 'refused', requestId, answer: problemAnswer(new RequestRefusedError('source_blocked'), requestId, { headers }) };
      }
      if (isPublic(request.path)) return { kind: 'public', requestId };
      const decision = await decided(request, requestId).catch(refusedByWall);
      if (decision instanceof WallError) return { kind: 'refused', requestId, answer: problemAnswer(decision, requestId) };
      if (decision.kind === 'admitted') return { kind: 'admitted', requestId, context: decision.context };
      if (decision.kind === 'ask_unit') throw new TypeError('the unit was asked for twice');
      await attempted(request, requestId, decision.attempt);
      return { kind: 'refused', requestId, answer: refusalAnswer(decision.error, request, { requestId, pages: options.pages }) };
    },
    answerTo: async (thrown, request, context) => {
      const error = wallErrorOf(thrown);
      if (!error) return undefined;
      const requestId = context?.requestId ?? requestIdOf(request.header(requestIdHeader));
      if (error instanceof CrossTenantError && context) {
        const actor = context.user === undefined ? null : String(context.user);
        await attempted(request, requestId, { kind: 'row', actor, tenant: String(context.tenant), claimed: null });
      }
      return problemAnswer(error, requestId);
    },
  };
}

/** The wall refuses a tenant that is suspended or gone when the unit is asked for. */
function refusedByWall(error: unknown): WallError {
  const refused = wallErrorOf(error);
  if (refused) return refused;
  throw error;
}

/** A browser that asks for a page goes to where it can sign in, or select; a program gets the problem. */
function refusalAnswer(error: RequestRefusedError, request: RequestFacts, given: { requestId: string; pages: GuardOptions['pages'] }): Answer {
  const { requestId, pages } = given;
  const page = error.code === 'unauthenticated' ? pages?.signIn : error.code === 'tenant_unselected' ? pages?.select : undefined;
  if (page !== undefined && request.method === 'GET' && /\btext\/html\b/i.test(request.header('accept') ?? '')) {
    return { status: redirectStatus, headers: { location: page, 'cache-control': 'no-store', [requestIdHeader]: requestId }, body: '' };
  }
  return problemAnswer(error, requestId, page !== undefined && error.code === 'tenant_unselected' ? { extra: { select: page } } : {});
}

/** `/assets/*` is everything below `/assets/`. Paths are compared as they were sent: what is spelled otherwise is not public. */
function publicPaths(patterns: readonly string[]): (path: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.endsWith('/*')));
  const below = patterns.filter((pattern) => pattern.endsWith('/*')).map((pattern) => pattern.slice(0, -1));
  return (path) => exact.has(path) || below.some((prefix) => path.startsWith(prefix));
}

async function tenantClaims(request: RequestFacts, { tenantHeader, subdomain }: GuardOptions): Promise<Claimed<'tenant'>[]> {
  const header = request.header(tenantHeader?.name ?? 'x-tenant-id');
  const values = listed(header);
  // So many name nobody, and are not compared one by one.
  const named = values.length > claimsMax && header !== null ? [header] : values;
  const host = hostOf(request.header('host'));
  const label = subdomain && labelOf(host, subdomain.of);
  if (!subdomain || label === undefined || subdomain.except?.includes(label)) return named.map((value) => claimOf(value));
  // A label of nobody is refused like one of somebody else, so that the answer does not tell which there are.
  return [...named, (await subdomain.tenantOf(label)) ?? host].map((value) => claimOf(value));
}

function unitClaims(request: RequestFacts, { unit }: GuardOptions): Claimed<'unit'>[] {
  return unit ? listed(request.header(unit.header ?? 'x-unit-id')).map((value) => claimOf(value)) : [];
}

function hostOf(header: string | null): string {
  return (header ?? '').toLowerCase().replace(/:\d+$/, '').replace(/\.$/, '');
}

/** `acme` of `acme.app.example.com` below `app.example.com`; undefined for any other host. */
function labelOf(host: string, parent: string): string | undefined {
  const ending = `.${parent.toLowerCase()}`;
  return host.endsWith(ending) && host.length > ending.length ? host.slice(0, -ending.length) : undefined;
}
