import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { backupIds, runBackup, verifyBackup } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contents, operationWith, withUploads, write } from '../files/uploads.ts';
import { carryOutTelling } from './at-statement.ts';
import { carryOut, type Work } from './work.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const rounds = 9;

const fixture = await controlDatabase();
const { database, control } = fixture;
const { archive, folder } = await archiveFixture({ keyring: control.keyring });
const uploads = path.join(folder, 'uploads');
const operation = operationWith(control, withUploads(fixture.model, pathToFileURL(uploads).href), fixture.operation());
const [worked, neighbour] = [await fixture.tenant('Worked'), await fixture.tenant('Neighbour')];
for (const tenant of [worked, neighbour]) {
  await database.query("insert into customers (tenant_id, name, revenue) select $1, 'c' || n, n from generate_series(1, 200) n", [tenant]);
  await write(path.join(uploads, tenant), { 'a/file': tenant, other: 'content' });
}
afterAll(() => process.stderr.write(`    seed ${seed}\n`));

async function stateOf(tenant: string): Promise<unknown> {
  const { rows } = await database.query(
    "select md5(string_agg(c::text, '' order by id)) as hash, (select state from partywall.registry where tenant_id = $1) as state from customers c where tenant_id = $1",
    [tenant],
  );
  return [rows, await contents(path.join(uploads, tenant))];
}

/** What a fast shutdown does to whoever is connected: 57P01 in the middle of anything. They are gone when it returns: who comes afterwards meets none of them. */
async function endConnections(): Promise<number> {
  const { rows } = await database.query<{ ended: number }>(
    `select count(pg_terminate_backend(pid, 10000))::int as ended from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and usename <> (select rolname from pg_roles where rolsuper and rolname = current_user)`,
  );
  return rows[0]?.ended ?? 0;
}

/** Carries a work out, and has the server end all connections at a statement of it. */
async function carriedOut(work: Work, endAt?: number): Promise<{ readonly statements: number; readonly failed: unknown }> {
  let ending: Promise<unknown> = Promise.resolve();
  const told = await carryOutTelling({ operation, archive }, work, (statement) => {
    if (statement === endAt) ending = endConnections();
  });
  await ending;
  return told;
}

test(`a server that ends every connection stops a backup, a restore and a clone cleanly; the same again finishes them (seed ${seed})`, {
  timeout: 240_000,
}, async () => {
  let state = seed;
  const random = (below: number): number => {
    state = (state * 48_271 + 11) % 2_147_483_647;
    return state % below;
  };
  const { id: backup } = await runBackup(operation, archive, { reason: 'by hand' });
  const works = (name: string): readonly Work[] => [{ kind: 'restore', tenant: worked, backup }, { kind: 'backup' }, { kind: 'clone', tenant: worked, name }];
  const lengths: number[] = [];
  for (const work of works('Copy')) lengths.push((await carriedOut(work)).statements);
  const kept = await stateOf(worked);
  const around = await stateOf(neighbour);
  let stopped = 0;
  for (let round = 0; round < rounds; round += 1) {
    await database.query("update customers set name = 'wrong' where tenant_id = $1 and revenue < 50", [worked]);
    await write(path.join(uploads, worked), { other: `forged ${round}` });
    const kinds = works(`Clone ${round}`);
    const work = kinds[round % kinds.length] ?? { kind: 'backup' };
    const length = lengths[round % kinds.length] ?? 1;
    // First in the middle of each, where a backup holds its snapshot.
    const at = round < kinds.length ? Math.ceil(length / 2) : 1 + random(length);
    const what = `${work.kind} in round ${round}, ended at statement ${at} of ${length}`;
    if ((await carriedOut(work, at)).failed !== undefined) stopped += 1;
    expect(await stateOf(neighbour), what).toEqual(around);
    for (const id of await backupIds(archive)) expect(await verifyBackup(archive, id, { readData: true }), what).toMatchObject({ whole: true });
    await carryOut(operation, archive, work);
    expect(await stateOf(neighbour), what).toEqual(around);
    if (work.kind === 'restore') expect(await stateOf(worked), what).toEqual(kept);
    expect((await database.query("select from tenants where name like 'Clone %'")).rowCount, what).toBe(Math.floor((round + 1) / 3));
  }
  expect(stopped).toBeGreaterThan(0);
});
