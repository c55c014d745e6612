import { randomUUID } from 'node:crypto';
import { cp, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  backUp,
  backupIds,
  backupSource,
  checkBackupErasure,
  deleteTenant,
  eraseTenant,
  inProcess,
  openBackup,
  previewBackupErasure,
  readCertificate,
  readErasureList,
  readLedger,
  restoreFromArchive,
  showTenant,
  verifyBackup,
  verifyCertificate,
  works,
} from '@partywall/engine';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { sha256 } from '../../../src/keyring/book.ts';
import { fileSource } from '../../../src/keyring/sources/file-source.ts';
import { certified, eraser, furnished, readable, refOf, rowsOfOthers, storedFile } from './erasing.ts';

const fixture = await controlDatabase();
const { database, control, operation } = fixture;
const place = await archiveFixture({ keyring: control.keyring });
const { archive, folder, open, settings } = place;
const { erase } = eraser(fixture, () => open());

const backup = async (tenants?: readonly string[]): Promise<string> => (await backUp(operation(), archive, { reason: 'test', tenants })).backup;

const [one, two, shared] = [await furnished(fixture, 'one'), await furnished(fixture, 'two'), await furnished(fixture, 'shared')];
await database.query(
  `insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") select $1, $2, "id", 'member', now() from partywall_people."user" where "email" = 'admin@shared.example'`,
  [randomUUID(), one],
);

