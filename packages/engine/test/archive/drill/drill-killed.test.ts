import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { serialize } from 'node:v8';
import { connect, drillBackup, openEscrowedArchive, runBackup, startEmbedded } from '@partywall/engine';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { locksReleased } from '../../../../../test/support/database.ts';
import { drilledTenants } from './drilled-tenants.ts';
import type { DrillingProcess } from './drilling-process.ts';

const fixture = await controlDatabase();
const { database, operation } = fixture;
const { archive, settings, folder } = await archiveFixture({ keyring: fixture.control.keyring });
const work = path.join(folder, 'work');

// A server that has none of the roles.
const server = await startEmbedded({
  dataDir: path.join(folder, 'staging'),
  auth: 'trust',
  settings: { fsync: 'off' },
  major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18'),
});
afterAll(() => server.stop());

beforeAll(async () => {
  await drilledTenants(fixture, ['enterprise', 'free']);
  await runBackup(operation(), archive, { reason: 'test' });
}, 60_000);

async function killed(killBefore: string, into?: string): Promise<void> {
  const { clock: _clock, ...rest } = settings;
  const given: DrillingProcess = { settings: rest, service: fixture.urls.service, model: fixture.model, into, killBefore };
  const child = spawn(
    process.execPath,
    ['--conditions=partywall-source', path.join(import.meta.dirname, 'drilling-process.ts'), serialize(given).toString('base64')],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const [, signal] = await once(child, 'exit');
  expect(signal).toBe('SIGKILL');
  await locksReleased(database);
}

/** Databases and roles of the staging server, but for its own. */
async function staged(): Promise<string[]> {
  const client = await connect(server.url, { purpose: 'test' });
  try {
    const { rows } = await client.query<{ name: string }>(
      `select 'database ' || datname as name from pg_database where datname not in ('postgres', 'template0', 'template1')
union all select 'role ' || rolname from pg_roles where rolname !~ '^pg_' and rolname <> 'postgres' order by 1`,
    );
    return rows.map(({ name }) => name);
  } finally {
    await client.end();
  }
}

async function outcomes(): Promise<unknown[]> {
  const { rows } = await database.query('select outcome, report ->> $1 as error from partywall_control.drills order by started_at', ['error']);
  await database.query('delete from partywall_control.drills');
  return rows;
}

describe('a drill that is killed', () => {
  test('on a staging server leaves databases and roles, which the next one takes away', async () => {
    await killed('load', server.url);
    await killed('smoke', server.url);
    // The second one swept what the first one left, and left its own.
    const left = await staged();
    expect(left.filter((name) => name.startsWith('database partywall_drill_'))).toHaveLength(1);
    expect(left).toContain(`role ${fixture.model.roles.app}`);
    const report = await drillBackup(operation(), archive, { into: server.url, selection: { kind: 'all' } });
    expect(report.steps.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(report.notes.filter((note) => note.includes('cut off')).length).toBeGreaterThan(1);
    expect(await staged()).toEqual([]);
    expect(await outcomes()).toEqual([
      { outcome: 'failed', error: 'it was cut off' },
      { outcome: 'failed', error: 'it was cut off' },
      { outcome: 'passed', error: null },
    ]);
  }, 60_000);

  test('on a server of its own leaves that running, which the next one stops and deletes', async () => {
    await killed('compare');
    const [left = ''] = await readdir(work);
    expect(left).toMatch(/^drill-[0-9a-f]{12}-[0-9a-f]{12}$/);
    const pid = Number((await readFile(path.join(work, left, 'postmaster.pid'), 'utf8')).split('\n')[0]);
    expect(isAlive(pid)).toBe(true);
    // Of another source, and nobody's: they stay.
    await mkdir(path.join(work, 'drill-0123456789ab-0123456789ab'));
    await writeFile(path.join(work, 'other'), '');

    const report = await drillBackup(operation(), archive, { selection: { kind: 'all' } });
    expect(report).toMatchObject({ outcome: 'passed', notes: expect.arrayContaining([expect.stringContaining(`server in ${left}`)]) });
    expect(isAlive(pid)).toBe(false);
    expect(await readdir(work)).toEqual(['drill-0123456789ab-0123456789ab', 'other']);
  }, 60_000);

  test('leaves no keys of escrow unpacked after the next one', async () => {
    const dead = spawn(process.execPath, ['--version'], { stdio: 'ignore' });
    await once(dead, 'exit');
    const unpacked = path.join(work, `escrow-${dead.pid}-abcdef`);
    await mkdir(unpacked);
    await writeFile(path.join(unpacked, 'kek-1.key'), 'a key');
    const escrowed = await openEscrowedArchive({ ...settings, kek: { kind: 'file' } });
    await escrowed.close();
    expect((await readdir(work)).filter((entry) => entry.startsWith('escrow-'))).toEqual([]);
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
