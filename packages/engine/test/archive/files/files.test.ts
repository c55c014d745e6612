import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  awaitOperation,
  beginRestore,
  copyFiles,
  countFiles,
  inProcess,
  openBackup,
  type RestoreRequest,
  readRestore,
  removeFiles,
  restoreFiles,
  restoreWorks,
  runBackup,
  verifyBackup,
} from '@partywall/engine';
import { beforeEach, describe, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { indexLine, readIndex } from '../../../src/archive/files/file-index.ts';
import { folderFiles } from '../../../src/archive/files/folder-files.ts';
import { keptFiles } from '../../../src/archive/files/kept-files.ts';
import type { LiveFile } from '../../../src/archive/files/live-files.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';
import { filesConfig } from '../../../src/model/files.ts';
import { contents, operationWith, withUploads, write } from './uploads.ts';

const fixture = await controlDatabase();
const { archive, folder, settings } = await archiveFixture({ keyring: fixture.control.keyring });
const uploads = path.join(folder, 'uploads');
const model = withUploads(fixture.model, pathToFileURL(uploads).href);
const operation = operationWith(fixture.control, model, fixture.operation());
const [amber, brass] = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];
const at = (tenant: string): string => path.join(uploads, tenant);
const backUp = (classes?: readonly ('files' | 'database')[]) => runBackup(operation, archive, { reason: 'by hand', classes });
const refOf = (tenant: string): string => archive.keys.subjects().find(({ subject }) => subject === tenantSubject(tenant))?.ref ?? '';
const segmentsOf = async (id: string, tenant: string, table: string) =>
  (await (await openBackup(archive, id)).page(refOf(tenant))).tables.find((each) => each.table === table)?.segments ?? [];
/** Until the times of these files tell every further change. */
const settled = (tenant: string) =>
  expect.poll(async () => (await folderFiles(uploads, tenant).list()).files.every(({ tag }) => tag !== ''), { timeout: 10_000 }).toBe(true);

beforeEach(async () => {
  await fs.rm(uploads, { recursive: true, force: true });
  await write(at(amber), { 'invoice.pdf': 'an invoice', 'photos/summer.jpg': randomBytes(3_000_000), 'empty.txt': '', 'naïve ☃\nname': 'odd' });
  await write(at(brass), { 'invoice.pdf': "brass's own" });
});

