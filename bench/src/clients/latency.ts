import type { Client, ClientUnderTest } from '@partywall/clients/client';
import { prisma } from '@partywall/clients/prisma';
import { rlsRecipeOver } from '@partywall/clients/prisma-rls-recipe';
import { customerId, tenantId } from '@partywall/clients/schema';
import { createWalledPool, run, type WalledPoolConfig } from '@partywall/wall';
import pg from 'pg';
import { median, type Pairs, pairs, percentile } from '../report.ts';
import { customersPerTenant } from './database.ts';

export interface Compared {
  /** Median of walled over median of raw. */
  readonly ratio: number;
  readonly rawMs: number;
  readonly walledMs: number;
  /** What the wall adds at the 99th percentile. */
  readonly addedP99Ms: number;
}

/**
 * One point read by a client, over a walled pool and over a plain one as a role that nothing binds, on one connection each, interleaved. Both
 * send the same statement; nothing filters on the raw side. The plain pool sends what the client gives no name without one, as it does by itself.
 */
export async function compareClient(
  under: ClientUnderTest,
  urls: { readonly raw: string; readonly app: string },
  options: { readonly runs: number; readonly tenants: number; readonly walled: WalledPoolConfig },
): Promise<Compared> {
  const rawPool = new pg.Pool({ connectionString: urls.raw, max: 1 });
  const walledPool = createWalledPool({ connectionString: urls.app, max: 1, ...under.options, ...options.walled });
  const raw = await under.over(rawPool);
  const walled = await under.over(walledPool);
  try {
    const { a, b } = await inTurns(options, (id) => [() => walled.customer(id), () => raw.customer(id)]);
    const [walledMs, rawMs] = [median(a), median(b)];
    return { ratio: walledMs / rawMs, rawMs, walledMs, addedP99Ms: percentile(a, 99) - percentile(b, 99) };
  } finally {
    await ended(raw, rawPool);
    await ended(walled, walledPool);
  }
}

/** Prisma over a walled pool against Prisma's own recipe for row level security: how many times as long that takes. */
export async function compareWithRecipe(
  urls: { readonly app: string; readonly recipe: string },
  options: { readonly runs: number; readonly tenants: number },
): Promise<{ readonly ratio: number; readonly recipeMs: number }> {
  const walledPool = createWalledPool({ connectionString: urls.app, max: 1, nameStatements: true });
  const recipePool = new pg.Pool({ connectionString: urls.recipe, max: 1 });
  const walled = await prisma.over(walledPool);
  const recipe = rlsRecipeOver(recipePool);
  try {
    const { a, b } = await inTurns(options, (id) => [async () => await recipe.customer.findUnique({ where: { id } }), () => walled.customer(id)]);
    return { ratio: median(a) / median(b), recipeMs: median(a) };
  } finally {
    await recipe.$disconnect();
    await recipePool.end();
    await ended(walled, walledPool);
  }
}

export async function ended(client: Client, pool: pg.Pool): Promise<void> {
  await client.end();
  if (!pool.ending) await pool.end();
}

const turns = 20;

/** Measures in turns, each for another tenant and inside that tenant's context; both members of a pair read the same row. */
async function inTurns(
  { runs, tenants }: { readonly runs: number; readonly tenants: number },
  ways: (id: string) => [() => Promise<unknown>, () => Promise<unknown>],
): Promise<Pick<Pairs, 'a' | 'b'>> {
  const all = { a: [] as number[], b: [] as number[] };
  for (let turn = 0; turn < turns; turn += 1) {
    const tenant = ((turn * 389) % tenants) + 1;
    let calls = 0;
    const next = (way: 0 | 1) => () => {
      const id = customerId(tenant, 1 + (Math.floor(calls / 2) % customersPerTenant));
      calls += 1;
      return ways(id)[way]();
    };
    const { a, b } = await run({ tenant: tenantId(tenant) }, () => pairs(next(0), next(1), Math.ceil(runs / turns)));
    all.a.push(...a);
    all.b.push(...b);
  }
  return all;
}
