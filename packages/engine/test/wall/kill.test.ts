import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import pg from 'pg';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { randomNumbers } from '../../../../test/support/random-numbers.ts';
import type { TenancyModel } from '../../src/model/model.ts';
import { applyWall } from '../../src/wall/apply.ts';
import type { WallStep } from '../../src/wall/plan.ts';
import { rollbackWall } from '../../src/wall/rollback.ts';
import { apply, fixtureTemplate, onDatabase, template, testRoles, withCatalogClient } from './databases.ts';
import { fixtureModel } from './fixture.ts';
import { type State, stateOf } from './state.ts';

const operations = ['expand', 'contract', 'expanded', 'nothing'] as const;
type Operation = (typeof operations)[number];

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
/** Statements of a run after its first step begins, before it dies; more where the last runs did not get past one transaction. */
const statementsMax = { first: 40, more: 20 } as const;
const killsMax = 400;

const roles = testRoles();
const model: TenancyModel = fixtureModel(roles);
const templates = new Map<Operation, string>();
const finished = new Map<Operation, State>();

beforeAll(async () => {
  const fixture = await fixtureTemplate(roles);
  // Rows enough for several batches.
  const rows = "insert into contacts (customer_id, name) select 1 + i % 4, repeat('x', 900) from generate_series(1, 3000) i";
  const loaded = await template(async (url) => void (await onDatabase(url, (client) => client.query(rows))), fixture);
  const expanded = await template(async (url) => void (await apply(url, model, 'expand')), loaded);
  const contracted = await template(async (url) => void (await apply(url, model, 'contract')), expanded);
  const before = { expand: loaded, contract: expanded, expanded: contracted, nothing: contracted };
  for (const operation of operations) {
    templates.set(operation, before[operation]);
    const database = await createDatabase({ template: before[operation] });
    await run(database.url, operation, () => undefined);
    finished.set(operation, await withCatalogClient(database.url, (client) => stateOf(client)));
  }
});

const send = pg.Client.prototype.query;
afterEach(() => {
  pg.Client.prototype.query = send;
});

describe.each(operations)(`a run to %s (seed ${seed})`, (operation) => {
  test('that loses its connection again and again, at any statement, ends in the same state', async () => {
    const database = await createDatabase({ template: templates.get(operation) ?? '' });
    const random = randomNumbers(seed + operations.indexOf(operation));
    const moments = new Map<Moment, number>();
    let kills = 0;
    let stalled = 0;
    let lastStep: string | undefined;
    for (; kills < killsMax; kills += 1) {
      const moment = (['before', 'during', 'after'] as const)[Math.floor(random() * 3)] ?? 'before';
      const statement = 1 + Math.floor(random() * (statementsMax.first + stalled * statementsMax.more));
      const { survived, firstStep } = await runCut(database.url, operation, statement, moment);
      await sessionsGone(database);
      if (survived) break;
      stalled = firstStep === lastStep ? stalled + 1 : 0;
      lastStep = firstStep;
      moments.set(moment, (moments.get(moment) ?? 0) + 1);
    }
    expect(kills).toBeGreaterThan(10);
    expect(kills).toBeLessThan(killsMax);
    expect([...moments.keys()].sort()).toEqual(['after', 'before', 'during']);
    expect(await withCatalogClient(database.url, (client) => stateOf(client))).toEqual(finished.get(operation));
  });

  test('that is killed as a process completes when it is run again', async () => {
    const database = await createDatabase({ template: templates.get(operation) ?? '' });
    const random = randomNumbers(seed * 7 + operations.indexOf(operation));
    for (const answered of [false, true]) {
      const statement = 1 + Math.floor(random() * 60);
      const child = spawn(
        process.execPath,
        [
          '--conditions=partywall-source',
          path.join(import.meta.dirname, 'killed-run.ts'),
          JSON.stringify({ url: database.url, roles, operation, statement, answered }),
        ],
        { stdio: ['ignore', 'ignore', 'inherit'] },
      );
      const [, signal] = await once(child, 'exit');
      expect(signal, `statement ${statement}`).toBe('SIGKILL');
      await sessionsGone(database);
    }
    await run(database.url, operation, () => undefined);
    expect(await withCatalogClient(database.url, (client) => stateOf(client))).toEqual(finished.get(operation));
  });
});

async function run(url: string, operation: Operation, onStep: (step: WallStep) => void): Promise<void> {
  if (operation === 'expand' || operation === 'contract') {
    await applyWall({ url, model, phase: operation, skipGate: true, onProgress: (event) => (event.kind === 'step' ? onStep(event.step) : undefined) });
  } else {
    await rollbackWall({ url, model, to: operation, onProgress: onStep });
  }
}

type Moment = 'before' | 'during' | 'after';

/** Cuts the run's connection at its `statement`th statement after the first step began, if it gets that far. */
async function runCut(url: string, operation: Operation, statement: number, moment: Moment): Promise<{ survived: boolean; firstStep: string | undefined }> {
  let left = Number.POSITIVE_INFINITY;
  let cut = false;
  let firstStep: string | undefined;
  pg.Client.prototype.query = async function (this: pg.Client, ...given: Parameters<typeof send>) {
    left -= 1;
    if (left !== 0) return send.apply(this, given);
    cut = true;
    const { stream } = this.connection;
    if (moment === 'before') stream.destroy();
    const answer = send.apply(this, given);
    if (moment === 'after') await answer;
    stream.destroy();
    return answer;
  } as typeof send; // the engine calls it in this form only
  try {
    await run(url, operation, (step) => {
      if (left === Number.POSITIVE_INFINITY) left = statement;
      firstStep ??= step.id;
    });
    return { survived: !cut, firstStep };
  } catch (error) {
    if (!cut) throw error;
    return { survived: false, firstStep };
  } finally {
    pg.Client.prototype.query = send;
  }
}

/** The server notices a lost client when it next looks; a statement under way goes on until then. */
async function sessionsGone(database: TestDatabase): Promise<void> {
  const count = async () =>
    (await database.query("select from pg_stat_activity where datname = current_database() and application_name like 'partywall%'")).rowCount;
  await expect.poll(count, { timeout: 10_000, interval: 5 }).toBe(0);
}
