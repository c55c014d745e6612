import { randomUUID } from 'node:crypto';
import { readdir, rename } from 'node:fs/promises';
import path from 'node:path';
import {
  type DrillInput,
  type DrillOptions,
  type DrillReport,
  drillBackup,
  drillMarkdown,
  openEscrowedArchive,
  previewDrill,
  runBackup,
  sqlState,
  verifyAudit,
} from '@partywall/engine';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase, suffix } from '../../../../../test/support/database.ts';
import { databaseIdentity } from '../../../src/archive/drill/scratch.ts';
import { drilledTenants, leftovers } from './drilled-tenants.ts';

const fixture = await controlDatabase({
  // Of the platform, with rows that refer to those of tenants.
  schema: 'create table featured (customer_id uuid not null references customers (id));',
  tables: { 'public.featured': { scope: 'platform' } },
});
const { database, control, operation } = fixture;
const { archive, folder, settings, open } = await archiveFixture({ keyring: control.keyring });
const staging = await createDatabase();
const work = path.join(folder, 'work');
let tenants: string[] = [];
let backup = '';

const drill = (input: DrillInput = {}, options: DrillOptions = {}): Promise<DrillReport> =>
  drillBackup(operation(), archive, { into: staging.url, selection: { kind: 'all' }, ...input }, options);

const steps = ({ steps: ran }: DrillReport): Record<string, string> => Object.fromEntries(ran.map(({ step, outcome }) => [step, outcome]));

beforeAll(async () => {
  tenants = await drilledTenants(fixture, ['enterprise', 'pro', 'free']);
  await database.query('insert into featured select id from customers where tenant_id = $1 limit 3', [tenants[2]]);
  backup = (await runBackup(operation(), archive, { reason: 'test' })).id;
}, 60_000);

