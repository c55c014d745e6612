import { changeSeal, connect } from '@partywall/engine';
import type { BenchContext } from './harness.ts';
import { atLeast, atMost, type BenchResult, type Check, type Figure } from './report.ts';
import { applyUnderLoad } from './wall/apply-under-load.ts';
import { eventsModel, loadEvents } from './wall/events-database.ts';
import { measureLatency } from './wall/latency.ts';
import { tenantIndexPlans } from './wall/plans.ts';
import { startPooler } from './wall/pooler.ts';

export const about = 'raising the wall under load, then walled queries against raw ones, on a million rows of a thousand tenants';

export async function run(context: BenchContext): Promise<BenchResult> {
  const rows = context.quick ? 50_000 : 1_000_000;
  const runs = context.quick ? 300 : 5_000;
  const url = await context.createDatabase('events');
  context.say(`loading ${rows} rows`);
  await loadEvents(url, rows);
  const load = await applyUnderLoad(url, context.say);
  context.say('reading plans');
  const plans = await tenantIndexPlans(url);
  context.say('measuring latency');
  const seal = await sealKey(url);
  const named = await measureLatency(url, 'named', { runs, seal, label: '' });
  const unnamed = await measureLatency(url, 'unnamed', { runs, seal, label: '' });
  const checks: Check[] = [
    atMost(1_000, { name: 'longest wait of a writer during expand', value: load.expandMax, unit: 'ms' }),
    atMost(1_000, { name: 'longest wait of a writer during contract', value: load.contractMax, unit: 'ms' }),
    atLeast(plans.length, {
      name: 'plans by the tenant index or the primary key under RLS',
      value: plans.filter((plan) => plan.usesIndex).length,
      unit: `of ${plans.length}`,
    }),
    atMost(1.2, { name: 'walled point read, named', value: named.point, unit: '× raw' }),
    atMost(1.6, { name: 'walled point read, unnamed', value: unnamed.point, unit: '× raw' }),
    atMost(1.45, { name: 'sealed point read, named', value: named.sealed, unit: '× raw' }),
    atMost(1.1, { name: 'walled 50-row list, named', value: named.list, unit: '× raw' }),
    atMost(1.1, { name: 'walled 50-row list, unnamed', value: unnamed.list, unit: '× raw' }),
    atLeast(2.2, { name: 'begin, set_config, query, commit, named', value: named.againstTransaction, unit: '× walled' }),
    atLeast(2.2, { name: 'begin, set_config, query, commit, unnamed', value: unnamed.againstTransaction, unit: '× walled' }),
    atMost(5, { name: 'added latency of a walled point read, P99', value: named.addedP99Ms, unit: 'ms' }),
  ];
  const pooled = await throughPooler(context, url, { runs, seal });
  return { checks, figures: [...named.figures, ...unnamed.figures, ...pooled, ...load.figures], series: { ...load.series, plans } };
}

/** A key, and no sealing: a pool with the key seals in any case, and one without is measured beside it. */
async function sealKey(url: string): Promise<string> {
  const client = await connect(url, { purpose: 'bench' });
  let key = '';
  try {
    await changeSeal(
      client,
      eventsModel,
      { kind: 'rotate' },
      {
        actor: { kind: 'operator', id: 'bench' },
        onKey: async (text) => {
          key = text;
        },
      },
    );
    return key;
  } finally {
    await client.end();
  }
}

async function throughPooler(context: BenchContext, url: string, { runs, seal }: { runs: number; seal: string }): Promise<Figure[]> {
  const pooler = await startPooler(url);
  if (!pooler) {
    context.say('PgBouncer is not installed: its figures are left out');
    return [];
  }
  try {
    context.say('measuring latency through PgBouncer');
    // Debian's PgBouncer does not know prepared statements in transaction mode, so only unnamed statements are compared.
    const report = await measureLatency(pooler.url, 'unnamed', { runs, seal, label: ', PgBouncer', preparedStatements: false });
    return [
      ...report.figures,
      { name: 'walled point read, unnamed, PgBouncer', value: report.point, unit: '× raw' },
      { name: 'sealed point read, unnamed, PgBouncer', value: report.sealed, unit: '× raw' },
    ];
  } finally {
    await pooler.stop();
  }
}
