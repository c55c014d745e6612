import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { openBackup, recoverDatabase, runBackup, schemaDdl, startEmbedded } from '@partywall/engine';
import { afterAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase, locksReleased } from '../../../../../test/support/database.ts';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { planRecovery } from '../../../src/archive/recover/plan-recovery.ts';
import { takeTarget } from '../../../src/archive/recover/target.ts';
import { withClient } from '../schema/recreated.ts';
import type { RecoveringProcess } from './recovering-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const kills = 8;

const fixture = await controlDatabase();
const { database, operation } = fixture;
const { archive, settings, folder } = await archiveFixture({ keyring: fixture.control.keyring });
const [killed, straight, foreign, second] = [await createDatabase(), await createDatabase(), await createDatabase(), await createDatabase()];
const clock = (): Date => new Date();

for (const plan of ['enterprise', 'pro', 'free']) {
  const tenant = await fixture.tenant(`On ${plan}`, plan);
  await database.query("insert into customers (tenant_id, name) select $1, 'c' || n from generate_series(1, 50) n", [tenant]);
}
const backup = (await runBackup(operation(), archive, { reason: 'test' })).id;

async function rowsOf(on: typeof database): Promise<unknown> {
  const tables = ['tenants', 'customers', 'notes', 'partywall_control.directory', 'partywall_control.audit_records', 'partywall.registry'];
  return Promise.all(tables.map(async (table) => (await on.query(`select * from ${table} t order by t::text`)).rows));
}

/** How the process ended, and how many statements it took where it came to its end. */
async function recovering(into: string, kill?: RecoveringProcess['kill']): Promise<{ status: unknown; signal: unknown; statements: number }> {
  const { clock: _clock, ...rest } = settings;
  const given: RecoveringProcess = { settings: rest, into, backup, ...(kill && { kill }) };
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'recovering-process.ts'), JSON.stringify(given)], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [said, [status, signal]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return { status, signal, statements: Number(said) };
}

describe(`a restore of everything (seed ${seed})`, () => {
  test('that is killed again and again, at any statement, ends as if it had not been', async () => {
    const whole = await recovering(straight.url);
    expect(whole.status).toBe(0);
    // Each run goes on where the one before died: together they get through about once.
    const statementsMax = Math.ceil((2 * whole.statements) / kills);
    const random = randomNumbers(seed);
    let deaths = 0;
    for (let run = 0; run < kills; run += 1) {
      const { signal } = await recovering(killed.url, { statement: 1 + Math.floor(random() * statementsMax), sent: random() < 0.5 });
      if (signal === 'SIGKILL') deaths += 1;
      await locksReleased(killed);
    }
    expect(deaths).toBeGreaterThan(1);
    expect(await recovering(killed.url)).toMatchObject({ status: 0 });

    expect(await rowsOf(killed)).toEqual(await rowsOf(straight));
    const schemas = await Promise.all([killed, straight, database].map((each) => withClient(each.url, schemaDdl)));
    expect(schemas.map(({ items }) => items)).toEqual([schemas[2]?.items, schemas[2]?.items, schemas[2]?.items]);
    // Asked once more it only says that it is done.
    expect(await recoverDatabase(archive, { from: backup, into: killed.url }, { clock })).toMatchObject({ applied: true, resumed: true });
  }, 120_000);

  test('does not go on in a database that holds the beginning of another, nor beside one that runs', async () => {
    await withClient(foreign.url, async (client) => {
      await client.query(
        "create schema partywall_recover; create table partywall_recover.run (what text); insert into partywall_recover.run values ('20200101t000000z-00000000 x y')",
      );
    });
    await expect(recoverDatabase(archive, { from: backup, into: foreign.url }, { clock })).rejects.toMatchObject({
      code: 'restore_refused',
      message: expect.stringContaining('another restore, 20200101t000000z-00000000'),
    });
    await withClient(second.url, async (client) => {
      await client.query("select pg_advisory_lock(hashtextextended('partywall:recover', 0))");
      await expect(recoverDatabase(archive, { from: backup, into: second.url }, { clock })).rejects.toMatchObject({ code: 'restore_refused' });
    });
  });

  test('believes no manifest that somebody changed, and makes nothing', async () => {
    const file = path.join(folder, 'store', 'backups', backup, 'manifest.json');
    const stored = await readFile(file);
    try {
      await writeFile(file, stored.toString('utf8').replace('"reason":"test"', '"reason":"best"'));
      await expect(recoverDatabase(archive, { from: backup, into: second.url }, { clock })).rejects.toMatchObject({
        code: 'archive_damaged',
        message: expect.stringContaining('signature'),
      });
    } finally {
      await writeFile(file, stored);
    }
    expect((await second.query("select from pg_namespace where nspname like 'partywall%'")).rowCount).toBe(0);
  });
});

describe('on a server that has never seen it', async () => {
  const server = await startEmbedded({
    dataDir: path.join(folder, 'elsewhere'),
    auth: 'trust',
    settings: { fsync: 'off' },
    major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18'),
  });
  afterAll(() => server.stop());

  test('makes the roles that are missing, without a way in', async () => {
    await withClient(server.url, async (client) => void (await client.query('create database fresh')));
    const report = await recoverDatabase(archive, { from: backup, into: server.urlFor('fresh') }, { clock });
    const { app, service } = fixture.model.roles;
    expect(report.roles).toEqual(
      expect.arrayContaining([expect.objectContaining({ name: app, login: true }), expect.objectContaining({ name: service, login: true })]),
    );
    await withClient(server.urlFor('fresh'), async (client) => {
      const { rows } = await client.query(
        'select rolname, rolcanlogin, rolbypassrls, rolpassword from pg_authid where rolname = any ($1) order by rolname = $2',
        [[app, service], service],
      );
      expect(rows).toEqual([
        { rolname: app, rolcanlogin: false, rolbypassrls: false, rolpassword: null },
        { rolname: service, rolcanlogin: false, rolbypassrls: true, rolpassword: null },
      ]);
    });
  });

  test('refuses before anything is made where an extension is missing', async () => {
    const plan = await planRecovery(archive, await openBackup(archive, backup));
    await withClient(server.url, async (client) => void (await client.query('create database lacking')));
    await withClient(server.urlFor('lacking'), async (client) => {
      const lacking = { ...plan, schema: { ...plan.schema, extensions: [{ name: 'postgis_of_nobody', version: '3.4' }] } };
      await expect(takeTarget(client, lacking)).rejects.toMatchObject({ code: 'restore_refused', details: ['postgis_of_nobody 3.4'] });
      expect((await client.query("select from pg_namespace where nspname like 'partywall%'")).rowCount).toBe(0);
    });
  });
});