describe('a drill', () => {
  test('restores everybody beside a staging database, finds nothing wrong, and leaves nothing there', async () => {
    await staging.query('create table theirs as select 1 as one');
    const stranger = `partywall_drill_0123456789ab_${suffix()}`;
    await database.query(`create database "${stranger}"`);
    const before = { databases: [], roles: [] };
    const seen: string[] = [];
    const report = await drill(
      { seed: 'seed' },
      { onStep: ({ step, url }) => void seen.push(`${step} ${url === undefined ? '' : new URL(url).pathname.slice(1, 17)}`.trim()) },
    );

    expect(report.steps.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(report).toMatchObject({ outcome: 'passed', backup, seed: 'seed', visited: 3, held: 3, keys: { from: 'keyring', kek: 1 }, kept: null });
    expect(report.keys.data).toHaveLength(4);
    expect(report.readySeconds).toBeGreaterThan(0);
    expect(report.tenants.map(({ tenant, outcome, rows, rtoSeconds }) => [tenant, outcome, rows, rtoSeconds])).toEqual(
      expect.arrayContaining([
        [tenants[0], 'passed', 45, 1800],
        [tenants[1], 'passed', 45, 7200],
        [tenants[2], 'passed', 45, null],
      ]),
    );
    expect(seen).toEqual([
      'scratch',
      ...['schema', 'load', 'keys', 'compare', 'sequences', 'wall', 'smoke', 'objective'].map((step) => `${step} partywall_drill_`),
    ]);

    expect((await staging.query('select * from theirs')).rows).toEqual([{ one: 1 }]);
    expect(await leftovers(fixture)).toEqual(before);
    // Of another source: it may be running.
    await database.query(`drop database "${stranger}"`);

    const { rows } = await database.query('select backup, outcome, tenants, rto_seconds, report from partywall_control.drills where id = $1', [report.id]);
    expect(rows).toEqual([{ backup, outcome: 'passed', tenants: 3, rto_seconds: report.readySeconds, report: JSON.parse(JSON.stringify(report)) }]);
    const proved = await database.query('select tenant_id, backup, drill, at from partywall_control.proved_points order by 1');
    expect(proved.rows).toEqual(tenants.toSorted().map((tenant) => ({ tenant_id: tenant, backup, drill: report.id, at: new Date(report.at) })));
    const records = await database.query("select details from partywall_control.audit_records where action = 'backup.drill'");
    expect(records.rows).toEqual([{ details: expect.objectContaining({ backup, outcome: 'passed', tenants: 3, of: 3, failed: [] }) }]);
    expect((await verifyAudit(operation())).faults).toEqual([]);

    const page = drillMarkdown(report);
    expect(page).toContain(`| backup | ${backup}, rows of ${report.at} |`);
    expect(page).toContain('| compare rows with the backup | passed |');
    expect(page).toContain(`| ${tenants[0]} | enterprise | passed | 45 | 1800 s | everybody |`);
  });

  test('starts a server of its own where none is named, makes the roles there, and takes all of it away', async () => {
    const report = await drill({ into: undefined, selection: { kind: 'tenants', tenants: [tenants[0] ?? ''] } });
    expect(report.steps.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(report).toMatchObject({ outcome: 'passed', target: 'an embedded server', visited: 2, held: 3 });
    expect(report.steps.find(({ step }) => step === 'schema')?.said).toMatch(/^\d+ tables, [1-9]\d* roles$/);
    expect(await readdir(work)).toEqual([]);
  }, 60_000);

  test('of some tenants makes no foreign key to rows of the others, and says so', async () => {
    const report = await drill({ selection: { kind: 'tenants', tenants: tenants.slice(0, 2) } });
    expect(report.steps.filter(({ problems }) => problems.length > 0)).toEqual([]);
    expect(report.notes).toContainEqual(expect.stringMatching(/featured.*not made, because it needs rows of tenants that were left out/));
    expect(report.projectedSeconds).toBeGreaterThan(report.readySeconds ?? 0);
  });

  test('says before what it would do, and does nothing', async () => {
    const count = async (): Promise<unknown> => (await database.query('select count(*) from partywall_control.drills')).rows;
    const before = await count();
    const selection = { kind: 'sample', count: 2 } as const;
    const plan = await previewDrill(operation(), archive, { into: staging.url, selection, seed: 's' });
    expect(plan).toMatchObject({ backup, seed: 's', leftOut: 1, target: expect.stringContaining(`a new database beside postgres@127.0.0.1`) });
    expect(plan.tenants.map(({ tenant }) => tenant)).toEqual(tenants.slice(0, 2));
    expect(await count()).toEqual(before);
    // The same plan is what a real run follows.
    const report = await drill({ selection, seed: 's' });
    expect(report.tenants.map(({ tenant }) => tenant)).toEqual(plan.tenants.map(({ tenant }) => tenant));
  });

  test('refuses the database that is backed up, by whatever name it is reached, and a role that may not look past policies', async () => {
    const before = await leftovers(fixture);
    const byName = new URL(database.url);
    byName.hostname = 'localhost';
    for (const into of [database.url, byName.toString()]) {
      await expect(drill({ into })).rejects.toMatchObject({
        code: 'restore_refused',
        message: expect.stringContaining('that is the database that is backed up'),
      });
    }
    await expect(drill({ into: staging.urlAs(fixture.model.roles.service) })).rejects.toMatchObject({ code: 'permission_missing' });
    expect(await leftovers(fixture)).toEqual(before);
    expect(await databaseIdentity(control.pool)).not.toBe('');
  });

  test('runs once at a time for a database', async () => {
    const second: unknown[] = [];
    const first = await drill(
      {},
      {
        onStep: async ({ step }) => {
          if (step === 'schema') second.push(await drill().catch((error: unknown) => error));
        },
      },
    );
    expect(first.outcome).toBe('passed');
    expect(second).toEqual([expect.objectContaining({ code: 'restore_refused', message: expect.stringContaining('another drill of this database runs') })]);
  });

  test('that is interrupted drops what it made, and says that it was', async () => {
    const before = await leftovers(fixture);
    const stop = new AbortController();
    const interrupted = drillBackup(
      operation({ signal: stop.signal }),
      archive,
      { into: staging.url },
      {
        onStep: ({ step }) => {
          if (step === 'compare') stop.abort(new Error('stopped'));
        },
      },
    );
    await expect(interrupted).rejects.toThrow('stopped');
    expect(await leftovers(fixture)).toEqual(before);
    const { rows } = await database.query('select outcome, report from partywall_control.drills order by started_at desc limit 1');
    expect(rows).toEqual([{ outcome: 'failed', report: { error: 'it was interrupted' } }]);
  });

  test('keeps the scratch database where it is asked to, until the next drill', async () => {
    const kept = await drill({ keep: true });
    expect(kept).toMatchObject({ outcome: 'passed', kept: expect.stringContaining('/partywall_drill_') });
    expect((await leftovers(fixture)).databases).toHaveLength(1);
    const next = await drill();
    expect(next.notes).toContainEqual(expect.stringMatching(/had left database partywall_drill_\w+, which is gone now/));
    expect((await leftovers(fixture)).databases).toEqual([]);
  });
});

test('nobody else of the staging server can look into the scratch database', async () => {
  const looks: string[] = [];
  await drill(
    { selection: { kind: 'tenants', tenants: tenants.slice(0, 1) } },
    {
      onStep: async ({ step, url }) => {
        if (step !== 'objective') return;
        const { app, service } = fixture.model.roles;
        for (const role of [app, service]) {
          const as = new URL(url ?? '');
          as.username = role;
          const client = new pg.Client({ connectionString: as.toString() });
          const answer = await client.connect().then(
            () => 'let in',
            (error: unknown) => `refused with ${sqlState(error)}`,
          );
          looks.push(answer);
          await client.end();
        }
      },
    },
  );
  expect(looks).toEqual(['let in', 'refused with 42501']);
});

describe('without the keyring', () => {
  const gone = `${control.keyring}-gone-${randomUUID()}`;
  afterAll(() => rename(gone, control.keyring).catch(() => undefined));

  test('a drill says so, and escrow alone is enough', async () => {
    await rename(control.keyring, gone);
    for (const escrow of [settings.escrow, undefined]) {
      const bare = open({ keyring: path.join(folder, `no-keyring-${escrow === undefined}`), escrow });
      await expect(bare.then((opened) => drillBackup(operation(), opened, { into: staging.url }))).rejects.toMatchObject({
        code: 'keyring_refused',
        hint: expect.stringContaining('partywall backup drill --escrow'),
      });
    }

    const escrowed = await openEscrowedArchive({ ...settings, kek: { kind: 'file' } });
    try {
      const report = await drillBackup(operation(), escrowed, { into: staging.url, selection: { kind: 'all' }, keysFrom: 'escrow' });
      expect(report).toMatchObject({ outcome: 'passed', keys: { from: 'escrow', kek: 1 } });
      expect(await readdir(work)).toContainEqual(expect.stringMatching(/^escrow-/));
    } finally {
      await escrowed.close();
    }
    expect(await readdir(work)).toEqual([]);
    await rename(gone, control.keyring);
    expect(steps(await drill())).toMatchObject({ compare: 'passed' });
  });

  test('a drill from escrow without escrow says what is missing', async () => {
    await expect(openEscrowedArchive({ ...settings, escrow: undefined, kek: { kind: 'file' } })).rejects.toMatchObject({ code: 'escrow_unverified' });
    await expect(openEscrowedArchive({ ...settings, escrow: path.join(folder, 'empty'), kek: { kind: 'file' } })).rejects.toMatchObject({
      code: 'escrow_unverified',
    });
    expect(await readdir(work)).toEqual([]);
  });
});
