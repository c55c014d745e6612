import { afterAll, expect, test } from 'vitest';
import { randomNumbers } from '../../../../test/support/random-numbers.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { connect } from '../../src/db/connect.ts';
import type { RolloutChange } from '../../src/rollout/plan-change.ts';
import { changeRollout } from '../../src/rollout/set-mode.ts';
import { observes, readModes } from '../../src/rollout/state.ts';
import { triggerSteps } from '../../src/rollout/watch-tables.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { contractAll, onDatabase, small, testRoles } from '../wall/databases.ts';

const rounds = 40;
const seed = Number(process.env['PARTYWALL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

const { database, model } = await small(
  testRoles(),
  'create table notes (id int primary key, tenant_id int not null references tenants); create table events (id int primary key, tenant_id int not null references tenants)',
  { notes: { scope: 'scoped', column: 'tenant_id' }, events: { scope: 'scoped', column: 'tenant_id' } },
);
await contractAll(database.url, model);
const operators = [await connect(database.url, { purpose: 'test' }), await connect(database.url, { purpose: 'test' })];
afterAll(() => Promise.all(operators.map((client) => client.end())));

const changes: readonly RolloutChange[] = [
  { scope: 'all', mode: 'observe' },
  { scope: 'all', mode: 'enforce' },
  { scope: 'percent', percent: 10 },
  { scope: 'tenant', tenant: '1', mode: 'observe' },
  { scope: 'table', table: 'public.notes', mode: 'observe' },
  { scope: 'table', table: 'public.notes', mode: 'enforce' },
];

test(`two who change the modes at the same time leave tables that fit them, ${rounds} times (seed ${seed})`, { timeout: 120_000 }, async () => {
  const random = randomNumbers(seed);
  const pick = (): RolloutChange => changes[Math.floor(random() * changes.length)] ?? { scope: 'all', mode: 'observe' };
  for (let round = 1; round <= rounds; round += 1) {
    const picked = [pick(), pick()];
    const reports = await Promise.all(
      operators.map((client, at) => changeRollout(client, { model, change: picked[at] ?? pick(), actor: { kind: 'operator', id: `operator ${at}` } })),
    );
    const found = await onDatabase(database.url, async (client) => {
      const modes = await readModes(client);
      const open = await client.query<{ table: string }>(
        "select 'public.' || tablename as table from pg_policies where policyname = 'partywall_observe' order by 1",
      );
      const fact = await client.query<{ value: boolean }>("select value from partywall.facts where name = 'rollout_observing'");
      return {
        unwatched: triggerSteps(model, wantedWall(model, await readCatalog(client)), observes(modes)).map(({ table, title }) => `${title}: ${table}`),
        open: open.rows.map(({ table }) => table),
        observing: fact.rows[0]?.value,
        modes,
      };
    });
    expect({ round, picked, unfinished: reports.map(({ unfinished }) => unfinished), ...found }).toMatchObject({
      unfinished: [[], []],
      unwatched: [],
      open: found.modes.filter(({ scope }) => scope === 'table').map(({ target }) => target),
      observing: observes(found.modes.filter(({ scope }) => scope !== 'table')),
    });
  }
});
