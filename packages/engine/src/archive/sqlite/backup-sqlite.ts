import { createHash } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import type { Catalog } from '../../catalog/catalog.ts';
import { type DataKey, tenantSubject } from '../../keyring/data-keys.ts';
import { signingKey } from '../../keyring/signing.ts';
import { modelFingerprint } from '../../model/fingerprint.ts';
import { type Archive, manifestObject, packObject, pagesObject } from '../archive.ts';
import { nextId } from '../backup/next-id.ts';
import { openPagesFile, type PagesFile } from '../backup/pages-file.ts';
import { countLines } from '../export/whole-lines.ts';
import { type Manifest, type ManifestSubject, type ManifestTable, manifestFormat, manifestMajor, manifestMinor } from '../format/manifest.ts';
import { type PageSegment, type PageTable, pageFormat } from '../format/page.ts';
import { chunkBytes, writeSegment } from '../format/segment.ts';
import { signManifest } from '../format/signed-manifest.ts';
import { ensureIdentity } from '../identity.ts';
import { backupIds } from '../read/list-backups.ts';
import { openBackup } from '../read/open-backup.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import { lineageOf, type SqliteFile } from './open-sqlite.ts';
import { sqliteSources, tenantKeys, unownedRows, unownedText } from './sqlite-source.ts';

export interface SqliteBackupInput {
  /** Kept in the manifest. */
  readonly reason: string;
  readonly clock: () => Date;
  /** The database that the rows may be restored into: decides their types, and adds the tenant columns of its wall. */
  readonly into?: Catalog | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface SqliteBackup {
  readonly id: string;
  /** Each of the file's, once. */
  readonly tenants: number;
  readonly rows: number;
  /** Rows of no tenant, which are not in it, a line each. */
  readonly left: readonly string[];
}

/**
 * Backs up every tenant of a SQLite file, each under its own key, into the archive that backups of PostgreSQL are in. Nothing exists until the manifest
 * does, which is written last. Every run stores all rows: a file tells nothing of what changed in it.
 *
 * @throws PartywallError backup_refused (a value without a form: table, row and column), escrow_unverified, keyring_refused, store_full, store_unavailable
 */
export async function backupSqlite(archive: Archive, file: SqliteFile, { reason, clock, into, signal }: SqliteBackupInput): Promise<SqliteBackup> {
  const keys = await archive.keys.ensure([...tenantKeys(file).keys()].map(tenantSubject));
  const ids = await backupIds(archive);
  const last = ids.at(-1);
  const previous = last === undefined ? undefined : await openBackup(archive, last);
  const id = nextId(ids, clock());
  const folder = await fs.mkdtemp(path.join(archive.workFolder, 'sqlite-pages-'));
  const pages = openPagesFile(path.join(folder, 'pages'));
  try {
    const subjects: ManifestSubject[] = [];
    const tables = new Map<string, ManifestTable>();
    for await (const source of sqliteSources(file, { into })) {
      signal?.throwIfAborted();
      const key = keys.get(tenantSubject(source.tenant));
      if (!key) throw new Error(`tenant ${source.tenant} has no key`);
      subjects.push(await storeTenant({ archive, id, pages }, key, source));
      for (const table of source.tables) tables.set(table.name, described(table, tables.get(table.name)?.rows ?? 0));
    }
    if (pages.bytes() > 0) await archive.store.put(pagesObject(id), pages.read(), { ifAbsent: true });
    const left = unownedText(unownedRows(file));
    const manifest: Manifest = {
      format: manifestFormat,
      version: { major: manifestMajor, minor: manifestMinor },
      encryption: 'aes-256-gcm-stream/1',
      archive: await ensureIdentity(archive.store),
      id,
      // Nothing of the platform's is in it, so it is never taken for a backup of a whole database.
      scope: 'tenants',
      classes: ['database'],
      reason,
      at: file.at.toISOString(),
      finishedAt: clock().toISOString(),
      source: { engine: 'sqlite', version: file.version, lsn: '', lineage: lineageOf(file), settings: { encoding: file.encoding } },
      model: modelFingerprint(file.model),
      schema: schemaHash(file),
      tables: [...tables.values()],
      sequences: [],
      subjects: subjects.sort((left, right) => (left.subject < right.subject ? -1 : 1)),
      left,
      previous: previous ? { id: previous.manifest.id, sha256: previous.sha256 } : null,
    };
    await archive.store.put(manifestObject(id), signManifest(manifest, await signingKey(archive.keyring)), { ifAbsent: true });
    return { id, tenants: subjects.length, rows: subjects.reduce((sum, { rows }) => sum + rows, 0), left };
  } finally {
    pages.close();
    await fs.rm(folder, { recursive: true, force: true });
  }
}

interface Run {
  readonly archive: Archive;
  readonly id: string;
  readonly pages: PagesFile;
}

/** One pack for each tenant, written as its rows are read. */
async function storeTenant({ archive, id, pages }: Run, key: DataKey, source: TenantSource): Promise<ManifestSubject> {
  const tables: PageTable[] = [];
  const hash = createHash('sha256');
  let bytes = 0;
  const pack = async function* (): AsyncGenerator<Buffer> {
    for (const table of source.tables.filter(({ count }) => count > 0)) {
      const offset = bytes;
      const segment = sealed(key, { backup: id, table: table.name, part: 0 }, source.rows(table));
      let next = await segment.next();
      for (; !next.done; next = await segment.next()) {
        hash.update(next.value);
        bytes += next.value.length;
        yield next.value;
      }
      const sum: PageSegment = { backup: id, key: key.id, part: 0, pack: 0, offset, bytes: bytes - offset, ...next.value };
      tables.push({ table: table.name, rows: sum.rows, mark: null, segments: [sum] });
    }
  };
  await archive.store.put(packObject(key.ref, id, 0), pack(), { ifAbsent: true });
  tables.sort((left, right) => (left.table < right.table ? -1 : 1));
  return {
    subject: key.ref,
    page: pages.add({ format: pageFormat, backup: id, subject: key.ref, tables }),
    packs: [{ backup: id, pack: 0, bytes, sha256: hash.digest('hex') }],
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    bytes: tables.reduce((sum, table) => sum + table.segments.reduce((plain, { plainBytes }) => plain + plainBytes, 0), 0),
  };
}

type Sealed = Pick<PageSegment, 'chunks' | 'plainBytes' | 'mac' | 'rows'>;

async function* sealed(key: DataKey, name: Parameters<typeof writeSegment>[1], rows: AsyncIterable<Buffer>): AsyncGenerator<Buffer, Sealed> {
  const segment = writeSegment(key, name);
  yield segment.header;
  let held: Buffer[] = [];
  let heldBytes = 0;
  let count = 0;
  for await (const piece of rows) {
    if (heldBytes >= chunkBytes) {
      yield segment.chunk(Buffer.concat(held), false);
      held = [];
      heldBytes = 0;
    }
    held.push(piece);
    heldBytes += piece.length;
    count += countLines(piece);
  }
  yield segment.chunk(Buffer.concat(held), true);
  return { ...segment.sum(), rows: count };
}

function described({ name, columns, key, tenantColumn, count }: SourceTable, before: number): ManifestTable {
  return { name, class: 'database', kind: 'rows', columns: columns.map((column) => ({ ...column })), key: [...key], tenantColumn, rows: before + count };
}

function schemaHash({ database }: SqliteFile): string {
  const hash = createHash('sha256');
  for (const { sql } of database.prepare('select sql from sqlite_schema where sql is not null order by type, name').iterate()) hash.update(`${sql};\n`);
  return hash.digest('hex');
}
