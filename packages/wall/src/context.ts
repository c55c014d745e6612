import { AsyncLocalStorage } from 'node:async_hooks';
import { StatementRefusedError, TenantContextError } from './errors.ts';
import type { Visit } from './jobs/visit.ts';

type Id = string | number | bigint;

/** Whose work is being done. `tenant` and `unit` reach the database; the rest is for the application's own checks, logs and audit. */
export interface TenantContext {
  /** Key of the tenant root table, in the form the database prints or any form its type reads. */
  readonly tenant: Id;
  readonly user?: Id | undefined;
  /** Second-level scope inside the tenant, e.g. a business unit; a database whose model has no units takes no notice of it. */
  readonly unit?: Id | undefined;
  readonly requestId?: string | undefined;
}

/**
 * What a statement runs for. `system` is work that belongs to no tenant and says so; `setup` are the statements that an
 * application or library sends on a new connection, before anybody works on it. `none` is a statement outside any context that a roll-out
 * lets through. `visit` is the turn in a job that the statement belongs to.
 */
export type Scope = { readonly visit?: Visit | undefined } & (
  | { readonly kind: 'tenant'; readonly tenant: string; readonly unit?: string | undefined; readonly context: TenantContext }
  | { readonly kind: 'system'; readonly purpose: string }
  | { readonly kind: 'setup' }
  | { readonly kind: 'none' }
);

/** Purposes counted apart; what comes after shares one line, so that a purpose made from data cannot fill the memory. */
const systemPurposesMax = 1_000;
const otherPurposes = '(other)';

const storage = new AsyncLocalStorage<Scope>();
const uses = new Map<string, number>();

/**
 * Runs `fn` inside a tenant's context and resolves to its result. The result is awaited inside: a promise that starts its work only
 * when awaited, as Prisma's do, starts it in the context.
 *
 * @example
 * const rows = await run({ tenant: 'b2c0…', user: 'u_17' }, () => pool.query('select * from invoices'));
 */
export function run<Result>(context: TenantContext, fn: () => Result | PromiseLike<Result>): Promise<Result> {
  const { tenant, unit } = context;
  if (!isId(tenant)) {
    return Promise.reject(new TenantContextError({ message: `entering a context: ${shown(tenant)} is no tenant id`, hint: 'pass the key of the tenant' }));
  }
  if (unit !== undefined && !isId(unit)) {
    return Promise.reject(new TenantContextError({ message: `entering a context: ${shown(unit)} is no unit id`, hint: 'pass the key of the unit, or none' }));
  }
  const scope: Scope = {
    kind: 'tenant',
    tenant: String(tenant),
    unit: unit === undefined ? undefined : String(unit),
    context: Object.freeze({ ...context }),
    visit: storage.getStore()?.visit,
  };
  return storage.run(scope, async () => await fn());
}

/** The context of the running code. Throws `TenantContextError` outside `run`, and inside `system`. */
export function current(): TenantContext {
  const scope = storage.getStore();
  if (scope?.kind === 'tenant') return scope.context;
  throw new TenantContextError({ message: scope ? `asking for the tenant in a ${scope.kind} context` : 'asking for the tenant outside any context' });
}

/** The context of the running code, or undefined outside `run` and inside `system`. */
export function tryCurrent(): TenantContext | undefined {
  const scope = storage.getStore();
  return scope?.kind === 'tenant' ? scope.context : undefined;
}

/**
 * Runs `fn` for no tenant: it reaches shared and platform tables, and a walled table refuses it. `purpose` says why and is counted
 * (`systemUses`), so that what runs outside the wall can be listed.
 */
export function system<Result>(purpose: string, fn: () => Result | PromiseLike<Result>): Promise<Result> {
  if (typeof purpose !== 'string' || purpose.trim() === '') {
    return Promise.reject(
      new StatementRefusedError({ message: `entering the system context for the purpose ${shown(purpose)}`, hint: 'say in a few words what the work is for' }),
    );
  }
  const counted = uses.has(purpose) || uses.size < systemPurposesMax ? purpose : otherPurposes;
  uses.set(counted, (uses.get(counted) ?? 0) + 1);
  return storage.run({ kind: 'system', purpose, visit: storage.getStore()?.visit }, async () => await fn());
}

/** How often each purpose has entered the system context in this process. */
export function systemUses(): ReadonlyMap<string, number> {
  return new Map(uses);
}

/** For the modules of this package. */
export function currentScope(): Scope | undefined {
  return storage.getStore();
}

export function inScope<Result>(scope: Scope, fn: () => Result): Result {
  return storage.run(scope, fn);
}

function isId(value: unknown): value is Id {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value)) || (typeof value === 'string' && value !== '');
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
