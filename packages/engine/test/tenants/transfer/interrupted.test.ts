import { exportTenant, importTenant } from '@partywall/engine';
import { run } from '@partywall/wall';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contentHash, exportText, importText } from './documents.ts';

const fixture = await controlDatabase();
const { database } = fixture;
const operation = fixture.operation();

/** A tenant with more rows than the buffers between server and reader hold. */
async function large(name: string): Promise<string> {
  const id = await fixture.tenant(name);
  await database.query(`insert into files (tenant_id, name, size_bytes) select '${id}', n || repeat('x', 1000), 1 from generate_series(1, 8000) n`);
  return id;
}

async function sessions(application = 'partywall test'): Promise<number[]> {
  const { rows } = await database.query<{ pid: number }>(
    `select pid from pg_stat_activity where datname = current_database() and application_name = $1 and state <> 'idle' and backend_type = 'client backend'`,
    [application],
  );
  return rows.map(({ pid }) => pid);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

test('a document holds one moment, whatever is written, truncated or deleted while it is read', async () => {
  const alder = await large('Alder');
  const { sha256 } = JSON.parse(await exportText(operation, alder)).trailer;
  const pieces = exportTenant(operation, { tenant: alder });
  let text = String((await pieces.next()).value);
  await database.query(
    `update files set size_bytes = 2 where tenant_id = '${alder}'; insert into customers (tenant_id, name) values ('${alder}', 'late'); delete from files where tenant_id = '${alder}'`,
  );
  const truncated = database.query('truncate files, notes');
  for await (const piece of pieces) text += piece;
  await truncated;
  expect(JSON.parse(text).trailer.sha256).toBe(sha256);
});

test('a reader that leaves early closes the connection and is on record', async () => {
  const birch = await large('Birch');
  const pieces = exportTenant(operation, { tenant: birch });
  await pieces.next();
  for (let n = 0; n < 20; n += 1) await pieces.next();
  await leave(pieces);
  await until(async () => (await sessions()).length === 0);
  const { rows } = await database.query(
    `select details -> 'complete' as complete, (details ->> 'rows')::int > 0 as some from partywall_control.audit_records where tenant_id = '${birch}' and action = 'tenant.export'`,
  );
  expect(rows).toEqual([{ complete: false, some: true }]);
});

test('an export whose server connection is lost fails and has no trailer', async () => {
  const cedar = await large('Cedar');
  const pieces = exportTenant(operation, { tenant: cedar });
  let text = String((await pieces.next()).value);
  const [pid] = await sessions();
  await database.query('select pg_terminate_backend($1)', [pid]);
  const rest = (async () => {
    for await (const piece of pieces) text += piece;
  })();
  await expect(rest).rejects.toThrow();
  expect(text).not.toContain('"trailer"');
  expect(() => JSON.parse(text)).toThrow();
});

test('a restore whose source or connection is lost in the middle leaves the tenant as it was', async () => {
  const dogwood = await large('Dogwood');
  const text = await exportText(operation, dogwood);
  await database.query(`update files set name = 'changed' where tenant_id = '${dogwood}'`);
  const changed = await contentHash(operation, dogwood);

  const cut = { source: failing(Buffer.from(text)) };
  await expect(importTenant(operation, cut)).rejects.toThrow('the client went away');
  expect(await contentHash(operation, dogwood)).toBe(changed);

  // The lock keeps the restore waiting in the middle of its changes.
  await database.query('begin; lock table files in share mode');
  const refused = importText(operation, text).catch((error: unknown) => error);
  await until(async () => (await database.query(`select from pg_locks where not granted and relation = 'files'::regclass`)).rowCount === 1);
  const { rows } = await database.query(`select pg_terminate_backend(pid) from pg_locks where not granted and relation = 'files'::regclass`);
  expect(rows).toHaveLength(1);
  expect(await refused).toBeInstanceOf(Error);
  await database.query('rollback');
  expect(await contentHash(operation, dogwood)).toBe(changed);
  expect(await importText(operation, text)).toMatchObject({ hashEqual: true });
});

test('nobody enters the tenant while it is restored, and a neighbour works on', async () => {
  const elm = await large('Elm');
  const fir = await fixture.tenant('Fir');
  const text = await exportText(operation, elm);
  await database.query(`update files set name = 'changed' where tenant_id = '${elm}'`);
  await database.query('begin; lock table files in share mode');
  const restored = importText(operation, text);
  await until(async () => (await database.query(`select from pg_locks where not granted and relation = 'files'::regclass`)).rowCount === 1);
  const inside = run({ tenant: elm }, () => fixture.app.query(`select count(*)::int as changed from files where name = 'changed'`));
  await until(async () => (await database.query(`select from pg_locks where not granted and locktype = 'advisory'`)).rowCount === 1);
  expect((await run({ tenant: fir }, () => fixture.app.query('select count(*)::int as count from files'))).rows).toEqual([{ count: 0 }]);
  await database.query('rollback');
  expect(await restored).toMatchObject({ hashEqual: true });
  expect((await inside).rows).toEqual([{ changed: 0 }]);
});

test('two restores of one tenant at once come out as one', async () => {
  const gum = await large('Gum');
  const text = await exportText(operation, gum);
  await database.query(`delete from files where tenant_id = '${gum}'`);
  const reports = await Promise.all([importText(operation, text), importText(operation, text)]);
  expect(reports.map(({ hashEqual }) => hashEqual)).toEqual([true, true]);
  expect(reports.map(({ tables }) => tables.find(({ table }) => table === 'public.files')?.inserted).toSorted()).toEqual([0, 8_000]);
});

test('no more exports and restores run at once than the server has connections for', async () => {
  const hazel = await fixture.tenant('Hazel');
  const running = Array.from({ length: 4 }, () => exportTenant(operation, { tenant: hazel }));
  await Promise.all(running.map((pieces) => pieces.next()));
  await expect(exportTenant(operation, { tenant: hazel }).next()).rejects.toMatchObject({ code: 'transfers_busy' });
  await Promise.all(running.map(leave));
  expect((await exportText(operation, hazel)).length).toBeGreaterThan(0);
});

async function leave(pieces: AsyncIterable<string>): Promise<void> {
  for await (const _ of pieces) break;
}

async function* failing(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes.subarray(0, bytes.length / 2);
  throw new Error('the client went away');
}
