import { randomBytes } from 'node:crypto';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import {
  type ControlDatabase,
  type DrillInput,
  type DrillOptions,
  type DrillReport,
  drillBackup,
  openBackup,
  runBackup,
  type TenancyModel,
} from '@partywall/engine';
import pg from 'pg';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase } from '../../../../../test/support/database.ts';
import { backupId, manifestObject, packObject } from '../../../src/archive/archive.ts';
import type { Manifest } from '../../../src/archive/format/manifest.ts';
import { signManifest } from '../../../src/archive/format/signed-manifest.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { signingKey } from '../../../src/keyring/signing.ts';
import { drilledTenants, leftovers } from './drilled-tenants.ts';

const fixture = await controlDatabase();
const { database, control, operation } = fixture;
const { archive, folder } = await archiveFixture({ keyring: control.keyring });
const staging = await createDatabase();
const [enterprise = '', pro = '', free = ''] = await drilledTenants(fixture, ['enterprise', 'pro', 'free']);
const back = async (): Promise<string> => (await runBackup(operation(), archive, { reason: 'test' })).id;
let good = '';

beforeAll(async () => {
  good = await back();
}, 60_000);

// Whatever it found, a drill leaves nothing.
afterEach(async () => {
  expect(await leftovers(fixture)).toEqual({ databases: [], roles: [] });
});

const drill = (input: DrillInput = {}, options: DrillOptions = {}, changes: Partial<ControlDatabase> = {}): Promise<DrillReport> =>
  drillBackup(operation({ database: { ...control, ...changes } }), archive, { into: staging.url, from: good, selection: { kind: 'all' }, ...input }, options);

/** Changes the scratch database once its rows are there, as a restore that goes wrong would; no trigger sees it. */
function damage(sql: string): DrillOptions {
  return {
    onStep: async ({ step, url }) => {
      if (step !== 'compare') return;
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      await client.query(`set session_replication_role = replica; ${sql}`).finally(() => client.end());
    },
  };
}

/** What each step that failed said. */
function failures({ steps }: DrillReport): Record<string, readonly string[]> {
  return Object.fromEntries(steps.filter(({ outcome }) => outcome === 'failed').map(({ step, problems }) => [step, problems]));
}

const outcomes = ({ tenants }: DrillReport): Record<string, string> => Object.fromEntries(tenants.map(({ tenant, outcome }) => [tenant, outcome]));

async function proved(): Promise<string[]> {
  const { rows } = await database.query<{ tenant_id: string }>('select tenant_id from partywall_control.proved_points order by 1');
  return rows.map((row) => row.tenant_id);
}

