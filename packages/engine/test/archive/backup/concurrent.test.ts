import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { openSnapshot } from '../../../src/archive/backup/snapshot.ts';
import { connect } from '../../../src/db/connect.ts';
import { storedRows } from './stored.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive } = await archiveFixture({ keyring: control.keyring });
const tenant = await fixture.tenant('Amber');
await database.query(`insert into customers (tenant_id, name) select $1, 'Customer ' || n from generate_series(1, 100) n`, [tenant]);
await database.query(`insert into files (tenant_id, name, size_bytes) select $1, 'file ' || n, n from generate_series(1, 10) n`, [tenant]);

const customers = { tenant, table: 'public.customers' };

test('TRUNCATE and a rewriting ALTER wait for the snapshot, in which an older one would find no rows', async () => {
  const snapshot = await openSnapshot(operation(), { backup: '20261121t020000z-1f2e3d4c', allow: [] });
  const other = await session();
  await other.query("set lock_timeout = '100ms'");
  for (const statement of ['truncate files', 'alter table files alter column size_bytes type numeric', 'drop table files', 'vacuum full files']) {
    await expect(other.query(statement), statement).rejects.toMatchObject({ code: '55P03' });
  }
  // Writers are not kept from anything.
  await other.query(`update files set name = name || '.'`);
  await snapshot.close();
  await other.end();
});

test('a TRUNCATE that commits while the backup waits for its lock is in the backup, rows and all', async () => {
  const other = await session();
  await other.query('begin');
  await other.query('truncate files');
  await other.query(`insert into files (tenant_id, name, size_bytes) values ($1, 'after', 1)`, [tenant]);
  const running = runBackup(operation(), archive, { reason: 'by hand' }, { workers: 2 });
  await until(
    async () =>
      (
        await database.query(
          `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database() and application_name like 'partywall backup%'`,
        )
      ).rowCount === 1,
  );
  await other.query('commit');
  await other.end();
  const { id } = await running;
  expect((await storedRows(archive, id, { tenant, table: 'public.files' })).join()).toContain('\tafter\t');
});

test('a migration that comes between the locks of the snapshot and those of the threads has its turn, and the backup says so', async () => {
  const other = await session();
  const migrated: Promise<unknown>[] = [];
  const onFixed = (): void => {
    migrated.push(other.query('alter table customers add column later int'));
  };
  const running = runBackup(operation(), archive, { reason: 'by hand' }, { workers: 2, onFixed });
  await expect(running).rejects.toMatchObject({ code: 'lock_not_acquired' });
  // It came to its turn.
  await Promise.all(migrated);
  await other.query('alter table customers drop column later');
  await other.end();
});

test('is one moment: what is committed while it reads is in all tables or in none', async () => {
  const writer = await session();
  let stop = false;
  let written = 0;
  const writing = (async () => {
    while (!stop) {
      written += 1;
      await writer.query('begin');
      await writer.query(`insert into customers (tenant_id, name) values ($1, $2)`, [tenant, `pair ${written}`]);
      await writer.query(`insert into files (tenant_id, name, size_bytes) values ($1, $2, 1)`, [tenant, `pair ${written}`]);
      await writer.query('commit');
    }
  })();
  await until(async () => {
    await database.query('select 1');
    return written > 20;
  });
  const reports = [];
  for (let round = 0; round < 3; round += 1) reports.push(await runBackup(operation(), archive, { reason: 'by hand' }, { workers: 2 }));
  stop = true;
  await writing;
  await writer.end();
  for (const { id } of reports) {
    const pairs = (rows: readonly string[]): string[] => rows.flatMap((row) => /pair \d+/.exec(row)?.[0] ?? []).sort();
    const inCustomers = pairs(await storedRows(archive, id, customers));
    expect(inCustomers.length).toBeGreaterThan(0);
    expect(inCustomers).toEqual(pairs(await storedRows(archive, id, { tenant, table: 'public.files' })));
  }
});

test('a lost connection fails the run with what happened, nothing counts, and the next run is whole', async () => {
  const before = await runBackup(operation(), archive, { reason: 'by hand' });
  await database.query('update customers set name = name');
  const ending = { done: false };
  const onProgress = (): void => {
    if (ending.done) return;
    ending.done = true;
    database
      .query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'partywall backup%'`)
      .catch(() => undefined);
  };
  await expect(runBackup(operation(), archive, { reason: 'by hand' }, { onProgress, workers: 2 })).rejects.toMatchObject({ code: 'database_unreachable' });
  expect(await runBackup(operation(), archive, { reason: 'by hand' })).toMatchObject({ base: before.id });
});

/** Another session of the superuser. */
async function session(): Promise<Awaited<ReturnType<typeof connect>>> {
  const client = await connect(database.url, { purpose: 'test' });
  await client.query('set search_path = public');
  return client;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition()));
}
