import { type Actor, type ControlDatabase, type Operation, ownerOfRow, parseTableName, sqlState, type WallReference, wallReference } from '@partywall/engine';
import type { FastifyRequest } from 'fastify';
import { atMost, type Denial, type Denials, waitMsMax } from './denials.ts';
import { problemOf } from './problem.ts';

/**
 * Which failures of a request are attempts that the audit log must hold, for the routes of the control plane and of the application alike. The
 * refused transaction is the application's and has rolled back: only here, where its error arrives, can it be recorded. An error that the
 * application catches and answers by itself does not arrive.
 */
const actions: Readonly<Record<string, string>> = {
  forbidden: 'access.forbidden',
  csrf_refused: 'access.foreign_origin',
  cross_tenant: 'access.cross_tenant',
  tenant_suspended: 'access.inactive_tenant',
  tenant_cancelled: 'access.inactive_tenant',
  tenant_read_only: 'access.inactive_tenant',
};

/** Records the refusal that an error stands for, if it stands for one. The answer waits for it, but not for long. */
export function recordRefusal(denials: Denials, request: FastifyRequest, error: unknown, database: ControlDatabase): Promise<void> {
  return atMost(waitMsMax, refusal(denials, request, error, database));
}

async function refusal(denials: Denials, request: FastifyRequest, error: unknown, database: ControlDatabase): Promise<void> {
  const { code, cause } = problemOf(error);
  const action = actions[code];
  const reference = action === undefined ? await refusedReference(database, cause).catch((failed: unknown) => logged(request, failed)) : undefined;
  if (action === undefined && reference === undefined) return;
  const denial: Denial = {
    tenant: chainOf(request),
    action: action ?? 'access.foreign_reference',
    target: targetOf(request),
    details: reference ? { ...reference } : { code },
  };
  await denials.record(operationOf(request, database), denial);
}

/** The route, not the address that was asked for: that may hold anything, and makes every attempt another one. */
export function targetOf(request: FastifyRequest): string {
  return `${request.method} ${request.routeOptions.url ?? 'no route'}`;
}

/** The tenant that the request acted on; for one that was not let in, its own, unless the route is the platform's. */
function chainOf({ tenant, principal, routeOptions }: FastifyRequest): string | null {
  if (tenant !== null || principal === null || routeOptions.config.access === 'super_admin') return tenant;
  const [only] = principal.memberships.size === 1 ? principal.memberships.keys() : [];
  return principal.activeTenant ?? only ?? null;
}

function operationOf(request: FastifyRequest, database: ControlDatabase): Operation {
  if (request.principal) return request.operation();
  const actor: Actor = { kind: 'system', id: 'nobody', name: 'not signed in', address: request.ip };
  return { database, actor, requestId: request.id };
}

/**
 * The key of the wall that refused a reference: the row it names is not in the tenant, because it is another's or nobody's. Which of the two is not
 * looked up, and the values stay out: a natural key may be personal. A row that cannot be deleted because others refer to it is no attempt; the
 * message tells it in English alone, so that servers that speak otherwise record it too.
 */
async function refusedReference(database: ControlDatabase, error: unknown): Promise<WallReference | undefined> {
  if (!(error instanceof Error) || sqlState(error) !== '23503' || error.message.startsWith('update or delete on table')) return undefined;
  const { schema, table, constraint } = Object.fromEntries(Object.entries(error).filter(([, value]) => typeof value === 'string'));
  if (schema === undefined || table === undefined || constraint === undefined) return undefined;
  return wallReference(database, { schema, table, constraint });
}

/** Records that the id of a path names another tenant's row, after the answer that there is nothing has gone out. */
export async function recordForeignId(denials: Denials, request: FastifyRequest, database: ControlDatabase): Promise<void> {
  const { tenant, params, routeOptions } = request;
  const id: unknown = typeof params === 'object' && params !== null ? Reflect.get(params, 'id') : undefined;
  const table = parseTableName(routeOptions.config.resource ?? '');
  if (tenant === null || !table || typeof id !== 'string') return;
  try {
    const owner = await ownerOfRow(database, table, id);
    if (owner !== undefined && owner !== tenant) await denials.recordForeign(request.operation(), owner, targetOf(request));
  } catch (error) {
    // What is no id of that table names nobody's row.
    if (!['22P02', '22003', '22021'].includes(sqlState(error) ?? '')) logged(request, error);
  }
}

/** The answer does not depend on what is recorded about it. */
function logged(request: FastifyRequest, error: unknown): undefined {
  request.log.error({ failure: error instanceof Error ? error.message : String(error) }, 'an attempt could not be looked into');
}
