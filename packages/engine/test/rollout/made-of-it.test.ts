import { drillBackup, preparePlacement, recoverDatabase, runBackup } from '@partywall/engine';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { changeRollout, connect, systemDatabaseName, verify } from '../../src/index.ts';

// A database that is made of one in which a roll-out observes enforces.
const fixture = await controlDatabase({
  schema: `create table branches (id int primary key, tenant_id uuid not null references tenants (id) on delete cascade);
    create table visits (id int primary key, tenant_id uuid not null references tenants (id) on delete cascade, branch_id int references branches (id));`,
  tables: {
    'public.branches': { scope: 'scoped', column: 'tenant_id' },
    'public.visits': { scope: 'scoped', column: 'tenant_id', unit: 'branch_id' },
  },
  unit: { table: 'public.branches' },
});
const { database, model, control, operation } = fixture;
const { archive } = await archiveFixture({ keyring: control.keyring });
// Made here, so that they are gone before the roles that own things in them.
const [recovered, placement, staging] = [await createDatabase(), await createDatabase(), await createDatabase()];
const owner = await connect(database.url, { purpose: 'test' });
afterAll(async () => {
  await owner.end();
  await database.query(`drop database if exists "${systemDatabaseName(placement.name)}" with (force)`);
});
let tenant = '';

beforeAll(async () => {
  tenant = await fixture.tenant('Acme');
  await fixture.tenant('Globex');
  await database.query('insert into branches select n, $1 from generate_series(1, 2) n', [tenant]);
  await database.query('insert into visits select n, $1, n from generate_series(1, 2) n', [tenant]);
  const actor = { kind: 'operator', id: 'kari' } as const;
  for (const change of [
    { scope: 'percent', percent: 10 },
    { scope: 'tenant', tenant, mode: 'enforce' },
    { scope: 'table', table: 'public.visits', mode: 'observe' },
  ] as const) {
    expect((await changeRollout(owner, { model, change, actor })).unfinished).toEqual([]);
  }
}, 60_000);

/** What a roll-out leaves in a database, and whom the policies of units bind. */
async function rolledOut(on: TestDatabase): Promise<{ modes: unknown[]; stages: unknown[]; left: string[]; units: string[]; observing: boolean }> {
  const modes = await on.query('select scope, target from partywall.rollout');
  const stages = await on.query('select percent from partywall.rollout_stages');
  const left = await on.query<{ name: string }>(
    "select tgname as name from pg_trigger where tgname like '%pw_observe%' union all select policyname from pg_policies where policyname = 'partywall_observe'",
  );
  const units = await on.query<{ roles: string }>("select distinct roles::text from pg_policies where policyname like 'partywall_unit_%' order by 1");
  const fact = await on.query<{ value: boolean }>("select value from partywall.facts where name = 'rollout_observing'");
  return {
    modes: modes.rows,
    stages: stages.rows,
    left: left.rows.map(({ name }) => name),
    units: units.rows.map(({ roles }) => roles),
    observing: fact.rows[0]?.value ?? false,
  };
}

const enforcing = { modes: [], stages: [], left: [], units: ['{public}'], observing: false };

test('a backup that was made while a roll-out observed comes back enforcing, the plan says so, and a drill of it passes', async () => {
  const { id } = await runBackup(operation(), archive, { reason: 'test' });
  const options = { clock: () => new Date(), model };
  const rollout = ['all: observe', 'canary of 10 %: enforce', 'table public.visits: observe', `tenant ${tenant}: enforce`];
  const plan = await recoverDatabase(archive, { from: id, into: recovered.url, dryRun: true }, options);
  expect(plan.rollout.toSorted()).toEqual(rollout);
  const report = await recoverDatabase(archive, { from: id, into: recovered.url }, options);
  expect([report.rollout.toSorted(), report.findings]).toEqual([rollout, 0]);
  expect(await rolledOut(recovered)).toEqual(enforcing);
  expect((await recovered.query('select from visits')).rowCount).toBe(2);
  const drill = await drillBackup(operation(), archive, { into: staging.url, selection: { kind: 'all' } });
  expect([drill.outcome, drill.steps.flatMap(({ problems }) => problems)]).toEqual(['passed', []]);
});

test('a placement is made without it and with a key of its own, and is the same schema while home goes on observing', async () => {
  const first = await preparePlacement(operation(), { into: placement.url });
  expect(first).toMatchObject({ found: 'empty', findings: [] });
  expect(await rolledOut(placement)).toEqual(enforcing);
  const key = "select encode(ipad, 'hex') as ipad from partywall.seal_keys where id = 0";
  const [own, home] = [(await placement.query(key)).rows, (await database.query(key)).rows];
  expect([own.length, own[0]?.ipad === home[0]?.ipad]).toEqual([1, false]);
  expect(await preparePlacement(operation(), { into: placement.url })).toMatchObject({ found: 'same', findings: [] });
  expect(await rolledOut(placement)).toEqual(enforcing);
  // At home it goes on.
  const { left, ...modes } = await rolledOut(database);
  expect([left.includes('partywall_observe'), modes.modes.length, modes.observing]).toEqual([true, 4, true]);
  const found = await verify({ model, adminUrl: database.url, staticOnly: true });
  expect(found.findings.map(({ rule }) => rule).sort()).toEqual(['policy.observed-table', 'runtime.observing']);
});
