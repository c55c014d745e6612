import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { serialize } from 'node:v8';
import { backupIds, openBackup, runBackup, verifyBackup } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contents, operationWith, withUploads, write } from '../files/uploads.ts';
import { carryOut, type Work } from './work.ts';
import type { WorkingProcess } from './working-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
/** PARTYWALL_KILLS=50 for more points than a run of all tests has time for. */
const kills = Number(process.env['PARTYWALL_KILLS'] ?? 6);
/** About as many statements and calls of the file system as each takes. */
const steps = { backup: 160, restore: 420, clone: 220, retention: 60 } as const;
const kinds = ['restore', 'backup', 'clone', 'retention'] as const;

const fixture = await controlDatabase();
const { database, urls } = fixture;
const { archive, folder, settings } = await archiveFixture({ keyring: fixture.control.keyring });
const uploads = path.join(folder, 'uploads');
const model = withUploads(fixture.model, pathToFileURL(uploads).href);
const operation = operationWith(fixture.control, model, fixture.operation());
const [worked, ...neighbours] = [await fixture.tenant('Worked'), await fixture.tenant('Amber'), await fixture.tenant('Brass')] as const;
for (const tenant of [worked, ...neighbours]) {
  await database.query("insert into customers (tenant_id, name, revenue) select $1, 'c' || n, n from generate_series(1, 200) n", [tenant]);
  await write(path.join(uploads, tenant), Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`${n % 3}/file ${n}`, `${tenant} ${n}`])));
}
afterAll(() => process.stderr.write(`    seed ${seed}\n`));

async function stateOf(tenant: string): Promise<string> {
  const { rows } = await database.query<{ hash: string }>(
    "select md5((select coalesce(string_agg(c::text, '' order by id), '') from customers c where tenant_id = $1) || (select t::text from tenants t where id = $1)) as hash",
    [tenant],
  );
  return JSON.stringify([
    rows[0]?.hash,
    await contents(path.join(uploads, tenant)),
    (await database.query('select state from partywall.registry where tenant_id = $1', [tenant])).rows,
  ]);
}

/** Whether the process was killed; else it came to its end. */
async function killedAt(work: Work, killAt: number): Promise<boolean> {
  const { store, escrow, keyring, workFolder, env } = settings;
  const given: WorkingProcess = {
    service: urls.service,
    model: serialize(model).toString('base64'),
    settings: { store, escrow, keyring, workFolder, env },
    work,
    killAt,
  };
  const script = path.join(import.meta.dirname, 'working-process.ts');
  const child = spawn(process.execPath, ['--conditions=partywall-source', script, JSON.stringify(given)], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [, signal] = await once(child, 'exit');
  return signal === 'SIGKILL';
}

/** The server has noticed that the process is gone. */
const letGo = () =>
  expect
    .poll(
      async () =>
        (await database.query("select from pg_stat_activity where datname = current_database() and application_name like '%working process%'")).rowCount,
      {
        timeout: 30_000,
      },
    )
    .toBe(0);

test(
  `whatever is killed is finished by the same again, and nobody else notices (seed ${seed})`,
  async () => {
    const random = randomNumbers(seed);
    const first = await runBackup(operation, archive, { reason: 'by hand' });
    const kept = await stateOf(worked);
    const around = await Promise.all(neighbours.map(stateOf));
    let killed = 0;
    let clones = 0;
    for (let run = 0; run < kills; run += 1) {
      const kind = kinds[run % kinds.length] ?? 'backup';
      await database.query("update customers set name = 'wrong' where tenant_id = $1 and revenue < 50", [worked]);
      await write(path.join(uploads, worked), { '0/file 0': `forged ${run}`, [`later ${run}`]: 'since' });
      const name = `Clone ${run}`;
      if (kind === 'clone') clones += 1;
      const work: Work = kind === 'restore' ? { kind, tenant: worked, backup: first.id } : kind === 'clone' ? { kind, tenant: worked, name } : { kind };
      const at = 1 + Math.floor(random() * steps[kind]);
      if (await killedAt(work, at)) killed += 1;
      const what = `${kind} killed at ${at}`;
      await letGo();
      expect(await Promise.all(neighbours.map(stateOf)), what).toEqual(around);
      // What there is counts, and can be read whole.
      for (const id of await backupIds(archive)) expect(await verifyBackup(archive, id, { readData: true }), what).toMatchObject({ whole: true });
      await carryOut(operation, archive, work);
      expect(await Promise.all(neighbours.map(stateOf)), what).toEqual(around);
      if (kind === 'restore') expect(await stateOf(worked), what).toBe(kept);
      const { rows } = await database.query<{ id: string; name: string }>("select id, name from tenants where name like 'Clone %'");
      expect(rows).toHaveLength(clones);
      const clone = rows.find((row) => row.name === name);
      if (clone) expect(Object.values(await contents(path.join(uploads, clone.id)))).toEqual(Object.values(await contents(path.join(uploads, worked))));
      expect((await fs.readdir(settings.workFolder)).filter((each) => each.startsWith('backup-') && kind === 'backup')).toEqual([]);
    }
    expect(killed).toBeGreaterThan(kills / 3);
    const { id } = await runBackup(operation, archive, { reason: 'by hand' });
    expect(await verifyBackup(archive, id, { readData: true })).toMatchObject({ whole: true });
    expect((await openBackup(archive, id)).manifest.subjects).toHaveLength(4 + clones);
  },
  120_000 + kills * 30_000,
);

/** mulberry32 */
function randomNumbers(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