describe('a drill fails, and says why', () => {
  test('where a row is missing, and where a value is another: for those tenants, and for no other', async () => {
    await database.query('delete from partywall_control.proved_points');
    const report = await drill(
      {},
      damage(`delete from notes where id = (select min(id) from notes where partywall_tenant_id = '${enterprise}');
update customers set revenue = 1 where id = (select id from customers where tenant_id = '${pro}' limit 1)`),
    );
    expect(report.outcome).toBe('failed');
    expect(failures(report)).toEqual({
      compare: [
        `tenant ${pro}: public.customers: a value is not what the backup has, among 20 rows`,
        `tenant ${enterprise}: public.notes: 19 rows are there, and the backup has 20`,
      ],
    });
    expect(outcomes(report)).toEqual({ [enterprise]: 'failed', [pro]: 'failed', [free]: 'passed' });
    expect(await proved()).toEqual([free]);
  });

  test('where rows are another tenant’s than they were, or nobody’s', async () => {
    const report = await drill(
      { selection: { kind: 'tenants', tenants: [enterprise, pro] } },
      damage(`insert into countries values ('XX', 'Nowhere'); insert into partywall_control.proved_points
select '${enterprise}', gen_random_uuid(), 'b', now(), now()`),
    );
    expect(failures(report)).toEqual({
      compare: expect.arrayContaining([
        'public.countries: 3 rows are there, and the backup has 2',
        `tenant ${enterprise}: partywall_control.proved_points: 1 rows are there, and the backup has 0`,
      ]),
    });
    // What is wrong with the platform is wrong with everybody.
    expect(outcomes(report)).toEqual({ [enterprise]: 'failed', [pro]: 'failed' });
  });

  test('where a pack is missing, naming it', async () => {
    const ref = archive.keys.subjects().find(({ subject }) => subject === tenantSubject(pro))?.ref ?? '';
    const [pack] = (await openBackup(archive, good)).subjects.get(ref)?.packs ?? [];
    const key = packObject(ref, pack?.backup ?? '', pack?.pack ?? 0);
    const file = path.join(folder, 'store', ...key.split('/'));
    await rename(file, `${file}.away`);
    const report = await drill().finally(() => rename(`${file}.away`, file));
    expect(failures(report)).toEqual({ load: [expect.stringContaining(key)] });
    expect(report.steps.filter(({ outcome }) => outcome === 'not run').map(({ step }) => step)).toEqual([
      'keys',
      'compare',
      'sequences',
      'wall',
      'smoke',
      'objective',
    ]);
    expect(outcomes(report)).toEqual({ [enterprise]: 'failed', [pro]: 'failed', [free]: 'failed' });
    expect(report).toMatchObject({ outcome: 'failed', readySeconds: null, projectedSeconds: null });
  });

  test('where the schema of the backup does not make a table that it has rows of', async () => {
    const { manifest } = await openBackup(archive, good);
    const id = backupId(new Date(Date.now() + 60_000), randomBytes(4).toString('hex'));
    const ghost = { ...manifest.tables.find(({ name }) => name === 'public.notes'), name: 'public.ghosts' } as Manifest['tables'][number]; // a table of the same shape
    await archive.store.put(manifestObject(id), signManifest({ ...manifest, id, tables: [...manifest.tables, ghost] }, await signingKey(archive.keyring)), {
      ifAbsent: true,
    });
    const report = await drill({ from: id }).finally(() => archive.store.delete(manifestObject(id)));
    expect(failures(report)).toEqual({ schema: [expect.stringContaining('its schema does not make public.ghosts')] });
  });

  test('where a sequence would give a value that is taken, although it is where it was', async () => {
    await database.query("select setval('notes_id_seq', 5)");
    const stuck = await back();
    await database.query("select setval('notes_id_seq', (select max(id) from notes))");
    const report = await drill({ from: stuck });
    expect(failures(report)).toEqual({ sequences: ['sequence public.notes_id_seq gives 6, and public.notes.id is at 60 already'] });
    const moved = await drill({}, damage("select setval('notes_id_seq', 1000)"));
    expect(failures(moved)).toEqual({ sequences: ['sequence public.notes_id_seq stands at 1000, and the manifest has 60'] });
  });

  test('where the wall that comes back has a hole', async () => {
    await database.query('alter table customers no force row level security; alter table files disable row level security');
    const holed = await back();
    await database.query('alter table customers force row level security; alter table files enable row level security');
    const report = await drill({ from: holed });
    expect(Object.keys(failures(report))).toEqual(['wall']);
    expect(failures(report)['wall']).toEqual(expect.arrayContaining([expect.stringContaining('public.customers'), expect.stringContaining('public.files')]));
    expect(failures(await drill())).toEqual({});
  });

  test('where the wall could not be attacked', async () => {
    const report = await drill({ appUrl: 'postgresql://nobody_of_this_name@127.0.0.1/x' });
    expect(failures(report)).toEqual({
      wall: [expect.stringMatching(/^could not run anything on role app_.*nobody_of_this_name/)],
    });
    const alone = await fixture.tenant('Alone', 'free');
    const { id } = await runBackup(operation(), archive, { reason: 'test' });
    await database.query('delete from tenants where id = $1', [alone]);
    const nobody = await drill({ from: id, selection: { kind: 'tenants', tenants: [] } });
    expect(nobody.outcome).toBe('failed');
  });

  test('where a smoke query gives what it should not, fails, or tries to leave its tenant', async () => {
    const model: TenancyModel = {
      ...fixture.model,
      archive: {
        ...fixture.model.archive,
        smoke: [
          { sql: 'select 1 from customers limit 1', expect: 'rows' },
          { sql: 'select count(*) from customers', expect: 20 },
          { sql: 'select count(distinct tenant_id) from customers', expect: 1 },
          { sql: `select 1 from tenants where id = '${pro}'`, expect: 'rows' },
          { sql: 'select count(*) from notes', expect: 19 },
          { sql: 'select nothing from customers', expect: undefined },
          { sql: 'select name::int from customers', expect: undefined },
          { sql: 'commit; select 1', expect: undefined },
          { sql: "insert into files (tenant_id, name, size_bytes) select tenant_id, 'f', 1 from customers limit 1 returning size_bytes", expect: 1 },
        ],
      },
    };
    const report = await drill({ selection: { kind: 'tenants', tenants: [enterprise, pro] } }, {}, { model });
    const ofBoth = [
      'smoke query 5: it does not give 19',
      'smoke query 6: it failed with 42703: column "nothing" does not exist',
      // No value of a row.
      'smoke query 7: it failed with 22P02',
      'smoke query 8: it failed with 42601: cannot insert multiple commands into a prepared statement',
    ];
    expect(failures(report)).toEqual({
      smoke: [
        ...['smoke query 4: it gives no row', ...ofBoth].map((what) => `tenant ${enterprise}: ${what}`),
        ...ofBoth.map((what) => `tenant ${pro}: ${what}`),
      ],
    });
  });

  test('where it took longer than the tier promises: for that tier alone', async () => {
    await database.query('delete from partywall_control.proved_points');
    let later = 0;
    const report = await drill(
      {},
      {
        onStep: ({ step }) => {
          if (step === 'keys') later = 3_600_000;
        },
      },
      { clock: () => new Date(Date.now() + later) },
    );
    expect(failures(report)).toEqual({
      objective: [expect.stringMatching(new RegExp(`^tenant ${enterprise}: usable after 36\\d\\d(?:\\.\\d)? s, and its tier enterprise promises 1800 s$`))],
    });
    expect(outcomes(report)).toEqual({ [enterprise]: 'failed', [pro]: 'passed', [free]: 'passed' });
    expect(await proved()).toEqual([pro, free].sort());
  });
});
