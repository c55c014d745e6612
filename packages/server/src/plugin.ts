import { type Actor, type ControlDatabase, type Durable, inProcess, type Operation, type Placements, type SlowQueryLog, worksOf } from '@partywall/engine';
import { run } from '@partywall/wall';
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify';
import fp from 'fastify-plugin';
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod';
import { decide, type Wanted } from './access.ts';
import { registerAccounting } from './account.ts';
import type { DeliveryOptions } from './delivery/deliver.ts';
import { createDenials, type Denials } from './denials.ts';
import { registerIdempotency } from './idempotency.ts';
import { type LimitOptions, registerLimits } from './limits.ts';
import { registerLogging } from './logging.ts';
import { registerMeter } from './meter.ts';
import { registerDocument, registerOpenApi } from './openapi.ts';
import { authenticate } from './people/authenticate.ts';
import { refuseForeignOrigin } from './people/origin.ts';
import { createPeople, type People } from './people/people.ts';
import type { PeopleOptions } from './people/people-options.ts';
import type { Principal } from './people/principal.ts';
import { refuseInactiveTenant } from './people/tenant-status.ts';
import { problem, problemOf } from './problem.ts';
import { recordForeignId, recordRefusal, targetOf } from './refusals.ts';
import { registerAlerts } from './routes/alerts.ts';
import { registerAttempts } from './routes/attempts.ts';
import { registerAudit } from './routes/audit.ts';
import { type ArchiveOptions, registerBackups } from './routes/backups.ts';
import { registerClones } from './routes/clones.ts';
import { registerHealth } from './routes/health.ts';
import { registerIncidents } from './routes/incidents.ts';
import { registerMetrics } from './routes/metrics.ts';
import { processRegistry } from './routes/metrics-registry.ts';
import { registerMoves } from './routes/moves.ts';
import { registerPeople } from './routes/people.ts';
import { registerPlans } from './routes/plans.ts';
import { registerQuotas } from './routes/quotas.ts';
import { registerRestores } from './routes/restores.ts';
import { registerRollout } from './routes/rollout.ts';
import { registerTenants } from './routes/tenants.ts';
import { registerTenantDeletion } from './routes/tenants-delete.ts';
import { registerTransfer } from './routes/transfer.ts';
import { registerUsage } from './routes/usage.ts';

export interface ServerOptions {
  readonly database: ControlDatabase;
  readonly people: PeopleOptions;
  readonly limits?: LimitOptions;
  /**
   * Carries out what takes time (`startDurable`). Without one this process does, and what its end cuts off goes on when it is asked for again.
   */
  readonly durable?: Durable;
  /** Bearer token that `/metrics` takes; without one it answers on the loopback interface alone. */
  readonly metricsToken?: string;
  /** Written with the rest of the usage, where the application's pool reports to it. */
  readonly slowQueries?: SlowQueryLog;
  /** How alerts reach their receivers; mail goes through `people.mail` unless another is given. */
  readonly delivery?: DeliveryOptions;
  /** Where backups are kept; without one none are made, and routes that need it answer 409. */
  readonly archive?: ArchiveOptions;
  /** Other databases that tenants can be moved to (`placementsOf`). Whoever gives them closes them. */
  readonly placements?: Placements;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Null on a public route that nobody in particular asked for. */
    principal: Principal | null;
    /** Key of the tenant that the request was admitted to act on, if any. */
    tenant: string | null;
    /** What the request does, as the engine wants it. Throws on a public route. */
    operation(): Operation;
  }
}

/**
 * The control plane as a Fastify plugin. Its hooks hold for the routes of the application it is mounted in too: each declares
 * `config.access`, and runs in the context of the tenant that the request was admitted to.
 *
 * Order of a request: limit of its address, access, rate and API calls of its tenant (onRequest), validation, idempotency (preHandler), handler in
 * the tenant's context, problem details for what fails.
 *
 * What runs beside requests starts in `onReady` and ends in `onClose`, which Fastify calls when the last request has been answered, in the
 * reverse order of registration: what was registered first is there for all others until the end.
 */
