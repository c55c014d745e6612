import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { serialize } from 'node:v8';
import { describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contents, withUploads, write } from '../files/uploads.ts';
import type { FullDiskProcess, FullDiskRound } from './full-disk-process.ts';

/** A disk of its own for a process and what it starts, without a trace outside. */
const ownMounts = ['--map-root-user', '--mount'];
const canMount = await promisify(execFile)('unshare', [...ownMounts, 'true']).then(
  () => true,
  () => false,
);
const diskBytes = 2_000_000;
/** Blocks that are enough. */
const roomy = 200;
const customers = 200;

const fixture = await controlDatabase();
const { database, control, urls } = fixture;
const { folder, settings } = await archiveFixture({ keyring: control.keyring });
const uploads = path.join(folder, 'uploads');
const disk = path.join(folder, 'disk');
await fs.mkdir(disk);
const [worked, neighbour] = [await fixture.tenant('Worked'), await fixture.tenant('Neighbour')];
for (const tenant of [worked, neighbour]) {
  await database.query("insert into customers (tenant_id, name, revenue) select $1, 'c' || n, n from generate_series(1, $2::int) n", [tenant, customers]);
  await write(path.join(uploads, tenant), { 'a/file': tenant, other: 'content' });
}

async function stateOf(tenant: string): Promise<unknown> {
  const { rows } = await database.query(
    "select md5(string_agg(c::text, '' order by id)) as hash, (select state from partywall.registry where tenant_id = $1) as state from customers c where tenant_id = $1",
    [tenant],
  );
  return [rows, await contents(path.join(uploads, tenant))];
}

/** Where the disk is that fills up, as settings of the archive. */
const places = {
  'the store': (name: string) => ({ store: path.join(disk, name) }),
  'the work folder': (name: string) => ({ store: path.join(folder, name), workFolder: path.join(disk, name) }),
};

const placeNames = Object.keys(places) as (keyof typeof places)[]; // as it is written above

async function onFullDisk(kind: FullDiskProcess['kind'], place: keyof typeof places, rounds: readonly number[]): Promise<FullDiskRound[]> {
  const { escrow, keyring, workFolder, env } = settings;
  const name = `${kind}-${place.replaceAll(' ', '-')}`;
  const own = { keys: path.join(folder, `${name}-keys`), escrow: `${escrow}-${name}` };
  const given: FullDiskProcess = {
    service: urls.service,
    model: serialize(withUploads(fixture.model, pathToFileURL(uploads).href)).toString('base64'),
    settings: { keyring, workFolder, env, ...own, ...places[place](name) },
    disk,
    kind,
    tenant: worked,
    rounds,
    change: {
      url: database.url,
      statement: 'update customers set name = repeat(md5(random()::text), 2) where tenant_id = $1',
      file: path.join(uploads, worked, 'a/file'),
    },
  };
  await fs.mkdir(given.settings.workFolder, { recursive: true });
  const script = path.join(import.meta.dirname, 'full-disk-process.ts');
  const command = `mount -t tmpfs -o size=${diskBytes} none "$0" && exec "$@"`;
  const node = [process.execPath, '--conditions=partywall-source', '--no-warnings', script, JSON.stringify(given)];
  const { stdout } = await promisify(execFile)('unshare', [...ownMounts, 'sh', '-c', command, disk, ...node]);
  return stdout
    .trim()
    .split('\n')
    .map((line): FullDiskRound => JSON.parse(line));
}

describe.skipIf(!canMount && process.env['PARTYWALL_NO_SKIPS'] !== '1')('on a disk that is full,', () => {
  test.each(placeNames)('%s, a backup leaves nothing that counts, and is whole once there is room', { timeout: 120_000 }, async (place) => {
    const around = await stateOf(neighbour);
    const rounds = await onFullDisk('backup', place, [0, 2, 12, roomy]);
    for (const {
      code,
      counted: [before, full, after],
      ...round
    } of rounds) {
      expect([null, 'store_full']).toContain(code);
      expect(round, JSON.stringify(round)).toMatchObject({ whole: true, left: [], untouched: true });
      expect([full, after], JSON.stringify(round)).toEqual([code === null ? before + 1 : before, before + 1]);
    }
    expect(rounds.filter(({ code }) => code === 'store_full').length).toBeGreaterThan(1);
    expect(rounds.at(-1)).toMatchObject({ code: null });
    expect(await stateOf(neighbour)).toEqual(around);
  });

  test.each(placeNames)('%s, a restore changes nothing without its undo backup, and is done once there is room', { timeout: 120_000 }, async (place) => {
    const [kept, around] = [await stateOf(worked), await stateOf(neighbour)];
    const rounds = await onFullDisk('restore', place, [0, 8, roomy]);
    for (const round of rounds) {
      const full = round.free < roomy;
      expect(round).toMatchObject({ whole: true, left: [], untouched: full });
      if (full) expect(round.message).toMatch(/no space left|disk is full/);
      else expect(round.message).toBeNull();
    }
    expect(await stateOf(worked)).toEqual(kept);
    expect(await stateOf(neighbour)).toEqual(around);
  });
});