describe('erasing a tenant that was backed up', () => {
  test('leaves nothing that opens, names every segment, and everybody else’s backups as they were', async () => {
    const tenant = await furnished(fixture, 'gone');
    const ids = [await backup()];
    await database.query("update customers set name = 'later' where tenant_id = any ($1)", [[tenant, two]]);
    ids.push(await backup(), await backup([tenant]));
    await archive.keys.rekey(`tenant:${tenant}`);
    await database.query("insert into files (tenant_id, name, size_bytes) values ($1, 'b', 6)", [tenant]);
    ids.push(await backup());
    await archive.keys.refresh();
    const ref = refOf(archive, tenant);
    const preview = await previewBackupErasure(archive, tenant);
    const neighbours = [one, two, shared].map((each) => refOf(archive, each));
    const before = await Promise.all(neighbours.map((each) => readable(archive, ids[0] ?? '', each)));
    const rows = await rowsOfOthers(fixture, tenant);
    for (const each of ['escrow']) await cp(path.join(folder, each), path.join(folder, `${each}-old`), { recursive: true });
    await cp(control.keyring, path.join(folder, 'keyring-old'), { recursive: true });

    expect(await erase(tenant)).toMatchObject({ state: 'done', error: null });

    const fresh = await open();
    for (const id of ids) {
      const codes = Object.values(await readable(fresh, id, ref));
      expect(codes.length).toBeGreaterThan(0);
      expect(new Set(codes)).toEqual(new Set(['key_missing']));
      await expect(backupSource(fresh, await openBackup(fresh, id), tenant)).rejects.toMatchObject({ code: 'key_missing' });
      expect(await verifyBackup(fresh, id, { readData: true })).toMatchObject({ whole: true, sealed: 1, damage: [] });
    }
    await expect(restoreFromArchive(fresh).source(operation(), { tenant, backup: ids[0] ?? '' })).rejects.toMatchObject({
      message: expect.stringContaining('it was erased'),
    });
    expect(await Promise.all(neighbours.map((each) => readable(fresh, ids[0] ?? '', each)))).toEqual(before);
    expect(await rowsOfOthers(fixture, tenant)).toEqual(rows);

    const erased = await certified(operation(), tenant);
    const stored = (await readdir(path.join(folder, 'store', 'packs', ref))).map((name) => `packs/${ref}/${name}`).sort();
    expect(erased).toMatchObject({
      refs: [ref],
      keks: { destroyed: [1], pending: [] },
      oldKeybookOpens: false,
      held: { backups: 4, objects: stored.length },
      lockedUntil: null,
      unread: 0,
      others: { of: 4, visited: 4, opened: 4, without: 0, damaged: 0 },
    });
    expect(erased.keys).toHaveLength(2);
    expect(preview).toMatchObject({ hasKey: true, keks: [1], others: 4, held: erased.held });
    const list = await readErasureList(fresh.store, erased.list ?? { object: '', sha256: '' });
    expect(list.backups.map(({ id }) => id)).toEqual(ids);
    expect(list.objects.map(({ object }) => object)).toEqual(stored);
    for (const { object, bytes, sha256: named, segments } of list.objects) {
      const content = await storedFile(place, object);
      expect(content.length).toBe(bytes);
      expect(sha256(content)).toBe(named);
      // One after the other, and nothing between them.
      expect(segments.reduce((end, { offset, bytes: length }) => (offset === end ? end + length : -1), 0)).toBe(bytes);
    }
    expect(JSON.stringify(list)).not.toContain(tenant);
    expect(await checkBackupErasure(fresh, erased)).toMatchObject({ valid: true, problems: [], pending: [], segments: erased.held.segments });
    expect((await readLedger(fresh)).tenants.get(tenant)?.status).toBe('erased');
    const certificate = await readCertificate(operation(), tenant);
    expect(await verifyCertificate(operation(), certificate)).toMatchObject({ valid: true });
    for (const forged of [certificate.text.replace('"pending":[]', '"pending":[7]'), certificate.text.replace(erased.list?.sha256 ?? '', '0'.repeat(64))]) {
      expect(forged).not.toBe(certificate.text);
      expect(await verifyCertificate(operation(), { ...certificate, text: forged })).toMatchObject({ valid: false });
    }

    // A thief's copies of keybook and escrow, with the keys that are there today.
    for (const keys of [path.join(folder, 'keyring-old', 'keys'), path.join(folder, 'escrow-old')]) {
      await expect(open({ keys, escrow: undefined }), keys).rejects.toMatchObject({ code: 'keyring_refused' });
    }
    // They opened before: it is the key that is gone.
    const robbed = await open({ keyring: path.join(folder, 'keyring-old'), escrow: undefined });
    expect(Object.values(await readable(robbed, ids[0] ?? '', ref))).not.toContain('key_missing');
  });

  test('covers what a restore or a move put aside, and backups of no tenant in particular hold no address of its people', async () => {
    const tenant = await furnished(fixture, 'aside');
    const id = await backup();
    const undo = await restoreFromArchive(archive).undo(operation(), tenant, { fixed: () => undefined, signal: new AbortController().signal });
    await archive.keys.refresh();
    const platform = archive.keys.subjects().find(({ subject }) => subject === 'platform')?.ref ?? '';
    const opened = await openBackup(archive, id);
    let text = '';
    for (const { table, segments } of (await opened.page(platform)).tables) {
      for await (const piece of opened.segments(platform, table, segments)) text += piece.toString('utf8');
    }
    // Who belongs to two tenants is nobody's alone.
    expect(text).toContain('admin@shared.example');
    for (const address of ['admin@aside.example', 'contact@aside.example', 'aside customer', 'admin@one.example', 'contact@two.example']) {
      expect(text).not.toContain(address);
    }
    await erase(tenant);
    const { list } = await certified(operation(), tenant);
    const named = await readErasureList(archive.store, list ?? { object: '', sha256: '' });
    expect(named.backups.map(({ id: each }) => each)).toEqual([id, undo]);
    expect(named.objects.some(({ object }) => object.includes(undo)) || named.backups.at(-1)?.segments).toBeTruthy();
  });

  test('writes no name and no address into what is left of it', async () => {
    const tenant = await furnished(fixture, 'nameless');
    await backup();
    const { id } = await erase(tenant);
    for (const table of ['operations', 'certificates', 'audit_records']) {
      const { rows } = await database.query<{ text: string }>(`select t::text as text from partywall_control.${table} t where t::text like '%' || $1 || '%'`, [
        tenant,
      ]);
      expect(rows.length, table).toBeGreaterThan(0);
      const written = rows.map(({ text }) => text).filter((text) => table !== 'audit_records' || /tenant\.eras/.test(text));
      expect(written.join('\n'), table).not.toMatch(/nameless|@/);
    }
    expect((await database.query('select from partywall_control.operations where id = $1', [id])).rowCount).toBe(1);
  });

  test('is the same where nothing was ever backed up of it', async () => {
    const tenant = await furnished(fixture, 'fresh');
    expect(await erase(tenant)).toMatchObject({ state: 'done' });
    expect(await certified(operation(), tenant)).toMatchObject({ refs: [], keys: [], keks: { destroyed: [] }, list: null, held: { backups: 0, segments: 0 } });
  });

  test('happens to two at once, and no third is hurt', async () => {
    const tenants = [await furnished(fixture, 'left'), await furnished(fixture, 'right')];
    const id = await backup();
    expect(await Promise.all(tenants.map((tenant) => erase(tenant)))).toMatchObject([{ state: 'done' }, { state: 'done' }]);
    const fresh = await open();
    expect(await verifyBackup(fresh, id, { readData: true })).toMatchObject({ whole: true, sealed: 2 });
    for (const tenant of tenants) expect(await checkBackupErasure(fresh, await certified(operation(), tenant))).toMatchObject({ valid: true });
    expect(fresh.keys.subjects().map(({ subject }) => subject)).toEqual(expect.arrayContaining([one, two, shared].map((each) => `tenant:${each}`)));
  });

  test('waits for a backup that runs, and lets none begin until the last row is gone', async () => {
    const tenant = await furnished(fixture, 'waiting');
    await backup();
    const running = new pg.Client(database.url);
    await running.connect();
    await running.query("select pg_advisory_lock(hashtextextended('partywall:backup', 0))");
    const erasing = erase(tenant);
    const step = async () =>
      (await database.query<{ step: string }>("select step from partywall_control.operations where tenant_id = $1 and kind = 'tenant.erase'", [tenant])).rows[0]
        ?.step;
    await expect.poll(step, { timeout: 20_000 }).toBe('waiting for a backup to end');
    await archive.keys.refresh();
    expect(refOf(archive, tenant)).not.toBe('');
    await running.end();
    expect(await erasing).toMatchObject({ state: 'done' });
    await archive.keys.refresh();
    expect(refOf(archive, tenant)).toBe('');
  });

  test('goes on although somebody else’s backup was damaged before, and says so', async () => {
    const tenant = await furnished(fixture, 'beside');
    const hurt = await furnished(fixture, 'hurt');
    await backup();
    await archive.keys.refresh();
    const packs = path.join(folder, 'store', 'packs', refOf(archive, hurt));
    for (const name of await readdir(packs)) await writeFile(path.join(packs, name), 'damaged');
    expect(await erase(tenant)).toMatchObject({ state: 'done' });
    expect((await certified(operation(), tenant)).others).toMatchObject({ damaged: 1 });
    expect(await erase(hurt)).toMatchObject({ state: 'done' });
  });
});

