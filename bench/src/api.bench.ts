import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { compareCounting } from './api/counting.ts';
import { busyTenant, loadCustomers } from './api/customers-database.ts';
import { type Load, load } from './api/load.ts';
import { startServer } from './api/servers.ts';
import { measureTenants } from './api/ten-thousand.ts';
import type { BenchContext } from './harness.ts';
import { atLeast, atMost, type BenchResult, median, percentile } from './report.ts';

export const about = 'the control plane over HTTP: a list with everything on against the bare framework, and 10,000 tenants';

const tenants = 10_000;
/** Two servers, the client and PostgreSQL share two cores: more connections only queue. */
const connections = 8;

export async function run(context: BenchContext): Promise<BenchResult> {
  const url = await context.createDatabase('customers');
  context.say(`loading ${tenants} tenants`);
  const tokens = await loadCustomers(url, tenants);
  const keyring = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bench-keyring-'));
  try {
    const bare = await startServer('bare-server.ts', [url, busyTenant]);
    const walled = await startServer('walled-server.ts', [url, keyring]);
    try {
      const requests = await compareRequests(context, { bare: bare.origin, walled: walled.origin }, tokens.admin);
      context.say('asking with and without accounting');
      const counting = await compareCounting(walled.origin, tokens.admin, context.quick ? 200 : 10_000);
      const accounting = atMost(3, { name: 'accounting of a request, of its time', value: 100 * (counting.ratio - 1), unit: '% more' });
      const operator = await measureTenants(context, walled.origin, tokens.operator);
      return { checks: [...requests.checks, accounting, ...operator.checks], figures: [...(requests.figures ?? []), ...(operator.figures ?? [])] };
    } finally {
      await bare.stop();
      await walled.stop();
    }
  } finally {
    await fs.rm(keyring, { recursive: true, force: true });
  }
}

/** Windows of the two servers in turns, so that whatever else the machine does hits both alike. */
async function compareRequests(context: BenchContext, origins: Readonly<Record<'bare' | 'walled', string>>, token: string): Promise<BenchResult> {
  const windows = context.quick ? 2 : 12;
  const milliseconds = context.quick ? 500 : 2_000;
  const ask = (which: 'bare' | 'walled'): Promise<Load> =>
    load(`${origins[which]}/api/customers?limit=50`, { authorization: `Bearer ${token}` }, { connections, milliseconds });
  context.say('asking the bare and the walled server in turns');
  await ask('bare');
  await ask('walled');
  const taken: { bare: Load[]; walled: Load[] } = { bare: [], walled: [] };
  for (let turn = 0; turn < windows; turn += 1) {
    for (const which of turn % 2 === 0 ? (['bare', 'walled'] as const) : (['walled', 'bare'] as const)) taken[which].push(await ask(which));
  }
  const rate = (loads: readonly Load[]): number => median(loads.map(({ requestsPerSecond }) => requestsPerSecond));
  const p99 = (loads: readonly Load[]): number =>
    percentile(
      loads.flatMap(({ latencies }) => latencies),
      99,
    );
  const share = (100 * rate(taken.walled)) / rate(taken.bare);
  return {
    checks: [atLeast(60, { name: 'requests per second with sign-in, context, wall, accounting', value: share, unit: '% of bare' })],
    figures: [
      { name: 'GET /api/customers?limit=50, bare', value: rate(taken.bare), unit: '/s' },
      { name: 'GET /api/customers?limit=50, walled', value: rate(taken.walled), unit: '/s' },
      { name: 'P99, bare', value: p99(taken.bare), unit: 'ms' },
      { name: 'P99, walled', value: p99(taken.walled), unit: 'ms' },
    ],
  };
}
