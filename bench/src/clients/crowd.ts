import type { Client, ClientUnderTest } from '@partywall/clients/client';
import { customerId, customerName, tenantId } from '@partywall/clients/schema';
import { createWalledPool, run } from '@partywall/wall';
import { percentile } from '../report.ts';
import { customersPerTenant } from './database.ts';
import { ended } from './latency.ts';

const connections = 20;

export interface CrowdResult {
  readonly calls: number;
  readonly callsPerSecond: number;
  /** Answers that were not exactly the tenant's own rows. */
  readonly wrong: number;
  /** Connections that were not handed back, or more than the pool may have. */
  readonly leaked: number;
  readonly p99Ms: number;
}

/** Tenants that all work at once over a few connections until the time is up: reads, changes, and transactions of several calls. */
export async function crowd(
  under: ClientUnderTest,
  url: string,
  { tenants, ms, signal }: { readonly tenants: number; readonly ms: number; readonly signal: AbortSignal },
): Promise<CrowdResult> {
  const pool = createWalledPool({ connectionString: url, max: connections, nameStatements: true, ...under.options });
  const client = await under.over(pool);
  const times: number[] = [];
  let wrong = 0;
  const until = performance.now() + ms;
  const work = async (tenant: number): Promise<void> => {
    for (let turn = tenant; performance.now() < until && !signal.aborted; turn += 1) {
      const from = performance.now();
      const right = await oneCall(client, tenant, turn);
      times.push(performance.now() - from);
      if (!right) wrong += 1;
    }
  };
  await Promise.all(Array.from({ length: tenants }, (_, at) => run({ tenant: tenantId(at + 1) }, () => work(at + 1))));
  signal.throwIfAborted();
  const leaked = Math.max(0, pool.totalCount - connections) + (pool.totalCount - pool.idleCount) + pool.waitingCount;
  await ended(client, pool);
  return { calls: times.length, callsPerSecond: (times.length / ms) * 1_000, wrong, leaked, p99Ms: percentile(times, 99) };
}

/** Whether the answer was the tenant's own and whole. */
async function oneCall(client: Client, tenant: number, turn: number): Promise<boolean> {
  const customer = (turn % customersPerTenant) + 1;
  const id = customerId(tenant, customer);
  const name = customerName(tenant, customer);
  switch (turn % 5) {
    case 0:
      return allOwn(await client.customers(), tenant);
    case 1:
      return (await client.renameCustomer(id, name)) === 1 && (await client.renameCustomer(customerId(tenant + 1, customer), 'stolen')) === 0;
    case 2:
      return await client.transaction(async (tx) => (await tx.customer(id)) === name && allOwn(await tx.customers(), tenant));
    case 3:
      return (await client.raw(name)).every((row) => row.id === id);
    default:
      return (await client.customer(id)) === name && (await client.customer(customerId(tenant + 1, customer))) === null;
  }
}

function allOwn(names: readonly string[], tenant: number): boolean {
  return names.length === customersPerTenant && names.every((name) => name.endsWith(` of tenant ${tenant}`));
}
