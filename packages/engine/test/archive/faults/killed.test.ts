import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { serialize } from 'node:v8';
import { applyRetention, backUp, backupIds, checkBackupErasure, type OpenArchive, type Operation, verifyBackup } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { type ControlFixture, controlDatabase } from '../../../../../test/support/control-database.ts';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { certified, furnished, refOf } from '../erase/erasing.ts';
import { contents, operationWith, withUploads, write } from '../files/uploads.ts';
import { soundness } from '../retention/made-backups.ts';
import { carryOut, type Work } from './work.ts';
import type { WorkingProcess } from './working-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
/** PARTYWALL_KILLS=50 for more points than a run of all tests has time for. */
const kills = Number(process.env['PARTYWALL_KILLS'] ?? 6);
const kinds = ['restore', 'backup', 'clone', 'retention', 'move', 'erase'] as const;
/** From one work to the next, so that retention has something to remove each time. */
const aheadMs = 20 * 24 * 3_600_000;

const [here, second] = [await controlDatabase(), await controlDatabase()];
const { database } = here;
const { folder, open, settings } = await archiveFixture({ keyring: here.control.keyring });
const uploads = path.join(folder, 'uploads');
const model = withUploads(here.model, pathToFileURL(uploads).href);
const [worked, moved, ...neighbours] = [await here.tenant('Worked'), await here.tenant('Moved'), await here.tenant('Amber'), await here.tenant('Brass')];
const away = await second.tenant('Away');
for (const tenant of [worked, moved, ...neighbours]) {
  await addCustomers(here, tenant);
  await write(path.join(uploads, tenant), Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`${n % 3}/file ${n}`, `${tenant} ${n}`])));
}
await addCustomers(second, away);
afterAll(() => process.stderr.write(`    seed ${seed}\n`));

async function addCustomers({ database: into }: ControlFixture, tenant: string): Promise<void> {
  await into.query("insert into customers (tenant_id, name, revenue) select $1, 'c' || n, n from generate_series(1, 200) n", [tenant]);
}

/** Hash of what a tenant has in a database. */
async function rowsOf({ database: of }: ControlFixture, tenant: string): Promise<string> {
  const { rows } = await of.query<{ hash: string }>(
    `select md5((select coalesce(string_agg(c::text, '' order by id), '') from customers c where tenant_id = $1)
  || (select coalesce(string_agg(t::text, ''), '') from tenants t where id = $1)) as hash`,
    [tenant],
  );
  return rows[0]?.hash ?? '';
}

async function registered({ database: of }: ControlFixture, tenant: string): Promise<unknown> {
  return (await of.query('select state, placement from partywall.registry where tenant_id = $1', [tenant])).rows[0];
}

async function stateOf(at: ControlFixture, tenant: string): Promise<unknown> {
  return [await rowsOf(at, tenant), at === here ? await contents(path.join(uploads, tenant)) : null, await registered(at, tenant)];
}

/** Everybody to whom nothing was done. */
async function around(): Promise<unknown> {
  return [...(await Promise.all(neighbours.map((tenant) => stateOf(here, tenant)))), await stateOf(second, away)];
}