export const partywall = fp<ServerOptions>(
  async (app, options) => {
    registerLogging(app);
    const registry = processRegistry();
    const accounting = registerAccounting(app, { ...options, registry });
    await registerLimits(app, options.limits);
    const people = await createPeople(options.database, options.people);
    app.addHook('onClose', () => people.close());
    app.setValidatorCompiler(validatorCompiler);
    app.setSerializerCompiler(serializerCompiler);
    app.setErrorHandler(fail);
    app.decorateRequest('principal', null);
    app.decorateRequest('tenant', null);
    app.decorateRequest('operation', function (this: FastifyRequest) {
      return operationOf(this, options.database);
    });
    await registerOpenApi(app);
    app.addHook('onRoute', declareAccess);
    const denials = createDenials(options.database, app.log);
    app.decorate('denials', denials);
    app.addHook('onClose', () => denials.close());
    app.addHook('onError', (request, _reply, error) => recordRefusal(denials, request, error, options.database));
    app.addHook('onResponse', async (request, reply) => {
      if (reply.statusCode === 404) await recordForeignId(denials, request, options.database);
    });
    app.addHook('onRequest', (request) => admit(request, people, denials));
    const meter = registerMeter(app, options.database);
    const durable = options.durable ?? inProcess(options.database, worksOf(options));
    // One that was given belongs to whoever gave it.
    if (!options.durable) app.addHook('onClose', () => durable.stop());
    registerIdempotency(app, options.database.pool, options.people.secret);
    await app.register(async (own) => {
      // The wall holds an application's routes to the state of their tenant; what the control plane itself answers has to ask.
      own.addHook('onRequest', (request) => refuseInactiveTenant(request, options.database.pool));
      registerHealth(own, options);
      registerAlerts(own, options);
      registerMetrics(own, { ...options, accounting, registry });
      registerUsage(own);
      registerDocument(own);
      registerPeople(own, people);
      registerTenants(own);
      registerTenantDeletion(own, durable);
      registerAttempts(own);
      registerRollout(own);
      registerAudit(own);
      registerIncidents(own, options.people.mail);
      registerPlans(own);
      registerQuotas(own, meter);
      registerTransfer(own, options);
      registerBackups(own, { durable, archive: options.archive });
      registerRestores(own, { durable, archive: options.archive });
      registerClones(own, { durable, archive: options.archive });
      registerMoves(own, { durable, placements: options.placements });
    });
  },
  { name: 'partywall', fastify: '5.x' },
);

/** Refuses a route that does not say who may use it, and puts the others into their tenant's context. */
function declareAccess(route: RouteOptions): void {
  const { access } = route.config ?? {};
  if (access === undefined) throw new TypeError(`route ${String(route.method)} ${route.url} declares no access`);
  const { handler } = route;
  // The handler is wrapped and not a hook's `done`: `run` then sees its promise, and what follows the reply has no tenant.
  route.handler = function (request, reply) {
    const { tenant, principal } = request;
    if (tenant === null) return handler.call(this, request, reply);
    return run({ tenant, user: principal?.id, requestId: request.id }, () => handler.call(this, request, reply));
  };
}

async function admit(request: FastifyRequest, people: People, denials: Denials): Promise<void> {
  const { access, scope, tenant: source = access === 'super_admin' ? 'none' : 'own' } = request.routeOptions.config;
  if (access === undefined || access === 'public') return;
  const principal = await authenticate(request, people);
  request.principal = principal ?? null;
  if (principal?.byCookie) refuseForeignOrigin(request, people.origins);
  const wanted: Wanted = { access, source, scope, named: named(request, source), header: header(request, 'x-tenant-id') };
  const verdict = decide(principal, wanted);
  switch (verdict.kind) {
    case 'admitted':
      request.tenant = verdict.tenant ?? null;
      return;
    case 'unauthorized':
      throw problem('unauthorized');
    case 'forbidden':
      throw problem('forbidden');
    case 'foreign':
      await denials.recordForeign(request.operation(), verdict.tenant, targetOf(request));
      throw problem('not_found');
    case 'undecided':
      throw problem('invalid_request', { fields: [{ field: 'headers/x-tenant-id', message: 'names the tenant to act on' }] });
  }
}

function named(request: FastifyRequest, source: string): string | undefined {
  const from: unknown = source === 'path' ? request.params : source.startsWith('query') ? request.query : undefined;
  if (typeof from !== 'object' || from === null) return undefined;
  const value: unknown = Reflect.get(from, source === 'path' ? 'id' : 'tenantId');
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function operationOf(request: FastifyRequest, database: ControlDatabase): Operation {
  const { principal } = request;
  if (!principal) throw new TypeError(`${request.method} ${request.routeOptions.url} acts for nobody`);
  const actor: Actor = { kind: principal.kind, id: principal.id, name: principal.name, address: request.ip };
  return { database, actor, requestId: request.id };
}

function fail(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const answer = problemOf(error);
  if (answer.status >= 500) request.log.error({ failure: summary(answer.cause ?? answer) }, 'the request failed');
  if (answer.status === 401) reply.header('www-authenticate', 'Bearer');
  if (answer.code === 'try_again' || answer.code === 'idempotency_running') reply.header('retry-after', '1');
  reply.code(answer.status).type('application/problem+json').serializer(JSON.stringify).send(answer.body(request.id));
}

/** Chosen fields and not the error itself: a database error carries rows in `detail`, a connection error its options. */
function summary(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  return { name: error.name, message: error.message, code: 'code' in error ? error.code : undefined, stack: error.stack };
}

/** Registers routes under the plugin's rules: for the modules of `routes/`. */
export type Routes = (app: FastifyInstance, options: ServerOptions) => void;