describe('a backup', () => {
  test('holds every file of every tenant, encrypted, and names of none in clear', async () => {
    const report = await backUp();
    expect(report).toMatchObject({ classes: ['database', 'configuration', 'files', 'audit'], files: { files: 5, read: 5 } });
    expect(await verifyBackup(archive, report.id, { readData: true })).toMatchObject({ whole: true });
    const [kept] = await keptFiles(archive, await openBackup(archive, report.id), amber);
    expect(kept?.files.map((file) => file.path)).toEqual(['empty.txt', 'invoice.pdf', 'naïve ☃\nname', 'photos/summer.jpg']);
    const everything = Buffer.concat(
      await Promise.all(
        (await fs.readdir(path.join(folder, 'store'), { recursive: true, withFileTypes: true }))
          .filter((entry) => entry.isFile())
          .map((entry) => fs.readFile(path.join(entry.parentPath, entry.name))),
      ),
    );
    for (const name of ['invoice', 'summer.jpg', amber]) expect(everything.includes(name)).toBe(false);
    expect(await fs.readdir(settings.workFolder)).toEqual([]);
  });

  test('reads again what changed, and stores that alone', async () => {
    await Promise.all([settled(amber), settled(brass)]);
    const first = await backUp();
    await write(at(amber), { 'invoice.pdf': 'AN INVOICE' });
    await fs.utimes(path.join(at(amber), 'invoice.pdf'), 1, 1);
    const second = await backUp();
    expect(second.files).toMatchObject({ files: 5, read: 1 });
    const [earlier, later] = [await segmentsOf(first.id, amber, 'partywall:file/uploads'), await segmentsOf(second.id, amber, 'partywall:file/uploads')];
    expect(later).toHaveLength(4);
    expect(later.filter(({ mac }) => !earlier.some((each) => each.mac === mac)).map(({ backup }) => backup)).toEqual([second.id]);
    const brassOf = async (id: string) => (await openBackup(archive, id)).subjects.get(refOf(brass))?.page;
    expect(await brassOf(second.id)).toEqual(await brassOf(first.id));
    expect(second.stored?.bytes).toBeLessThan(100_000);
    const [kept] = await keptFiles(archive, await openBackup(archive, second.id), amber);
    const changed = kept?.files.find((file) => file.path === 'invoice.pdf');
    const pieces: Buffer[] = [];
    if (changed) for await (const piece of kept?.read(changed) ?? []) pieces.push(piece);
    expect(Buffer.concat(pieces).toString()).toBe('AN INVOICE');
  });

  test('stores nothing again for a file whose times alone changed', async () => {
    const first = await backUp();
    await fs.utimes(path.join(at(amber), 'photos/summer.jpg'), 5, 5);
    const second = await backUp();
    expect(second.files?.read).toBeGreaterThan(0);
    const table = 'partywall:file/uploads';
    expect(await segmentsOf(second.id, amber, table)).toEqual(await segmentsOf(first.id, amber, table));
  });

  test('of files alone is one, and the next of everything still takes over the rows that did not change', async () => {
    await backUp();
    const files = await backUp(['files']);
    expect((await openBackup(archive, files.id)).manifest).toMatchObject({ classes: ['files'], scope: 'all' });
    expect(await verifyBackup(archive, files.id, { readData: true })).toMatchObject({ whole: true });
    const rows = await backUp();
    expect(rows.tables.find(({ table }) => table === 'public.customers')?.reading).toBe('nothing');
    expect(await verifyBackup(archive, rows.id, { readData: true })).toMatchObject({ whole: true });
  });

  test('of one tenant holds its files and no others', async () => {
    const { id } = await runBackup(operation, archive, { reason: 'by hand', tenants: [amber] });
    const backup = await openBackup(archive, id);
    expect((await keptFiles(archive, backup, amber))[0]?.files).toHaveLength(4);
    await expect(keptFiles(archive, backup, brass)).rejects.toMatchObject({ code: 'backup_unknown' });
  });

  test('follows no link, reads no pipe, and counts them without a name', { timeout: 20_000 }, async () => {
    await fs.symlink(path.join(at(brass), 'invoice.pdf'), path.join(at(amber), 'stolen.pdf'));
    await fs.symlink(at(brass), path.join(at(amber), 'stolen'));
    execFileSync('mkfifo', [path.join(at(amber), 'pipe')]);
    const { id, left } = await backUp();
    expect(left.filter((line) => line.startsWith('files'))).toEqual([
      'files uploads, neither files nor folders: 1',
      'files uploads, symbolic links, not followed: 2',
    ]);
    const [kept] = await keptFiles(archive, await openBackup(archive, id), amber);
    expect(kept?.files).toHaveLength(4);
  });

  test('is refused where a tenant is a link to another, or the place is not there', async () => {
    await fs.rm(at(amber), { recursive: true });
    await fs.symlink(at(brass), at(amber));
    await expect(backUp()).rejects.toMatchObject({ code: 'store_refused' });
    await fs.rm(uploads, { recursive: true });
    await expect(backUp()).rejects.toMatchObject({ code: 'store_unavailable' });
  });

  test('holds thousands of small files in one pack', { timeout: 60_000 }, async () => {
    await fs.mkdir(path.join(at(brass), 'many'));
    for (let from = 0; from < 3_000; from += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, n) => fs.writeFile(path.join(at(brass), 'many', `${from + n}`), `content ${from + n}`)));
    }
    const { id, files } = await backUp();
    expect(files?.files).toBe(3_005);
    const backup = await openBackup(archive, id);
    expect(backup.subjects.get(refOf(brass))?.packs.filter((pack) => pack.backup === id)).toHaveLength(1);
    expect(await verifyBackup(archive, id, { readData: true })).toMatchObject({ whole: true });
  });
});

describe('a file that changes while it is read', () => {
  test('is read again, and is whole', async () => {
    const file = path.join(at(amber), 'photos/summer.jpg');
    const live = folderFiles(uploads, `${amber}/`);
    const listed = await live.look('photos/summer.jpg');
    const reading = (async () => {
      for await (const _ of live.read(listed as LiveFile)) await fs.appendFile(file, 'more'); // it is there
    })();
    await expect(reading).rejects.toMatchObject({ name: 'FileChanged' });
    await fs.writeFile(file, 'short');
    const shorter = (async () => {
      for await (const _ of live.read(listed as LiveFile)); // it is there
    })();
    await expect(shorter).rejects.toMatchObject({ name: 'FileChanged' });
  });

  test('every time is kept as it was before, or left out, and a file that vanishes is counted', async () => {
    await settled(amber);
    await backUp();
    const file = path.join(at(amber), 'invoice.pdf');
    const { open } = fs;
    const changing = async (...given: Parameters<typeof open>) => {
      const handle = await open(...given);
      // Between the look at the file and the first byte somebody writes.
      if (given[0] === file) await fs.appendFile(file, '.');
      if (String(given[0]).endsWith('summer.jpg')) await fs.rm(String(given[0]));
      return handle;
    };
    await fs.appendFile(file, '!');
    await fs.appendFile(path.join(at(amber), 'photos/summer.jpg'), '!');
    Object.assign(fs, { open: changing });
    const report = await backUp().finally(() => Object.assign(fs, { open }));
    expect(report.left.filter((line) => line.startsWith('files'))).toEqual([
      'files uploads, changing while they were read, kept as they were before: 1',
      'files uploads, gone before they were read: 1',
    ]);
    const [kept] = await keptFiles(archive, await openBackup(archive, report.id), amber);
    expect(kept?.files.map(({ path: name, bytes }) => [name, bytes])).toEqual([
      ['empty.txt', 0],
      ['invoice.pdf', 10],
      ['naïve ☃\nname', 3],
    ]);
    expect(await verifyBackup(archive, report.id, { readData: true })).toMatchObject({ whole: true });
  });
});

