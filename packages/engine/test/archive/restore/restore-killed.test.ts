import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { serialize } from 'node:v8';
import {
  appendLedger,
  awaitOperation,
  beginRestore,
  inProcess,
  planRestore,
  readRestore,
  restoreFromArchive,
  restoreWorks,
  runBackup,
} from '@partywall/engine';
import { afterAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { systemDatabase } from '../../tenants/erasing.ts';
import type { RestoringProcess } from './restoring-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const kills = 8;
const statementsMax = 260;
/** Every run takes more, also one that finds all done: two at least are killed, whatever is drawn. */
const certain = { kills: 2, statements: 30 };

const fixture = await controlDatabase();
const { database, control, model, urls } = fixture;
const operation = fixture.operation();
const system = await systemDatabase(fixture);
const { archive, settings } = await archiveFixture({ keyring: control.keyring });

async function furnished(name: string): Promise<string> {
  const tenant = await fixture.tenant(name);
  await database.query(`insert into customers (tenant_id, name, revenue) select '${tenant}', 'c' || n, n from generate_series(1, 300) n;
    insert into notes (customer_id, body, partywall_tenant_id) select id, 'note', tenant_id from customers where tenant_id = '${tenant}'`);
  return tenant;
}

async function rows(tenant: string): Promise<string> {
  const { rows: found } = await database.query<{ hash: string }>(
    `select md5((select string_agg(c::text, '' order by id) from customers c where tenant_id = '${tenant}') || (select coalesce(string_agg(n::text, '' order by id), '') from notes n where partywall_tenant_id = '${tenant}')) as hash`,
  );
  return found[0]?.hash ?? '';
}

function start(more: Pick<RestoringProcess, 'request' | 'kill'>): ChildProcess {
  const { store, escrow, keyring, workFolder } = settings;
  const given: RestoringProcess = {
    service: urls.service,
    system,
    model: serialize(model).toString('base64'),
    settings: { store, escrow, keyring, workFolder },
    ...more,
  };
  return spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'restoring-process.ts'), JSON.stringify(given)], {
    stdio: 'ignore',
  });
}

const tenant = await furnished('Restored');
const neighbour = await furnished('Neighbour');
const before = await rows(tenant);
const around = await rows(neighbour);
const { id: backup } = await runBackup(operation, archive, { reason: 'by hand' });
const random = randomNumbers(seed);
afterAll(() => process.stderr.write(`    seed ${seed}\n`));

describe(`a restore (seed ${seed})`, () => {
  test('whose process is killed again and again, at any statement, ends as if it had not been', { timeout: 120_000 }, async () => {
    await database.query(
      `delete from notes where partywall_tenant_id = '${tenant}'; update customers set name = 'wrong' where tenant_id = '${tenant}' and revenue < 100`,
    );
    const damaged = await rows(tenant);
    let killed = 0;
    for (let run = 0; run < kills; run += 1) {
      const statement = 5 + Math.floor(random() * (run < certain.kills ? certain.statements : statementsMax));
      const child = start({ request: { tenant, backup }, kill: { statement, sent: random() < 0.5 } });
      const [, signal] = await once(child, 'exit');
      if (signal === 'SIGKILL') killed += 1;
      // All or nothing, whenever one looks.
      expect([before, damaged]).toContain(await rows(tenant));
      expect(await rows(neighbour)).toBe(around);
    }
    expect(killed).toBeGreaterThan(1);
    const last = start({});
    const open = async () => (await database.query(`select from partywall_control.operations where kind = 'tenant.restore' and state = 'running'`)).rowCount;
    await expect.poll(open, { timeout: 60_000, interval: 50 }).toBe(0);
    last.kill('SIGKILL');
    await once(last, 'exit');
    expect(await rows(tenant)).toBe(before);
    expect(await rows(neighbour)).toBe(around);
    expect((await database.query(`select state from partywall.registry where tenant_id = '${tenant}'`)).rows).toEqual([{ state: 'active' }]);
    // The undo backup of the run that changed rows has what was there before.
    const { rows: operations } = await database.query<{ id: string; planned: string }>(
      `select id from partywall_control.operations where kind = 'tenant.restore' and state = 'done' order by started_at limit 1`,
    );
    const { undo, report } = await readRestore(operation, operations[0]?.id ?? '');
    expect(report.tables.find(({ table }) => table === 'public.notes')).toMatchObject({ inserted: 300 });
    const source = await restoreFromArchive(archive).source(operation, { tenant, backup: undo });
    const plan = await planRestore(operation, source);
    expect(plan.tables.find(({ table }) => table === 'public.notes')).toMatchObject({ deleted: 300 });
  });

  test('that fails lets the tenant in, keeps its rows, and begins anew when it is asked for again', async () => {
    const durable = inProcess(
      control,
      restoreWorks(async () => ({ ...archive, close: async () => undefined })),
    );
    afterAll(() => durable.stop());
    await database.query(`update customers set name = 'wrong again' where tenant_id = '${tenant}'; update tenants set slug = 'another' where id = '${tenant}';
      insert into tenants (name, slug) values ('Thief', 'restored')`);
    const damaged = await rows(tenant);
    const { id } = await beginRestore(operation, durable, { tenant, backup });
    expect(await awaitOperation(operation, id, { timeoutMs: 30_000 })).toMatchObject({
      state: 'failed',
      error: expect.stringContaining('belongs to another tenant now'),
    });
    expect(await rows(tenant)).toBe(damaged);
    expect((await database.query(`select state from partywall.registry where tenant_id = '${tenant}'`)).rows).toEqual([{ state: 'active' }]);
    await database.query(`update tenants set slug = 'thief' where slug = 'restored'`);
    const again = await beginRestore(operation, durable, { tenant, backup });
    expect(again.id).toBe(id);
    expect(await awaitOperation(operation, id, { timeoutMs: 30_000 })).toMatchObject({ state: 'done' });
    expect(await rows(tenant)).toBe(before);
  });

  test('is refused while another one of the tenant is under way', async () => {
    const durable = inProcess(control, {});
    await database.query(`insert into partywall_control.operations (id, kind, tenant_id, step, actor, details)
      values (gen_random_uuid(), 'tenant.restore', '${tenant}', 'x', '{}', '{"request": {"backup": "another"}}')`);
    await expect(beginRestore(operation, durable, { tenant, backup })).rejects.toMatchObject({ code: 'restore_refused' });
    await database.query(`delete from partywall_control.operations where step = 'x'`);
  });

  test('of a tenant that was erased is refused by the ledger, or by its missing key', async () => {
    const gone = await furnished('Gone');
    const { id: last } = await runBackup(operation, archive, { reason: 'by hand' });
    await appendLedger(archive, [{ tenant: gone, at: new Date().toISOString(), status: 'erased', retainedUntil: null, placement: null }], new Date());
    await expect(restoreFromArchive(archive).source(operation, { tenant: gone, backup: last })).rejects.toMatchObject({ code: 'restore_refused' });
    await expect(restoreFromArchive(archive).source(operation, { tenant: 'never', backup: last })).rejects.toMatchObject({ code: 'key_missing' });
  });
});
