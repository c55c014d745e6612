import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  appendLedger,
  changedRecords,
  type LedgerRecord,
  ledgerRecords,
  PartywallError,
  planReconciliation,
  readLedger,
  runBackup,
  suspendTenant,
  syncLedger,
  type WaitingTenant,
} from '@partywall/engine';
import { describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { recoveredReasonSql } from '../../../src/archive/ledger/recovered.ts';
import { backupIds } from '../../../src/archive/read/list-backups.ts';

const at = new Date('2026-11-21T10:00:00.000Z');

function record(tenant: string, changes: Partial<LedgerRecord> = {}): LedgerRecord {
  return { tenant, at: at.toISOString(), status: 'active', retainedUntil: null, placement: null, ...changes };
}

describe('the ledger', () => {
  test('says of each tenant what was written last, also past its summaries', async () => {
    const { archive, open } = await archiveFixture();
    expect(await readLedger(archive)).toMatchObject({ number: 0 });
    for (let n = 0; n < 70; n += 1) await appendLedger(archive, [record(`t${n % 7}`, { status: n % 2 === 0 ? 'suspended' : 'active' })], at);
    const ledger = await readLedger(await open());
    // One of the numbers was taken by a summary.
    expect(ledger.number).toBe(71);
    expect([...ledger.tenants.keys()].sort()).toEqual(['t0', 't1', 't2', 't3', 't4', 't5', 't6']);
    expect(ledger.tenants.get('t3')?.status).toBe((await lastOf(archive, 't3')).status);
    let count = 0;
    for await (const each of ledgerRecords(archive)) {
      expect(each.number).toBeGreaterThan(0);
      count += 1;
    }
    expect(count).toBe(70);
  });

  test('loses no record when many write at once', async () => {
    const { open } = await archiveFixture();
    const writers = await Promise.all(Array.from({ length: 4 }, () => open()));
    // The key of the platform is made by the first.
    const [first] = writers;
    if (!first) throw new Error('no writer');
    await appendLedger(first, [record('first')], at);
    await Promise.all(
      writers.map(async (archive, writer) => {
        await archive.keys.refresh();
        for (let n = 0; n < 5; n += 1) await appendLedger(archive, [record(`${writer}.${n}`)], at);
      }),
    );
    const { tenants, number } = await readLedger(first);
    expect(number).toBe(21);
    expect(tenants.size).toBe(21);
  });

  test('names no tenant to whoever reads the store', async () => {
    const { archive, folder } = await archiveFixture();
    await appendLedger(archive, [record('acme-and-sons')], at);
    const [file = ''] = await readdir(path.join(folder, 'store', 'ledger'));
    expect(await readFile(path.join(folder, 'store', 'ledger', file), 'utf8')).not.toMatch(/acme|active/);
  });

  test.for([
    ['changed', (text: string) => text.replace(/"at":"2026/, '"at":"2027')],
    ['cut short', (text: string) => text.slice(0, -10)],
    ['signed by nobody', (text: string) => text.replace(/"key":"signing-[^"]*"/, '"key":"signing-1:0000000000000000"')],
  ] as const)('does not believe an object that was %s', async ([, change]) => {
    const { archive, folder } = await archiveFixture();
    for (let n = 0; n < 3; n += 1) await appendLedger(archive, [record(`t${n}`)], at);
    const file = path.join(folder, 'store', 'ledger', '000000000002.json');
    await writeFile(file, change(await readFile(file, 'utf8')));
    await expect(readLedger(archive)).rejects.toMatchObject({ code: 'archive_damaged', message: expect.stringContaining('entry 2') });
  });

  test('notices objects that were put in each other’s place, and one that was taken out', async () => {
    const { archive, folder } = await archiveFixture();
    for (let n = 0; n < 4; n += 1) await appendLedger(archive, [record(`t${n}`)], at);
    const file = (number: number): string => path.join(folder, 'store', 'ledger', `00000000000${number}.json`);
    const [second, third] = [await readFile(file(2)), await readFile(file(3))];
    await writeFile(file(2), third);
    await expect(readLedger(archive)).rejects.toMatchObject({ code: 'archive_damaged' });
    await writeFile(file(2), second);
    await rm(file(3));
    await expect(readLedger(archive)).rejects.toThrow();
    // What was written in its place is signed too, and yet not what the next one follows.
    const fourth = await readFile(file(4));
    await rm(file(4));
    await appendLedger(archive, [record('instead')], at);
    await writeFile(file(4), fourth);
    await expect(readLedger(archive)).rejects.toMatchObject({ code: 'archive_damaged', message: expect.stringContaining('does not follow') });
  });
});

async function lastOf(archive: Parameters<typeof readLedger>[0], tenant: string): Promise<LedgerRecord> {
  let last = record(tenant);
  for await (const each of ledgerRecords(archive)) if (each.tenant === tenant) last = each;
  return last;
}

describe('what the ledger does not say yet', () => {
  const states = (
    tenants: Partial<Parameters<typeof changedRecords>[1]['tenants'][number]>[],
    erased: [string, Date][] = [],
  ): Parameters<typeof changedRecords>[1] => ({
    tenants: tenants.map((tenant) => ({ tenant: 't', status: 'active' as const, retainedUntil: null, placement: null, ...tenant })),
    erased: new Map(erased),
  });
  const known = (...records: LedgerRecord[]): { tenants: Map<string, LedgerRecord> } => ({ tenants: new Map(records.map((each) => [each.tenant, each])) });
  const later = new Date(at.getTime() + 1_000);

  test('is nothing where nothing changed', () => {
    expect(changedRecords(known(record('t')), states([{}]), later)).toEqual([]);
  });

  test('is a tenant of its own, another status, another place and another end of its retention', () => {
    expect(changedRecords(known(), states([{}]), later)).toEqual([record('t', { at: later.toISOString() })]);
    for (const change of [{ status: 'suspended' as const }, { placement: 'eu' }, { retainedUntil: at }]) {
      expect(changedRecords(known(record('t')), states([change]), later)).toHaveLength(1);
    }
  });

  test('is an erasure where there is a certificate, and a deletion by the application where there is none', () => {
    const status = (erased: [string, Date][], ...records: LedgerRecord[]): string[] =>
      changedRecords(known(...records), states([], erased), later).map((each) => each.status);
    expect(status([['t', later]], record('t'))).toEqual(['erased']);
    expect(status([['t', later]])).toEqual(['erased']);
    expect(status([], record('t'))).toEqual(['gone']);
    expect(status([], record('t', { status: 'erased' }))).toEqual([]);
    // The key was used again, and its second tenant went without a certificate.
    expect(status([['t', new Date(at.getTime() - 1)]], record('t'))).toEqual(['gone']);
  });
});

describe('a reconciliation', () => {
  const waiting = (tenant: string, changes: Partial<WaitingTenant> = {}): WaitingTenant => ({
    tenant,
    tier: 'free',
    status: 'active',
    placement: null,
    recovered: { backup: 'b', was: 'active', reason: null },
    ...changes,
  });
  const plan = (records: LedgerRecord[], tenants: WaitingTenant[]): string[] =>
    planReconciliation({ tenants: new Map(records.map((each) => [each.tenant, each])) }, tenants, new Set(tenants.map(({ tenant }) => tenant))).map(
      ({ tenant, kind }) => `${tenant} ${kind}`,
    );

  test('admits in the order of the tiers, and in a tier by key', () => {
    const tenants = [waiting('b'), waiting('a'), waiting('e', { tier: 'enterprise' }), waiting('s', { tier: 'starter' }), waiting('p', { tier: 'pro' })];
    expect(plan([], tenants)).toEqual(['e admit', 'p admit', 's admit', 'a admit', 'b admit']);
  });

  test('knows for each tenant what happened since', () => {
    const records = [
      record('erased', { status: 'erased' }),
      record('erasing', { status: 'erasing' }),
      record('gone', { status: 'gone' }),
      record('moved', { placement: 'eu' }),
      record('back'),
      record('suspended', { status: 'suspended' }),
      record('unsuspended'),
      record('same'),
      record('new'),
      record('new elsewhere', { placement: 'eu' }),
      record('erased, and never here', { status: 'erased' }),
    ];
    const tenants = ['erased', 'erasing', 'gone', 'moved', 'same'].map((tenant) => waiting(tenant));
    expect(
      plan(records, [
        ...tenants,
        waiting('back', { placement: 'eu' }),
        waiting('suspended'),
        waiting('unsuspended', { status: 'suspended' }),
        waiting('unknown'),
      ]),
    ).toEqual([
      'back keep',
      'erased erase',
      'erasing erase',
      'gone keep',
      'moved place',
      'same admit',
      'suspended status',
      'unknown admit',
      'unsuspended status',
      'new lost',
      'new elsewhere lost',
    ]);
  });
});

test('the database and the ledger agree after each synchronisation, whoever changed the status', async () => {
  const fixture = await controlDatabase();
  const { archive } = await archiveFixture({ keyring: fixture.control.keyring });
  const [one, two, three] = [await fixture.tenant('One'), await fixture.tenant('Two'), await fixture.tenant('Three')];
  expect((await syncLedger(fixture.operation(), archive)).records).toHaveLength(3);
  expect(await syncLedger(fixture.operation(), archive)).toEqual({ records: [], tenants: 3 });
  await suspendTenant(fixture.operation(), { tenant: one });
  await fixture.database.query("update tenants set status = 'suspended' where id = $1", [two]);
  await fixture.database.query('delete from tenants where id = $1', [three]);
  await syncLedger(fixture.operation(), archive);
  const { tenants } = await readLedger(archive);
  expect([one, two, three].map((tenant) => tenants.get(tenant)?.status)).toEqual(['suspended', 'suspended', 'gone']);
});

describe('a backup', () => {
  test('brings the ledger up first, and fails where that cannot be written', async () => {
    const fixture = await controlDatabase();
    const { archive } = await archiveFixture({ keyring: fixture.control.keyring });
    const tenant = await fixture.tenant('One');
    await runBackup(fixture.operation(), archive, { reason: 'plan', dryRun: true });
    expect((await readLedger(archive)).number).toBe(0);
    await runBackup(fixture.operation(), archive, { reason: 'by hand' });
    expect((await readLedger(archive)).tenants.get(tenant)).toMatchObject({ status: 'active', placement: null });
    await fixture.database.query("update partywall.registry set placement = 'elsewhere', state = 'fenced' where tenant_id = $1", [tenant]);
    const { store } = archive;
    const down: typeof store = Object.assign(Object.create(store), {
      put: async (...given: Parameters<typeof store.put>) => {
        if (given[0].startsWith('ledger/')) throw new PartywallError('store_unavailable', 'writing the ledger: the store is down');
        return store.put(...given);
      },
    });
    const before = await backupIds(archive);
    // Each finds the database free: the one that failed was still reading the schema when it did.
    for (let time = 0; time < 10; time += 1)
      await expect(runBackup(fixture.operation(), { ...archive, store: down }, { reason: 'by hand' })).rejects.toMatchObject({ code: 'store_unavailable' });
    expect(await backupIds(archive)).toEqual(before);
    await runBackup(fixture.operation(), archive, { reason: 'by hand' });
    expect((await readLedger(archive)).tenants.get(tenant)).toMatchObject({ placement: 'elsewhere' });
  });

  test('of a database that came from a backup and waits leaves the ledger as it is', async () => {
    const fixture = await controlDatabase();
    const { archive } = await archiveFixture({ keyring: fixture.control.keyring });
    const tenant = await fixture.tenant('One');
    await syncLedger(fixture.operation(), archive);
    const known = await readLedger(archive);
    await fixture.database.query(
      `update partywall.registry set state = 'fenced', placement = 'past', reason = ${recoveredReasonSql("'20261121t020000z-1f2e3d4c'")} where tenant_id = $1`,
      [tenant],
    );
    await runBackup(fixture.operation(), archive, { reason: 'by hand' });
    expect(await readLedger(archive)).toEqual(known);
  });
});
