import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { busyTenant, loadCustomers } from './api/customers-database.ts';
import { type Load, load } from './api/load.ts';
import { startServer } from './api/servers.ts';
import type { BenchContext } from './harness.ts';
import { atLeast, type BenchResult, type Figure, median, percentile } from './report.ts';

export const about = 'the control plane over HTTP: a list with everything on against the bare framework, and 10,000 tenants';

const tenants = 10_000;
/** Two servers, the client and PostgreSQL share two cores: more connections only queue. */
const connections = 8;

export async function run(context: BenchContext): Promise<BenchResult> {
  const url = await context.createDatabase('customers');
  context.say(`loading ${tenants} tenants`);
  const token = await loadCustomers(url, tenants);
  const keyring = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bench-keyring-'));
  try {
    const requests = await compareRequests(context, url, token, keyring);
    return { checks: [...requests.checks], figures: [...requests.figures] };
  } finally {
    await fs.rm(keyring, { recursive: true, force: true });
  }
}

/** Windows of the two servers in turns, so that whatever else the machine does hits both alike. */
async function compareRequests(context: BenchContext, url: string, token: string, keyring: string): Promise<BenchResult & { figures: Figure[] }> {
  const windows = context.quick ? 2 : 12;
  const milliseconds = context.quick ? 500 : 2_000;
  const bare = await startServer('bare-server.ts', [url, busyTenant]);
  const walled = await startServer('walled-server.ts', [url, keyring]);
  try {
    const ask = (origin: string): Promise<Load> =>
      load(`${origin}/api/customers?limit=50`, { authorization: `Bearer ${token}` }, { connections, milliseconds });
    context.say('asking the bare and the walled server in turns');
    await ask(bare.origin);
    await ask(walled.origin);
    const taken: { bare: Load[]; walled: Load[] } = { bare: [], walled: [] };
    for (let turn = 0; turn < windows; turn += 1) {
      const order = turn % 2 === 0 ? (['bare', 'walled'] as const) : (['walled', 'bare'] as const);
      for (const which of order) taken[which].push(await ask(which === 'bare' ? bare.origin : walled.origin));
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
  } finally {
    await bare.stop();
    await walled.stop();
  }
}
