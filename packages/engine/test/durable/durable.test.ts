import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { beginOperation, finishOperation } from '../../src/durable/operations.ts';
import { type Durable, listOperations, readOperation, startDurable, systemDatabaseName, transaction, type Work, type Works } from '../../src/index.ts';
import { systemDatabase } from '../tenants/erasing.ts';

const fixture = await controlDatabase();
const { control, operation } = fixture;
const system = await systemDatabase(fixture);

/** Begins an operation of a kind for a tenant of that name, as whoever decides it does. */
async function begin(kind: string, tenant: string) {
  return transaction(control.pool, (client) => beginOperation(client, operation(), { kind, tenant }));
}

async function ended(id: string) {
  await expect.poll(async () => (await readOperation(control.pool, id)).state, { timeout: 30_000, interval: 20 }).not.toBe('running');
  return readOperation(control.pool, id);
}

async function during(
  options: { works?: Works; schedules?: Parameters<typeof startDurable>[0]['schedules'] },
  work: (durable: Durable) => Promise<void>,
): Promise<void> {
  const durable = await startDurable({
    database: control,
    systemDatabaseUrl: system,
    works: options.works ?? {},
    schedules: options.schedules ?? [],
    sweepIntervalMs: 50,
  });
  try {
    await work(durable);
  } finally {
    await durable.stop();
  }
}

describe('a long operation', () => {
  test('runs its steps once each, as whoever asked for it', async () => {
    const seen: string[] = [];
    const work: Work = async ({ operation: own, id, step }) => {
      seen.push(await step('one', async () => `${own.actor.kind}:${own.actor.id}`));
      await step('two', async () => void seen.push('two'));
      await finishOperation(control.pool, id);
    };
    await during({ works: { work } }, async (durable) => {
      const begun = await begin('work', 'a');
      await durable.start(begun);
      await durable.start(begun);
      await ended(begun.id);
    });
    expect(seen).toEqual(['operator:test', 'two']);
  });

  test('that has begun and was never started is started by whoever sees it', async () => {
    const begun = await begin('work', 'b');
    await during({ works: { work: ({ id }) => finishOperation(control.pool, id) } }, async () => void (await ended(begun.id)));
  });

  test('that fails says what kind of failure it was and quotes no row; begun again it goes on under its id', async () => {
    let mended = false;
    const work: Work = async ({ operation: own, step, id }) => {
      await step('insert', async () => {
        if (!mended) await own.database.pool.query("select 'somebody@secret.example'::int");
      });
      await finishOperation(control.pool, id);
    };
    await during({ works: { work } }, async (durable) => {
      const begun = await begin('work', 'c');
      await durable.start(begun);
      expect(await ended(begun.id)).toMatchObject({ state: 'failed', error: 'the database refused a step with code 22P02' });
      mended = true;
      const again = await begin('work', 'c');
      expect(again).toMatchObject({ id: begun.id, attempt: 2 });
      await durable.start(again);
      expect(await ended(begun.id)).toMatchObject({ state: 'done', error: null });
    });
  });

  test('of a kind that nobody knows fails and does not stay', async () => {
    await during({}, async (durable) => {
      const begun = await begin('unheard of', 'd');
      await durable.start(begun);
      expect((await ended(begun.id)).state).toBe('failed');
    });
  });

  test('is listed, latest first, and paged', async () => {
    const [first, ...others] = await listOperations(operation(), { limit: 2 });
    expect(others).toHaveLength(2);
    expect((await listOperations(operation(), { limit: 1, ...(first && { after: first.cursor }) })).map(({ id }) => id)).toEqual(others.map(({ id }) => id));
    expect(await listOperations(operation(), { limit: 5, state: 'failed', tenant: 'd' })).toHaveLength(1);
  });
});

describe('a schedule', () => {
  test('is kept, survives its own failures, and goes with its name', async () => {
    let runs = 0;
    const failing = {
      name: 'test.each-second',
      cron: '* * * * * *',
      run: async () => {
        runs += 1;
        throw new Error('once more');
      },
    };
    await during({ schedules: [failing] }, async () => {
      await expect.poll(() => runs, { timeout: 30_000, interval: 20 }).toBeGreaterThan(1);
    });
    await during({ schedules: [] }, async () => {
      const { rows } = await fixture.control.pool.query('select 1');
      expect(rows).toHaveLength(1);
    });
  });
});

test('a process carries operations out once, and can again after it stopped', async () => {
  await during({}, async () => {
    await expect(startDurable({ database: control, systemDatabaseUrl: system, works: {} })).rejects.toThrow('by this process already');
  });
  await during({}, async () => undefined);
});

test('the system database has a name that PostgreSQL does not cut, and no two databases share one', () => {
  expect(systemDatabaseName('crm')).toBe('crm_partywall');
  const long = 'é'.repeat(31);
  const names = [
    systemDatabaseName(long),
    systemDatabaseName(`${long.slice(1)}x`),
    systemDatabaseName('x'.repeat(63)),
    systemDatabaseName(`${'x'.repeat(62)}y`),
  ];
  for (const name of names) expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
  expect(new Set(names).size).toBe(names.length);
});
