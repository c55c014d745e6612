import { applyWall } from '@partywall/engine';
import pg from 'pg';
import { distribution, type Figure } from '../report.ts';
import { eventsModel, tenantCount, tenantId } from './events-database.ts';

const writerCount = 20;
/** A writer's rest between two statements: twenty of them then keep a two-core machine busy without only measuring its queue. */
const restMs = 5;

export interface LoadReport {
  /** Longest wait of any statement of any writer while a phase ran, in milliseconds. */
  readonly expandMax: number;
  readonly contractMax: number;
  readonly figures: readonly Figure[];
  readonly series: Readonly<Record<string, unknown>>;
}

/**
 * Raises the wall on a table that twenty writers insert into, update and delete from. In expand they are the old application: the
 * owner's role, no context, no knowledge of the new column. In contract they are the switched one: the app role inside a tenant.
 */
export async function applyUnderLoad(url: string, say: (text: string) => void): Promise<LoadReport> {
  const appUrl = new URL(url);
  appUrl.username = eventsModel.roles.app;
  say(`expand, with ${writerCount} writers`);
  const expand = await underLoad(url, oldApplication, () => applyWall({ url, model: eventsModel, phase: 'expand' }));
  say(`contract, with ${writerCount} writers`);
  const contract = await underLoad(appUrl.toString(), switchedApplication, () => applyWall({ url, model: eventsModel, phase: 'contract' }));
  const spread = { expand: distribution(expand.waits), contract: distribution(contract.waits) };
  return {
    expandMax: spread.expand.max,
    contractMax: spread.contract.max,
    figures: [
      { name: 'expand took', value: expand.tookMs / 1_000, unit: 's' },
      { name: 'contract took', value: contract.tookMs / 1_000, unit: 's' },
      ...(['expand', 'contract'] as const).flatMap((phase) => [
        { name: `writes during ${phase}`, value: spread[phase].count, unit: 'statements' },
        { name: `write p50 during ${phase}`, value: spread[phase].p50, unit: 'ms' },
        { name: `write p99 during ${phase}`, value: spread[phase].p99, unit: 'ms' },
      ]),
    ],
    series: { applyUnderLoad: spread },
  };
}

type Write = (client: pg.Client, n: number) => Promise<void>;

/** Runs the writers until `work` is done. An error of a writer is an error of the apply: nobody may notice. */
async function underLoad(url: string, write: Write, work: () => Promise<unknown>): Promise<{ waits: number[]; tookMs: number }> {
  const waits: number[] = [];
  let running = true;
  const writers = Array.from({ length: writerCount }, async (_, writer) => {
    const client = new pg.Client({ connectionString: url, application_name: `writer ${writer}` });
    await client.connect();
    try {
      for (let n = writer; running; n += writerCount) {
        const from = performance.now();
        await write(client, n);
        waits.push(performance.now() - from);
        await new Promise((resolve) => setTimeout(resolve, restMs));
      }
    } finally {
      await client.end();
    }
  });
  const all = Promise.all(writers);
  try {
    // The gate of contract wants to see the application on its role, so the writers come first.
    await Promise.race([all, new Promise((resolve) => setTimeout(resolve, 500))]);
    const from = performance.now();
    await Promise.race([all, work()]);
    const tookMs = performance.now() - from;
    running = false;
    await all;
    return { waits, tookMs };
  } finally {
    running = false;
  }
}

async function oldApplication(client: pg.Client, n: number): Promise<void> {
  const { text, values } = statement(n);
  await client.query(text, values);
}

async function switchedApplication(client: pg.Client, n: number): Promise<void> {
  const { text, values, tenant } = statement(n);
  await client.query('begin');
  await client.query('select partywall.enter($1)', [tenant]);
  await client.query(text, values);
  await client.query('commit');
}

/** Of ten writes: five inserts, four updates, one delete, each of one tenant's rows. */
function statement(n: number): { text: string; values: unknown[]; tenant: string } {
  const project = ((n * 7919) % (tenantCount * 10)) + 1;
  const tenant = tenantId(((project - 1) % tenantCount) + 1);
  if (n % 10 < 5) return { text: "insert into public.events (project_id, kind, body) values ($1, 'load', 'written under load')", values: [project], tenant };
  if (n % 10 < 9)
    return {
      text: 'update public.events set hits = hits + 1 where id = (select id from public.events where project_id = $1 order by id limit 1)',
      values: [project],
      tenant,
    };
  return {
    text: "delete from public.events where id = (select id from public.events where project_id = $1 and kind = 'load' order by id limit 1)",
    values: [project],
    tenant,
  };
}
