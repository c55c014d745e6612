import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { parseTableName } from '../../model/table-name.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import { type ReadEntry, readTar } from './tar.ts';
import {
  contentBytesMax,
  entriesMax,
  manifestBytesMax,
  manifestName,
  type TenantFileManifest,
  type TenantFileTable,
  tenantFileManifest,
} from './tenant-file.ts';
import { countLines, wholeLines } from './whole-lines.ts';

/** A tenant's file that was read whole and found to be what its manifest says. Close it. */
export interface TenantFile {
  readonly manifest: TenantFileManifest;
  readonly source: TenantSource;
  /** Removes what was unpacked. */
  close(): Promise<void>;
}

/**
 * Unpacks a tenant's file into the work folder and checks every entry against the manifest: sizes, hashes, numbers of rows. No name of the file becomes
 * a path.
 *
 * @throws PartywallError export_invalid, naming what is missing, changed or too much; input_invalid where there is no such file
 */
export async function readTenantFile(file: string, { workFolder }: { readonly workFolder: string }): Promise<TenantFile> {
  await fs.mkdir(workFolder, { recursive: true, mode: 0o700 });
  const folder = await fs.mkdtemp(path.join(workFolder, 'tenant-file-'));
  const close = (): Promise<void> => fs.rm(folder, { recursive: true, force: true });
  try {
    const { found, manifest } = await unpack(file, folder);
    const tables = checked(manifest, found);
    for (const table of tables) await refuseMiscount(table);
    return { manifest, source: sourceOf(manifest, tables), close };
  } catch (error) {
    await close();
    throw explained(error, file);
  }
}

interface Unpacked {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

async function unpack(file: string, folder: string): Promise<{ found: ReadonlyMap<string, Unpacked>; manifest: TenantFileManifest }> {
  const found = new Map<string, Unpacked>();
  const gunzip = createGunzip();
  const read = pipeline(createReadStream(file), gunzip);
  read.catch(() => undefined); // surfaces below, from the stream or from here
  let manifest: TenantFileManifest | undefined;
  let bytes = 0;
  for await (const entry of readTar(gunzip as AsyncIterable<Buffer>)) {
    if (manifest) throw invalid('something follows its manifest');
    bytes += entry.bytes;
    if (bytes > contentBytesMax || found.size >= entriesMax) throw invalid('it holds more than a tenant’s file can');
    if (found.has(entry.name)) throw invalid(`it holds ${JSON.stringify(entry.name)} twice`);
    if (entry.name === manifestName) manifest = await readManifest(entry);
    else found.set(entry.name, await store(entry, path.join(folder, String(found.size))));
  }
  await read;
  if (!manifest) throw invalid('it has no manifest, so it was cut short');
  return { found, manifest };
}

async function readManifest(entry: ReadEntry): Promise<TenantFileManifest> {
  if (entry.bytes > manifestBytesMax) throw invalid('its manifest is too long');
  const pieces: Buffer[] = [];
  for await (const piece of entry.body) pieces.push(piece);
  let json: unknown;
  try {
    json = JSON.parse(Buffer.concat(pieces).toString('utf8'));
  } catch (cause) {
    throw new PartywallError('export_invalid', "reading a tenant's file: its manifest is no JSON", { cause });
  }
  const parsed = tenantFileManifest.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalid(`its manifest: ${issue?.path.join('.')}: ${issue?.message}`);
}

async function store(entry: ReadEntry, target: string): Promise<Unpacked> {
  const hash = createHash('sha256');
  const handle = await fs.open(target, 'wx', 0o600);
  try {
    for await (const piece of entry.body) {
      hash.update(piece);
      await handle.writeFile(piece);
    }
  } finally {
    await handle.close();
  }
  return { path: target, bytes: entry.bytes, sha256: hash.digest('hex') };
}

interface CheckedTable {
  readonly table: SourceTable;
  readonly path: string;
  readonly data: TenantFileTable['data'];
}

function checked(manifest: TenantFileManifest, found: ReadonlyMap<string, Unpacked>): CheckedTable[] {
  const listed = [...manifest.tables, ...manifest.others];
  const names = new Set(listed.map(({ file }) => file));
  const unlisted = [...found.keys()].find((name) => !names.has(name));
  if (unlisted !== undefined) throw invalid(`it holds ${JSON.stringify(unlisted)}, which its manifest does not list`);
  if (names.size !== listed.length) throw invalid('its manifest lists a file twice');
  for (const { file, bytes, sha256 } of listed) {
    const entry = found.get(file);
    if (!entry) throw invalid(`${file} is missing`);
    if (entry.bytes !== bytes || entry.sha256 !== sha256) throw invalid(`${file} is not what its manifest says`);
  }
  if (manifest.tables.reduce((sum, { rows }) => sum + rows, 0) !== manifest.rows) throw invalid('the rows of its tables do not add up');
  return manifest.tables.map(({ file, name, columns, key, tenantColumn, rows, data, bytes }) => {
    const table = parseTableName(name);
    if (!table) throw invalid(`${JSON.stringify(name)} is no table name`);
    if (data.offset + data.bytes > bytes) throw invalid(`the rows of ${name} lie outside of ${file}`);
    return { table: { name: table, columns, key, tenantColumn, count: rows }, path: found.get(file)?.path ?? '', data };
  });
}

function sourceOf(manifest: TenantFileManifest, tables: readonly CheckedTable[]): TenantSource {
  const byName = new Map(tables.map((each) => [each.table.name, each]));
  return {
    tenant: manifest.tenant,
    at: new Date(manifest.at),
    description: `tenant file of ${manifest.at}`,
    tables: tables.map(({ table }) => table),
    rows: ({ name }) => {
      const found = byName.get(name);
      if (!found) throw invalid(`it has no table ${name}`);
      return rowsOf(found);
    },
  };
}

async function refuseMiscount(table: CheckedTable): Promise<void> {
  for await (const _ of rowsOf(table));
}

async function* rowsOf({ table, path: file, data }: CheckedTable): AsyncGenerator<Buffer> {
  let rows = 0;
  if (data.bytes > 0) {
    for await (const piece of wholeLines(createReadStream(file, { start: data.offset, end: data.offset + data.bytes - 1 }) as AsyncIterable<Buffer>)) {
      rows += countLines(piece);
      yield piece;
    }
  }
  if (rows !== table.count) throw invalid(`${table.name} has ${rows} rows where its manifest says ${table.count}`);
}

function invalid(what: string): PartywallError {
  return new PartywallError('export_invalid', `reading a tenant's file: ${what}`);
}

function explained(error: unknown, file: string): unknown {
  const code = sqlState(error) ?? '';
  if (error instanceof PartywallError) return error;
  if (code === 'ENOENT' || code === 'EISDIR' || code === 'EACCES')
    return new PartywallError('input_invalid', `reading ${file}: ${code}`, { cause: error, hint: 'pass the path of a tenant file' });
  if (code.startsWith('Z_') || code === 'ERR_STREAM_PREMATURE_CLOSE')
    return new PartywallError('export_invalid', `reading ${file}: it is no whole gzip file`, { cause: error });
  return error;
}
