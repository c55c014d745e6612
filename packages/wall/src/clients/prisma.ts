import { AsyncLocalStorage } from 'node:async_hooks';
import { currentScope, type Scope } from '../context.ts';
import { WallError } from '../errors.ts';

/**
 * Makes a Prisma 7 client keep the context of who calls it, and returns it. Two things of Prisma lose it otherwise:
 *
 * - Calls of `findUnique` and arrays of `$transaction` wait for the end of the tick, and all that wait are sent in the context of
 *   the first: of fifty tenants in one tick, one gets the answer, and a transaction of B's would write for A. Here what waits is
 *   sent in its own caller's context, and is merged into one query only with what the same context asked for.
 * - A promise of Prisma's starts its work when it is awaited. Here it does so in the context in which it was made, so one that is
 *   returned from `run` as part of an array or object still belongs there.
 *
 * Both are inside Prisma, so this reaches into it, by names that it checks: it throws a `TypeError` for a client in which they are not
 * as in Prisma 7.10, rather than leave it as it is. Extended clients (`$extends`) and interactive transactions made from it are covered.
 *
 * @example
 * const prisma = wallPrisma(new PrismaClient({ adapter: new PrismaPg(createWalledPool({ connectionString })) }));
 */
export function wallPrisma<Client extends object>(client: Client): Client {
  const base = memberOf(client, '_originalClient');
  if (walled.has(base)) return client;
  const loader = memberOf(memberOf(memberOf(base, '_requestHandler'), 'dataloader'), 'options');
  const batchBy = functionOf(loader, 'batchBy');
  const singleLoader = functionOf(loader, 'singleLoader');
  const batchLoader = functionOf(loader, 'batchLoader');
  const createPromise = functionOf(base, '_createPrismaPromise');

  Reflect.set(loader, 'batchBy', (request: object) => {
    callers.set(request, AsyncLocalStorage.snapshot());
    const batch = batchBy(request);
    return typeof batch === 'string' ? `${contextName(currentScope())} ${batch}` : batch;
  });
  Reflect.set(loader, 'singleLoader', (request: object) => asCaller(request, () => singleLoader(request)));
  Reflect.set(loader, 'batchLoader', (requests: readonly object[]) => asCaller(requests[0], () => batchLoader(requests)));
  Reflect.set(base, '_createPrismaPromise', (start: () => unknown) => createPromise(AsyncLocalStorage.bind(start)));
  walled.add(base);
  return client;
}

const walled = new WeakSet<object>();
const callers = new WeakMap<object, <Result>(fn: () => Result) => Result>();

/** Two objects of one tenant's context are two callers: `user` or `unit` may differ, and whatever else is stored beside the context. */
const contextNames = new WeakMap<Scope, string>();
let contextsNamed = 0;

function contextName(scope: Scope | undefined): string {
  if (!scope) return 'none';
  const known = contextNames.get(scope);
  if (known !== undefined) return known;
  contextsNamed += 1;
  contextNames.set(scope, String(contextsNamed));
  return String(contextsNamed);
}

async function asCaller(request: object | undefined, load: () => unknown): Promise<unknown> {
  const inContext = request && callers.get(request);
  try {
    return await (inContext ? inContext(load) : load());
  } catch (error) {
    throw error instanceof WallError ? new KeptByPrisma(error) : error;
  }
}

/** Prisma makes an error of its own of what has a `code`, and takes over its message and `meta`, where `wallErrorOf` finds the wall's. */
class KeptByPrisma extends Error {
  readonly code: string;
  readonly meta: { readonly cause: WallError };
  constructor(error: WallError) {
    super(error.message, { cause: error });
    this.code = error.code;
    this.meta = { cause: error };
  }
}

function memberOf(owner: object, name: string): object {
  const value: unknown = Reflect.get(owner, name);
  if (typeof value !== 'object' || value === null) throw new TypeError(`wallPrisma: the client has no ${name}, so it is none of Prisma 7 that is known here`);
  return value;
}

function functionOf(owner: object, name: string): (...given: readonly unknown[]) => unknown {
  const value: unknown = Reflect.get(owner, name);
  if (typeof value !== 'function') throw new TypeError(`wallPrisma: the client has no ${name}(), so it is none of Prisma 7 that is known here`);
  return (...given) => Reflect.apply(value, owner, given);
}
