import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { backUp, type ControlDatabase, checkBackupErasure, controlPool, type Operation, reconcile, recoverDatabase, syncLedger } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { createDatabase } from '../../../../../test/support/database.ts';
import { envSource } from '../../../src/keyring/sources/env-source.ts';
import { certified, eraser, furnished, refOf } from './erasing.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive, open } = await archiveFixture({ keyring: control.keyring });
const clock = (): Date => new Date();
// Made here, so that it is gone before the roles that own things in it.
const into = await createDatabase();
const keks = await archiveFixture({ keyring: control.keyring });

test('everything restored from before an erasure brings nothing of it back, and the ledger keeps it out', async () => {
  const [gone, stays] = [await furnished(fixture, 'gone'), await furnished(fixture, 'stays')];
  await syncLedger(operation(), archive);
  const { backup } = await backUp(operation(), archive, { reason: 'before' });
  expect(await eraser(fixture, () => open()).erase(gone)).toMatchObject({ state: 'done' });

  const now = await open();
  expect(await recoverDatabase(now, { from: backup, into: into.url }, { clock, model: fixture.model })).toMatchObject({ applied: true, erased: 1 });
  const pool = controlPool(into.url, { purpose: 'test' });
  afterAll(() => pool.end());
  const restored: ControlDatabase = { ...control, pool };
  const there: Operation = { database: restored, actor: { kind: 'operator', id: 'test' } };
  expect(await reconcile(there, now)).toMatchObject({ failed: [], waiting: 0 });
  const { rows: tables } = await into.query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'partywall_control', 'partywall_people') and c.relkind = 'r'`,
  );
  for (const { name } of tables) {
    const { rows } = await into.query<{ text: string }>(`select t::text as text from ${name} t`);
    expect(rows.map(({ text }) => text).join('\n'), name).not.toMatch(/@gone\.example|gone customer/);
  }
  expect((await into.query('select from customers where tenant_id = $1', [gone])).rowCount).toBe(0);
  expect((await into.query('select from customers where tenant_id = $1', [stays])).rowCount).toBe(30);
  await into.query('select partywall.enter($1)', [stays]);
});

test('an erasure of a database that came back finds the keys gone already, and ends', async () => {
  const tenant = await furnished(fixture, 'cut-off');
  await backUp(operation(), archive, { reason: 'test' });
  // The keys went, the certificate was lost with the database.
  await archive.keys.destroy(`tenant:${tenant}`);
  await database.query("update partywall.registry set state = 'fenced', reason = 'recovered from 20261121t020000z-00000000, was active' where tenant_id = $1", [
    tenant,
  ]);
  expect(await eraser(fixture, () => open()).erase(tenant)).toMatchObject({ state: 'done', error: null });
  const erased = await certified(operation(), tenant);
  expect(erased).toMatchObject({ oldKeybookOpens: null, held: { backups: 1 } });
  expect(erased.refs).toHaveLength(1);
});

test('a key-encryption key that somebody has to take away is named, and the certificate holds only once it is gone', async () => {
  const variables = { PARTYWALL_KEK_1: randomBytes(32).toString('hex'), PARTYWALL_KEK_2: randomBytes(32).toString('hex') };
  const keys = path.join(keks.folder, 'keys');
  const both = () => keks.open({ keys, source: envSource(variables) });
  const first = await keks.open({ keys, source: envSource({ PARTYWALL_KEK_1: variables.PARTYWALL_KEK_1 }) });
  const tenant = await furnished(fixture, 'by-hand');
  await backUp(operation(), first, { reason: 'test' });
  expect(await eraser(fixture, both).erase(tenant)).toMatchObject({ state: 'done', error: null });
  const erased = await certified(operation(), tenant);
  expect(erased).toMatchObject({ keks: { destroyed: [], pending: [1] }, oldKeybookOpens: true });
  expect(await checkBackupErasure(await both(), erased)).toMatchObject({ valid: false, problems: [], pending: [1] });
  const after = await keks.open({ keys, source: envSource({ PARTYWALL_KEK_2: variables.PARTYWALL_KEK_2 }) });
  expect(await checkBackupErasure(after, erased)).toMatchObject({ valid: true, pending: [] });
  expect(refOf(after, tenant)).toBe('');
});