describe('a restore', () => {
  test('brings back what was changed or removed, touches nothing else, and leaves neighbours alone', async () => {
    const before = await contents(at(amber));
    const { id } = await backUp();
    await fs.chmod(path.join(at(amber), 'empty.txt'), 0o640);
    const untouched = (await fs.stat(path.join(at(amber), 'naïve ☃\nname'))).ino;
    await fs.rm(path.join(at(amber), 'photos'), { recursive: true });
    await write(at(amber), { 'invoice.pdf': 'forged', 'later.txt': 'uploaded since' });
    await write(at(brass), { 'invoice.pdf': 'written since' });
    const change = { place: 'uploads', added: 1, replaced: 1, deleted: 0, unchanged: 2, extra: 1, bytes: 3_000_010 };
    const damaged = await contents(at(amber));
    expect(await restoreFiles(operation, archive, { tenant: amber, backup: id, dryRun: true })).toMatchObject({ places: [change] });
    expect(await contents(at(amber))).toEqual(damaged);
    expect(await restoreFiles(operation, archive, { tenant: amber, backup: id })).toMatchObject({ places: [change] });
    expect(await contents(at(amber))).toEqual({ ...before, 'later.txt': 'uploaded since' });
    expect((await fs.stat(path.join(at(amber), 'naïve ☃\nname'))).ino).toBe(untouched);
    expect(await contents(at(brass))).toEqual({ 'invoice.pdf': 'written since' });
    expect(await restoreFiles(operation, archive, { tenant: amber, backup: id, delete: true })).toMatchObject({
      places: [{ added: 0, replaced: 0, deleted: 1, unchanged: 4 }],
    });
    expect(await contents(at(amber))).toEqual(before);
  });

  test('gives files their time and their permissions, and a folder where a file is if it may remove that', async () => {
    const file = path.join(at(amber), 'photos/summer.jpg');
    await fs.chmod(file, 0o640);
    await fs.utimes(file, 1_000, 1_000);
    const { id } = await backUp();
    await fs.rm(path.join(at(amber), 'photos'), { recursive: true });
    await write(at(amber), { photos: 'a file now' });
    await expect(restoreFiles(operation, archive, { tenant: amber, backup: id })).rejects.toMatchObject({ code: 'restore_refused' });
    expect(await fs.readFile(path.join(at(amber), 'photos'), 'utf8')).toBe('a file now');
    await restoreFiles(operation, archive, { tenant: amber, backup: id, delete: true });
    expect(await fs.stat(file)).toMatchObject({ mode: 0o100640, mtimeMs: 1_000_000, size: 3_000_000 });
  });

  test('goes into the prefix of another tenant, or into a folder', async () => {
    const { id } = await backUp();
    const before = await contents(at(amber));
    await restoreFiles(operation, archive, { tenant: amber, backup: id, into: { tenant: brass }, delete: true });
    expect(await contents(at(brass))).toEqual(before);
    expect(await contents(at(amber))).toEqual(before);
    const scratch = await fs.mkdtemp(path.join(folder, 'scratch-'));
    await restoreFiles(operation, archive, { tenant: amber, backup: id, into: { folder: scratch } });
    expect(await contents(path.join(scratch, 'uploads'))).toEqual(before);
  });

  test('of what is there now copies it to another tenant', async () => {
    await write(at(brass), { 'invoice.pdf': 'BRASS' });
    expect(await copyFiles(operation, { from: amber, into: brass })).toMatchObject([{ added: 3, replaced: 1, extra: 0 }]);
    expect(await copyFiles(operation, { from: amber, into: brass })).toMatchObject([{ added: 0, replaced: 0, unchanged: 4 }]);
    expect(await contents(at(brass))).toEqual(await contents(at(amber)));
  });

  test('of rows takes files along, and its undo backup takes both back', { timeout: 60_000 }, async () => {
    const durable = inProcess(
      operation.database,
      restoreWorks(async () => ({ ...archive, close: async () => undefined })),
    );
    const restored = async (request: Omit<RestoreRequest, 'tenant' | 'files'>) => {
      const { id } = await beginRestore(operation, durable, { ...request, tenant: amber, files: 'delete' });
      expect(await awaitOperation(operation, id, { timeoutMs: 30_000 })).toMatchObject({ state: 'done' });
      return await readRestore(operation, id);
    };
    const before = await contents(at(amber));
    const neighbour = await contents(at(brass));
    const { id } = await backUp();
    await write(at(amber), { 'invoice.pdf': 'forged', 'later.txt': 'uploaded since' });
    const damaged = await contents(at(amber));
    const done = await restored({ backup: id });
    expect(done.files?.places).toMatchObject([{ replaced: 1, deleted: 1, unchanged: 3 }]);
    expect(await contents(at(amber))).toEqual(before);
    await restored({ backup: done.undo });
    expect(await contents(at(amber))).toEqual(damaged);
    expect(await contents(at(brass))).toEqual(neighbour);
    await durable.stop();
  });

  test('is refused from a backup of rows alone', async () => {
    const { id } = await backUp(['database']);
    await expect(restoreFiles(operation, archive, { tenant: amber, backup: id })).rejects.toMatchObject({ code: 'restore_refused' });
  });

  test('writes through no link that stands where a folder was', async () => {
    const { id } = await backUp();
    await fs.rm(path.join(at(amber), 'photos'), { recursive: true });
    await fs.symlink(at(brass), path.join(at(amber), 'photos'));
    await expect(restoreFiles(operation, archive, { tenant: amber, backup: id })).rejects.toMatchObject({ code: 'store_refused' });
    expect(await contents(at(brass))).toEqual({ 'invoice.pdf': "brass's own" });
  });

  test.each(['../brass/x', '/etc/passwd', 'a/../../x', 'a//b', './a', 'a/', '', 'a\0b', 'x'.repeat(300), `${'d/'.repeat(3_000)}x`])(
    'of the path %j leads nowhere',
    async (name) => {
      const live = folderFiles(uploads, `${amber}/`);
      expect(live.accepts(name)).toBe(false);
      const body = (async function* () {
        yield Buffer.from('x');
      })();
      await expect(live.write(name, body, { modified: 0, mode: null })).rejects.toMatchObject({ code: 'restore_refused' });
      await expect(live.remove(name)).rejects.toMatchObject({ code: 'restore_refused' });
    },
  );
});

