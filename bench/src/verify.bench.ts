import { applyWall, checkModel, connect, inferModel, readCatalog, renderConfig, type TenancyModel, type VerifyReport, verify } from '@partywall/engine';
import type { BenchContext } from './harness.ts';
import { atMost, type BenchResult, type Check, elapsedMs, type Figure } from './report.ts';
import { generateSchema } from './verify/generated-schema.ts';

export const about = 'inferring, checking and verifying a schema of 150 tables, and judging one of 1,000';

/** A wall over a thousand tables is raised in one transaction each; the server needs room for the locks of the largest. */
export const settings = { max_locks_per_transaction: '1024', fsync: 'off', synchronous_commit: 'off' };

export async function run(context: BenchContext): Promise<BenchResult> {
  const sizes = context.quick ? { product: 30, large: 60 } : { product: 150, large: 1_000 };
  const product = await walled(context, 'product', sizes.product);
  context.say('verifying');
  const report = await verify({ model: product.model, adminUrl: product.url, appUrl: product.appUrl, signal: context.signal });
  refuseUnsound(report);
  const attacksMs = await medianOfThree(() => verify({ model: product.model, adminUrl: product.url, appUrl: product.appUrl, signal: context.signal }));
  const staticMs = await medianOfThree(() => verify({ model: product.model, adminUrl: product.url, staticOnly: true }));

  const large = await walled(context, 'large', sizes.large);
  context.say('judging the large one');
  const largeMs = await medianOfThree(() => verify({ model: large.model, adminUrl: large.url, staticOnly: true }));
  const checks: Check[] = [
    atMost(3_000, { name: `init and check, ${sizes.product} tables`, value: product.inferMs + product.checkMs, unit: 'ms' }),
    atMost(5_000, { name: `static verify, ${sizes.product} tables`, value: staticMs, unit: 'ms' }),
    atMost(60_000, { name: `whole verify with attacks, ${sizes.product} tables`, value: attacksMs, unit: 'ms' }),
    atMost(20_000, { name: `static verify, ${sizes.large} tables`, value: largeMs, unit: 'ms' }),
  ];
  const attempts = report.checks.filter((check) => check.kind === 'attack').reduce((sum, check) => sum + (check.targets ?? 0), 0);
  const figures: Figure[] = [
    { name: `init, ${sizes.product} tables`, value: product.inferMs, unit: 'ms' },
    { name: `check, ${sizes.product} tables`, value: product.checkMs, unit: 'ms' },
    { name: `attacks made, ${sizes.product} tables`, value: attempts, unit: 'results' },
    { name: `init and check, ${sizes.large} tables`, value: large.inferMs + large.checkMs, unit: 'ms' },
    { name: `apply both phases, ${sizes.large} tables`, value: large.applyMs, unit: 'ms' },
  ];
  return { checks, figures };
}

interface Walled {
  readonly url: string;
  readonly appUrl: string;
  readonly model: TenancyModel;
  readonly inferMs: number;
  readonly checkMs: number;
  readonly applyMs: number;
}

async function walled(context: BenchContext, name: string, tables: number): Promise<Walled> {
  const url = await context.createDatabase(name);
  context.say(`generating ${tables} tables`);
  await generateSchema(url, tables);
  const client = await connect(url, { purpose: 'bench' });
  try {
    let model: TenancyModel | undefined;
    // What the two commands do: each reads the catalog afresh.
    const inferMs = await elapsedMs(async () => {
      const inferred = inferModel(await readCatalog(client));
      renderConfig(inferred);
      model = inferred.model;
    });
    if (!model) throw new Error('inferring gave no model');
    const known = model;
    const open = [...known.tables].filter(([, rule]) => rule.scope !== 'scoped' && rule.scope !== 'shared');
    if (open.length > 0) throw new Error(`the generated schema is meant to be clear, and ${open.length} tables are not: ${open[0]?.[0]}`);
    const checkMs = await elapsedMs(async () => {
      const differences = checkModel(known, await readCatalog(client));
      if (differences.length > 0) throw new Error(`checking the model just inferred: ${differences[0]?.message}`);
    });
    context.say(`raising the wall over ${tables} tables`);
    const applyMs = await elapsedMs(async () => {
      await applyWall({ url, model: known, phase: 'expand', signal: context.signal });
      await applyWall({ url, model: known, phase: 'contract', skipGate: true, signal: context.signal });
    });
    return { url, appUrl: context.server.urlFor(name, { user: known.roles.app }), model: known, inferMs, checkMs, applyMs };
  } finally {
    await client.end();
  }
}

/** A figure of a verification that did not ask everything, or of a wall that does not hold, says nothing. */
function refuseUnsound(report: VerifyReport): void {
  const [found] = report.findings;
  if (found) throw new Error(`the wall of the benchmark is not sound: ${found.message}`);
  const [unable] = report.couldNotRun;
  if (unable) throw new Error(`verify could not run in the benchmark: ${unable.target}: ${unable.reason}`);
}

async function medianOfThree(work: () => Promise<unknown>): Promise<number> {
  const times = [await elapsedMs(work), await elapsedMs(work), await elapsedMs(work)].sort((left, right) => left - right);
  return times[1] ?? 0;
}
