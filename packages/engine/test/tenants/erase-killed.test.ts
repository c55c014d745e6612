import { once } from 'node:events';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { randomNumbers } from '../../../../test/support/random-numbers.ts';
import { previewErasure, readCertificate, startDurable, verifyCertificate, works } from '../../src/index.ts';
import { startErasing, systemDatabase } from './erasing.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const statementsMax = 110;
/** Every run takes more, also one that finds all done: two at least are killed, whatever is drawn. */
const certain = { kills: 2, statements: 20 };
const kills = 7;

const fixture = await controlDatabase();
const { database, operation } = fixture;
const system = await systemDatabase(fixture);

/** More rows than two batches take. */
async function furnished(name: string): Promise<string> {
  const tenant = await fixture.tenant(name);
  await database.query("insert into customers (tenant_id, name) select $1, 'c' || n from generate_series(1, 6000) n", [tenant]);
  await database.query(
    "insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', tenant_id from customers where tenant_id = $1 limit 5500",
    [tenant],
  );
  return tenant;
}

async function rows(tenant: string): Promise<number> {
  const { rows: found } = await database.query<{ count: string }>(
    'select (select count(*) from customers where tenant_id = $1) + (select count(*) from notes where partywall_tenant_id = $1) + (select count(*) from tenants where id = $1) as count',
    [tenant],
  );
  return Number(found[0]?.count);
}

async function erased(tenant: string): Promise<void> {
  await expect
    .poll(async () => (await database.query('select from partywall_control.certificates where tenant_id = $1', [tenant])).rowCount, {
      timeout: 30_000,
      interval: 20,
    })
    .toBe(1);
}

async function deleting(tenant: string): Promise<void> {
  const step = async () => (await database.query('select from partywall_control.operations where tenant_id = $1 and done > 0', [tenant])).rowCount;
  await expect.poll(step, { timeout: 30_000, interval: 20 }).toBe(1);
}

const neighbour = await furnished('Neighbour');
const neighbourRows = await rows(neighbour);

describe(`an erasure (seed ${seed})`, () => {
  test('whose process is killed again and again, at any statement, ends as if it had not been', async () => {
    const tenant = await furnished('Killed');
    const { tables } = await previewErasure(operation(), { tenant, force: true });
    const random = randomNumbers(seed);
    let killed = 0;
    for (let run = 0; run < kills; run += 1) {
      const from = run > 0 && random() < 0.3 ? 'start' : 'asked';
      const kill = { statement: 10 + Math.floor(random() * (run < certain.kills ? certain.statements : statementsMax)), from, sent: random() < 0.5 } as const;
      const gone = (await database.query('select from tenants where id = $1', [tenant])).rowCount === 0;
      if (gone) break;
      const child = startErasing(fixture, system, { tenant, kill });
      const [, signal] = await once(child, 'exit');
      if (signal === 'SIGKILL') killed += 1;
    }
    expect(killed).toBeGreaterThan(1);
    // Nobody asks again: a process that is there goes on with what the others left, if they left anything.
    const last = startErasing(fixture, system, {});
    await erased(tenant);
    last.kill('SIGKILL');
    await once(last, 'exit');
    const certificate = await readCertificate(operation(), tenant);
    expect(await verifyCertificate(operation(), certificate)).toMatchObject({ valid: true });
    expect(certificate.body.tables).toEqual(tables.map(({ table, rows: before }) => ({ table, before, after: 0 })));
    expect(await rows(tenant)).toBe(0);
    expect(await rows(neighbour)).toBe(neighbourRows);
    const { rows: records } = await database.query<{ action: string }>('select action from partywall_control.audit_records where tenant_id = $1 order by seq', [
      tenant,
    ]);
    expect(records.map(({ action }) => action)).toEqual(['tenant.erase', 'tenant.erased']);
  });

  test('whose process is killed goes on in another that is alive', async () => {
    const tenant = await furnished('Taken over');
    const holder = new pg.Client(database.url);
    await holder.connect();
    const alive = await startDurable({ database: fixture.control, systemDatabaseUrl: system, works, sweepIntervalMs: 50 });
    try {
      // A row that somebody holds keeps the deletion from going past its table.
      await holder.query('begin');
      await holder.query('select from customers where tenant_id = $1 limit 1 for update', [tenant]);
      const child = startErasing(fixture, system, { tenant });
      await deleting(tenant);
      child.kill('SIGKILL');
      await once(child, 'exit');
      await holder.query('rollback');
      await erased(tenant);
      expect(await rows(tenant)).toBe(0);
    } finally {
      await alive.stop();
      await holder.end();
    }
  });
});
