import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { connect } from '../../src/db/connect.ts';
import type { RolloutChange } from '../../src/rollout/plan-change.ts';
import { changeRollout } from '../../src/rollout/set-mode.ts';
import { verify } from '../../src/verify/verify.ts';
import { applyWall } from '../../src/wall/apply.ts';
import { onDatabase, waitingForLock } from '../wall/databases.ts';
import { createUnitDatabase, tenantA, units } from '../wall/unit-database.ts';

const { database, model, appUrl } = await createUnitDatabase();
const owner = await connect(database.url, { purpose: 'test' });
const app = new pg.Client(appUrl);
await app.connect();
afterAll(() => Promise.all([owner.end(), app.end()]));
const change = (wanted: RolloutChange, options = {}) => changeRollout(owner, { model, change: wanted, actor: { kind: 'operator', id: 'kari' } }, options);

/** Titles and labels that a unit's context sees, and how many rows it can write. */
async function insideUnit(): Promise<{ contracts: string; assets: string; written: number }> {
  await app.query('begin');
  try {
    await app.query('select partywall.enter($1, $2)', [tenantA, units.a1]);
    const contracts = await app.query<{ seen: string }>("select string_agg(title, ' ' order by title) as seen from contracts");
    const assets = await app.query<{ seen: string }>("select string_agg(label, ' ' order by label) as seen from assets");
    const { rowCount } = await app.query("update contracts set title = title || '!'");
    await app
      .query("insert into contracts (tenant_id, business_unit_id, title) values ($1, $2, 'of another unit')", [tenantA, units.a2])
      .catch(() => undefined);
    return { contracts: contracts.rows[0]?.seen ?? '', assets: assets.rows[0]?.seen ?? '', written: rowCount ?? 0 };
  } finally {
    await app.query('rollback');
  }
}

async function findings(): Promise<string[]> {
  const found = await verify({ model, adminUrl: database.url, staticOnly: true });
  return found.findings.filter(({ rule }) => /^(policy|unit)\./.test(rule)).map(({ rule, target }) => `${rule} ${target}`);
}

const walled = { contracts: 'a a1', assets: 'a1', written: 1 };
const open = { contracts: 'a a1 a2 b b1 b2', assets: 'a1', written: 6 };

test('a table that is opened is narrowed by no unit, contract leaves it so, verify names it alone, and closing brings all of the wall back', async () => {
  const policies = async () =>
    (await database.query("select tablename, policyname, roles, qual, with_check from pg_policies where schemaname = 'public' order by 1, 2")).rows;
  const before = await policies();
  expect(await insideUnit()).toEqual(walled);
  await change({ scope: 'table', table: 'contracts', mode: 'observe' });
  expect(await insideUnit()).toEqual(open);
  await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  expect(await insideUnit()).toEqual(open);
  expect(await findings()).toEqual(['policy.observed-table public.contracts']);
  await change({ scope: 'table', table: 'contracts', mode: 'enforce' });
  expect([await insideUnit(), await policies(), await findings()]).toEqual([walled, before, []]);
});

test('enforcing all, and a table that is open without a mode, bring the units back too', async () => {
  for (const undo of [async () => undefined, () => database.query("delete from partywall.rollout where scope = 'table'")]) {
    await change({ scope: 'table', table: 'contracts', mode: 'observe' });
    await undo();
    expect((await change({ scope: 'all', mode: 'enforce' })).unfinished).toEqual([]);
    expect([await insideUnit(), await findings()]).toEqual([walled, []]);
  }
});

test('while a change of one table waits for anybody else, nobody waits for the table', async () => {
  const locked = async () =>
    (await database.query("select mode from pg_locks where relation = 'contracts'::regclass and granted and mode <> 'AccessShareLock'")).rows;
  await onDatabase(database.url, async (holder) => {
    await holder.query("begin; select from partywall.facts where name = 'rollout_observing' for update");
    const changing = change({ scope: 'table', table: 'contracts', mode: 'observe' }, { lockAttempts: 1_000 });
    await waitingForLock(database);
    expect(await locked()).toEqual([]);
    await holder.query('commit');
    expect((await changing).unfinished).toEqual([]);
  });
  await change({ scope: 'table', table: 'contracts', mode: 'enforce' });
});

test('writers get through while a reader keeps a table from being closed', async () => {
  await change({ scope: 'table', table: 'contracts', mode: 'observe' });
  await onDatabase(database.url, async (reader) => {
    await reader.query('begin; select from contracts limit 1');
    const changing = change({ scope: 'all', mode: 'enforce' }, { lockAttempts: 1_000 });
    for (let round = 1; round <= 3; round += 1) {
      await waitingForLock(database);
      // Queued behind the step, which gives way although the reader does not.
      await database.query("insert into contracts (tenant_id, title) values ($1, 'passing')", [tenantA]);
    }
    await reader.query('commit');
    expect((await changing).unfinished).toEqual([]);
  });
  expect((await database.query("delete from contracts where title = 'passing'")).rowCount).toBe(3);
  expect(await findings()).toEqual([]);
});
