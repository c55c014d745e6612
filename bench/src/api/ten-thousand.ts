import { z } from 'zod';
import type { BenchContext } from '../harness.ts';
import { atMost, type BenchResult, elapsedMs, median, percentile } from '../report.ts';

const page = z.object({ items: z.array(z.object({ id: z.string() })), nextCursor: z.string().nullable() });

/** What an operator with many tenants waits for, over HTTP, one request at a time. */
export async function measureTenants(context: BenchContext, origin: string, token: string): Promise<BenchResult> {
  const runs = context.quick ? 5 : 40;
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const get = async (path: string): Promise<unknown> => answered(await fetch(`${origin}${path}`, { headers }));
  const post = async (path: string, body: object): Promise<unknown> =>
    answered(await fetch(`${origin}${path}`, { method: 'POST', headers, body: JSON.stringify(body) }));

  context.say('listing, searching and provisioning tenants');
  let cursor = '';
  const list = await times(runs, async () => {
    const { nextCursor } = page.parse(await get(`/api/admin/tenants?limit=50${cursor}`));
    cursor = nextCursor === null ? '' : `&cursor=${nextCursor}`;
  });
  // Beginnings of what the names hold: one to a few hundred tenants each.
  const search = await times(runs, (at) => get(`/api/admin/tenants?search=${(at * 2_654_435_761).toString(16).slice(0, 2 + (at % 3))}`));
  const provision = await times(runs, (at) =>
    post('/api/admin/tenants/provision', {
      name: `Provisioned ${at} ${Date.now()}`,
      contactEmail: 'office@new.example',
      adminName: 'Ada Admin',
      adminEmail: `ada-${at}-${Date.now()}@new.example`,
      adminPassword: 'a password of some length',
      plan: 'pro',
    }),
  );
  context.say('evaluating alerts over all tenants');
  const evaluate = await times(context.quick ? 1 : 5, () => post('/api/admin/alerts/evaluate', {}));
  return {
    checks: [
      atMost(50, { name: 'list of 50 of 10,000 tenants', value: median(list), unit: 'ms' }),
      atMost(50, { name: 'search among 10,000 tenants', value: median(search), unit: 'ms' }),
      atMost(150, { name: 'provision, password hashing included', value: median(provision), unit: 'ms' }),
      atMost(5_000, { name: 'alert evaluation over 10,000 tenants', value: median(evaluate), unit: 'ms' }),
    ],
    figures: [
      { name: 'list of 50 of 10,000 tenants, P99', value: percentile(list, 99), unit: 'ms' },
      { name: 'search among 10,000 tenants, P99', value: percentile(search, 99), unit: 'ms' },
      { name: 'provision, P99', value: percentile(provision, 99), unit: 'ms' },
      { name: 'alert evaluation, first (opens 200 alerts)', value: evaluate[0] ?? Number.NaN, unit: 'ms' },
    ],
  };
}

async function times(runs: number, work: (at: number) => Promise<unknown>): Promise<number[]> {
  const taken: number[] = [];
  for (let at = 0; at < runs; at += 1) taken.push(await elapsedMs(() => work(at)));
  return taken;
}

async function answered(answer: Response): Promise<unknown> {
  if (!answer.ok) throw new Error(`${answer.url} answered ${answer.status}: ${await answer.text()}`);
  return answer.json();
}