test('an index gives back every path that a file can have', async () => {
  const paths = ['a', 'line\nbreak', 'tab\t"quoted"', '☃/\u2028', '\\', 'x'.repeat(4_000)];
  const files = paths.map((name, part) => ({ path: name, bytes: 1, modified: 2, mode: null, tag: 'tag', part }));
  const bytes = Buffer.from(files.map(indexLine).join(''));
  const cut = async function* () {
    for (let from = 0; from < bytes.length; from += 7) yield bytes.subarray(from, from + 7);
  };
  expect(await readIndex(cut())).toEqual(files);
});

test('removing the files of a tenant removes its own, links and drafts too, and no others', async () => {
  await fs.symlink(at(brass), path.join(at(amber), 'stolen'));
  await write(at(amber), { '.partywall-6f9619ff-8b86-d011-b42d-00c04fc964ff': 'half' });
  expect(await countFiles(operation, amber)).toBe(4);
  await removeFiles(operation, amber);
  await expect(fs.access(at(amber))).rejects.toMatchObject({ code: 'ENOENT' });
  expect(await contents(at(brass))).toEqual({ 'invoice.pdf': "brass's own" });
  await removeFiles(operation, amber);
});

describe('the model', () => {
  const parse = (written: unknown) => filesConfig.safeParse(written).success;
  test.each(['{tenant}', 'x{tenant}/', '{tenant}x/', '../{tenant}/', '{tenant}/../', '/{tenant}/', 'all/', '{tenant}/{tenant}/', ''])(
    'refuses the prefix %j, which could reach a neighbour',
    (prefix) => expect(parse({ uploads: { store: 'file:///srv', prefix } })).toBe(false),
  );
  test('refuses places that lie in each other, and other kinds of stores', () => {
    const store = 'file:///srv';
    expect(parse({ uploads: { store, prefix: 'up/{tenant}/' }, photos: { store, prefix: 'photos/{tenant}/' } })).toBe(true);
    expect(parse({ uploads: { store, prefix: '{tenant}/' }, photos: { store, prefix: 'photos/{tenant}/' } })).toBe(false);
    expect(parse({ uploads: { store, prefix: '{tenant}/' }, photos: { store, prefix: '{tenant}/photos/' } })).toBe(false);
    expect(parse({ uploads: { store: 'http://host/', prefix: '{tenant}/' } })).toBe(false);
    expect(parse({ uploads: { store: 'env:UPLOADS_STORE', prefix: '{tenant}/' } })).toBe(true);
  });
});