describe('an erasure begins only where it can end', () => {
  const elsewhere = (name: string): string => path.join(folder, name);

  const wrongs = [
    ['no escrow', { escrow: undefined }, 'escrow_unverified', /escrow/],
    ['an empty escrow', { escrow: elsewhere('empty-escrow') }, 'escrow_unverified', /escrow has no copy/],
    ['another archive', { store: elsewhere('empty-store') }, 'erasure_refused', /none of the backups of this database/],
    ['another keyring', { keyring: elsewhere('other-keyring'), escrow: elsewhere('other-escrow') }, /archive_damaged|key_missing/, /keyring/],
    ['another keybook', { keys: elsewhere('other-keys'), escrow: elsewhere('other-keys-escrow') }, 'key_missing', /key/],
  ] as const;

  test.for(wrongs)('with %s the tenant stays what it was', async ([name, changes, code, message]) => {
    const tenant = await furnished(fixture, name.replaceAll(' ', '-'));
    await backup();
    const before = await showTenant(operation(), tenant);
    const wrong = eraser(fixture, () => open(changes));
    await expect(wrong.erase(tenant)).rejects.toMatchObject({ code: expect.stringMatching(code), message: expect.stringMatching(message) });
    expect(await showTenant(operation(), tenant)).toEqual(before);
    expect((await database.query('select from customers where tenant_id = $1', [tenant])).rowCount).toBe(30);
    expect((await database.query("select from partywall_control.operations where tenant_id = $1 and kind = 'tenant.erase'", [tenant])).rowCount).toBe(0);
    expect(await erase(tenant)).toMatchObject({ state: 'done' });
  });

  test('by somebody who has no archive it is refused, since the backups would stay', async () => {
    const tenant = await furnished(fixture, 'no-archive');
    await backup();
    const durable = inProcess(control, works);
    await expect(eraseTenant(operation(), durable, { tenant, force: true })).rejects.toMatchObject({
      code: 'erasure_refused',
      hint: expect.stringContaining('PARTYWALL_ARCHIVE'),
    });
    expect((await showTenant(operation(), tenant)).status).toBe('active');
    await durable.stop();
  });

  test('while rows of it wait in another database it is refused', async () => {
    const tenant = await furnished(fixture, 'moving');
    await database.query("insert into partywall_control.placements (name, description) values ('eu', 'x@eu/crm') on conflict do nothing");
    await database.query(
      "insert into partywall_control.moves (id, tenant_id, placement, direction, state, grace_seconds, started_at, switched_at, remove_after) values (gen_random_uuid(), $1, 'eu', 'back', 'switched', 60, now(), now(), now())",
      [tenant],
    );
    await expect(erase(tenant)).rejects.toMatchObject({ code: 'erasure_refused', message: expect.stringContaining('database eu') });
    expect((await showTenant(operation(), tenant)).status).toBe('active');
  });

  test('under a legal hold and within the retention it is refused before any key is looked at', async () => {
    const tenant = await furnished(fixture, 'kept');
    await deleteTenant(operation(), { tenant });
    const unopened = eraser(fixture, () => Promise.reject(new Error('the archive was opened')));
    await expect(unopened.erase(tenant, { force: false })).rejects.toMatchObject({ code: 'transition_refused' });
    await database.query("update partywall_control.directory set hold_reason = 'case 1', held_at = now() where tenant_id = $1", [tenant]);
    await expect(unopened.erase(tenant)).rejects.toMatchObject({ code: 'transition_refused', message: expect.stringContaining('legal hold') });
  });
});