/** How many steps the work took; undefined: it was killed. */
async function inAnotherProcess(work: Work, ahead: number, kill?: WorkingProcess['kill']): Promise<number | undefined> {
  const { store, escrow, keyring, workFolder, env } = settings;
  const given: WorkingProcess = {
    service: here.urls.service,
    model: serialize(model).toString('base64'),
    settings: { store, escrow, keyring, workFolder, env },
    work,
    aheadMs: ahead,
    ...(kill && { kill }),
  };
  const script = path.join(import.meta.dirname, 'working-process.ts');
  const child = spawn(process.execPath, ['--conditions=partywall-source', script, JSON.stringify(given)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const said = text(child.stdout);
  const [status, signal] = await once(child, 'exit');
  if (signal === 'SIGKILL') return undefined;
  expect(status, `${work.kind} in another process`).toBe(0);
  return Number(await said);
}

/** The server has noticed that the process is gone. */
const letGo = () =>
  expect
    .poll(
      async () =>
        (await database.query("select from pg_stat_activity where datname = current_database() and application_name like '%working process%'")).rowCount,
      { timeout: 30_000 },
    )
    .toBe(0);

/** A work that is to be done, and what holds when it is done. */
interface Task {
  readonly work: Work;
  done(archive: OpenArchive, operation: Operation): Promise<void>;
}

const clones: string[] = [];
let direction: 'out' | 'back' = 'back';

/** `round` makes names of the round's own. */
async function prepare(kind: (typeof kinds)[number], round: string, at: { operation: Operation; archive: OpenArchive }): Promise<Task> {
  const { operation, archive } = at;
  await write(path.join(uploads, worked), { [`later ${round}`]: 'since' });
  switch (kind) {
    case 'backup':
      return {
        work: { kind },
        done: async () => expect((await fs.readdir(settings.workFolder)).filter((each) => each.startsWith('backup-'))).toEqual([]),
      };
    case 'restore': {
      const { backup } = await backUp(operation, archive, { reason: 'by hand' });
      const kept = await stateOf(here, worked);
      await database.query("update customers set name = 'wrong' where tenant_id = $1 and revenue < 50", [worked]);
      await write(path.join(uploads, worked), { '0/file 0': `forged ${round}`, [`much later ${round}`]: 'since' });
      return { work: { kind, tenant: worked, backup }, done: async () => expect(await stateOf(here, worked)).toEqual(kept) };
    }
    case 'clone': {
      const name = `Clone ${round}`;
      clones.push(name);
      return {
        work: { kind, tenant: worked, name },
        done: async () => {
          const { rows } = await database.query<{ id: string; name: string }>("select id, name from tenants where name like 'Clone %'");
          expect(rows.map((row) => row.name).sort()).toEqual(clones.toSorted());
          const clone = rows.find((row) => row.name === name)?.id ?? '';
          expect((await database.query('select from customers where tenant_id = $1', [clone])).rowCount).toBe(200);
          expect(Object.values(await contents(path.join(uploads, clone)))).toEqual(Object.values(await contents(path.join(uploads, worked))));
        },
      };
    }
    case 'retention': {
      await backUp(operation, archive, { reason: 'by hand' });
      const plan = await applyRetention(operation, archive, { dryRun: true });
      const kept = plan.backups.filter(({ keep }) => keep).map(({ id }) => id);
      expect(plan.removed, 'backups that are to go').toBeGreaterThan(0);
      return { work: { kind }, done: async () => expect([...(await backupIds(archive))].sort()).toEqual(kept.sort()) };
    }
    case 'move': {
      direction = direction === 'out' ? 'back' : 'out';
      const [from, to] = direction === 'out' ? [here, second] : [second, here];
      const rows = await rowsOf(from, moved);
      return {
        work: { kind, tenant: moved, direction, second: second.urls.service },
        done: async () => {
          expect(await rowsOf(to, moved)).toBe(rows);
          expect((await from.database.query('select from customers where tenant_id = $1', [moved])).rowCount).toBe(0);
          expect(await homesOf(moved)).toBe(1);
        },
      };
    }
    case 'erase': {
      const victim = await furnished(here, `victim-${round.replaceAll(' ', '-')}`, 5);
      await write(path.join(uploads, victim), { 'a/file': 'content' });
      await backUp(operation, archive, { reason: 'by hand' });
      return {
        work: { kind, tenant: victim },
        done: async (now) => {
          expect((await database.query('select from customers where tenant_id = $1', [victim])).rowCount).toBe(0);
          expect(await contents(uploads).then((all) => Object.keys(all).filter((file) => file.startsWith(victim)))).toEqual([]);
          expect(refOf(now, victim)).toBe('');
          expect(await checkBackupErasure(now, await certified(operation, victim))).toMatchObject({ valid: true });
        },
      };
    }
  }
}

/** How many databases let it in. */
async function homesOf(tenant: string): Promise<number> {
  const states = [await registered(here, tenant), await registered(second, tenant)];
  return states.filter((state) => JSON.stringify(state) === '{"state":"active","placement":null}').length;
}

test(
  `whatever is killed is finished by the same again, and nobody else notices (seed ${seed})`,
  async () => {
    const random = randomNumbers(seed);
    const before = await around();
    const steps = new Map<string, number>();
    let killed = 0;
    for (let run = 0; run < kinds.length + kills; run += 1) {
      const kind = kinds[run % kinds.length] ?? 'backup';
      const ahead = run * aheadMs;
      const clock = (): Date => new Date(Date.now() + ahead);
      const operation = operationWith({ ...here.control, clock }, model, here.operation());
      const { work, done } = await prepare(kind, `of ${run}`, { operation, archive: await open({ clock }) });
      // The first of each kind is left alone: it tells how long the others are.
      const whole = steps.get(kind);
      const kill = whole === undefined ? undefined : { at: 1 + Math.floor(random() * whole), after: random() < 0.5 };
      const taken = await inAnotherProcess(work, ahead, kill);
      if (taken === undefined) killed += 1;
      else if (!kill) steps.set(kind, taken);
      const what = kill ? `${kind} killed ${kill.after ? 'after' : 'at'} step ${kill.at} of ${whole}` : `${kind} of ${taken} steps`;
      if (process.env['PARTYWALL_KILLS']) process.stderr.write(`    ${run}: ${what}\n`);
      await letGo();
      expect(await around(), what).toEqual(before);
      expect(await homesOf(moved), what).toBeLessThanOrEqual(1);
      await expectWhole(clock, what);
      if (kill) await carryOut(operation, await open({ clock }), work);
      expect(await around(), what).toEqual(before);
      await done(await open({ clock }), operation).catch((cause: unknown) => {
        throw new Error(what, { cause });
      });
      await expectWhole(clock, what);
    }
    if (process.env['PARTYWALL_KILLS']) process.stderr.write(`    ${killed} of ${kills} were killed\n`);
    expect(killed).toBeGreaterThan(kills / 2);
  },
  120_000 + kills * 30_000,
);

/** What there is counts, and can be read whole. */
async function expectWhole(clock: () => Date, what: string): Promise<void> {
  const archive = await open({ clock });
  expect((await soundness(archive)).missing, what).toEqual([]);
  for (const id of await backupIds(archive)) expect(await verifyBackup(archive, id, { readData: true }), what).toMatchObject({ whole: true });
}