test('nothing is certified while an older keybook opens, and the next attempt ends it', async () => {
  const tenant = await furnished(fixture, 'stubborn');
  await backup();
  const honest = fileSource(control.keyring);
  const lying = eraser(fixture, () => open({ source: { ...honest, destroy: async () => 'destroyed' } }));
  expect(await lying.erase(tenant)).toMatchObject({ state: 'failed', error: expect.stringContaining('keybook from before opens') });
  await expect(readCertificate(operation(), tenant)).rejects.toMatchObject({ code: 'certificate_unknown' });
  expect(await erase(tenant)).toMatchObject({ state: 'done' });
  const erased = await certified(operation(), tenant);
  expect(erased.keks.pending).toEqual([]);
  expect(await checkBackupErasure(await open(), erased)).toMatchObject({ valid: true });
});

test('nothing is certified where a key of somebody else went too', async () => {
  const tenant = await furnished(fixture, 'careless');
  await backup();
  await archive.keys.refresh();
  const lost = archive.keys.byRef(refOf(archive, two))?.id;
  const careless = eraser(fixture, async () => {
    const opened = await open();
    const byId = (id: string) => opened.keys.byId(id === lost ? '0'.repeat(32) : id);
    return { ...opened, keys: { ...opened.keys, byId } };
  });
  expect(await careless.erase(tenant)).toMatchObject({ state: 'failed', error: expect.stringMatching(/key/) });
  await expect(readCertificate(operation(), tenant)).rejects.toMatchObject({ code: 'certificate_unknown' });
  expect(await erase(tenant)).toMatchObject({ state: 'done' });
});

test('a list that was changed, or is gone, is said to be', async () => {
  const tenant = await furnished(fixture, 'listed');
  await backup();
  await erase(tenant);
  const erased = await certified(operation(), tenant);
  const file = path.join(folder, 'store', erased.list?.object ?? '');
  const content = await storedFile(place, erased.list?.object ?? '');
  await writeFile(file, content.toString('utf8').replace('"offset":0', '"offset":1'));
  expect(await checkBackupErasure(archive, erased)).toMatchObject({
    valid: false,
    problems: [expect.stringContaining('not the one that the certificate names')],
  });
  await rm(file);
  expect(await checkBackupErasure(archive, erased)).toMatchObject({ valid: false, problems: [expect.stringContaining(erased.list?.object ?? '')] });
  await writeFile(file, content);
  expect((await backupIds(archive)).length).toBeGreaterThan(0);
});

test('the archive that another process opened before has the keys no more after it looks again', async () => {
  const tenant = await furnished(fixture, 'memory');
  await backup();
  const earlier = await open();
  await erase(tenant);
  await earlier.keys.refresh();
  expect(refOf(earlier, tenant)).toBe('');
  expect(settings.keyring).toBe(control.keyring);
});
