import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { PartywallError } from '../../errors.ts';
import { partsOf } from '../../model/table-name.ts';
import { parseSchema, schemaText } from '../schema/schema-document.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import { safeName } from './file-name.ts';
import { copyStatement, restoreSql } from './restore-sql.ts';
import { orderedBySchema } from './schema-order.ts';
import { tarEnd, tarHeader, tarPadding } from './tar.ts';
import {
  manifestName,
  manifestTextName,
  restoreName,
  schemaNames,
  type TenantFileManifest,
  type TenantFileTable,
  tenantFileFormat,
  tenantFileVersion,
} from './tenant-file.ts';
import { countLines } from './whole-lines.ts';

/** A table up to this size is read once; a longer one first to measure it, because tar wants sizes before bytes. */
const heldBytesMax = 16 * 1024 ** 2;
const copyEnd = Buffer.from('\\.\n');

export interface TenantFileOptions {
  /** `full` adds the statements of the schema, where the source has them. */
  readonly kind: TenantFileManifest['kind'];
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (progress: { readonly table: string; readonly rows: number }) => void;
}

/**
 * Everything of one tenant as one tar.gz, piece by piece, in bounded memory. The generator returns the manifest. Every count in it was counted from the
 * bytes that were written. Whoever stops reading early has a file without a manifest, which is none.
 *
 * @throws PartywallError archive_damaged where the source gives other rows than it said
 */
export async function* writeTenantFile(source: TenantSource, options: TenantFileOptions): AsyncGenerator<Buffer, TenantFileManifest> {
  let manifest: TenantFileManifest | undefined;
  const gzip = createGzip();
  const entries = async function* (): AsyncGenerator<Buffer> {
    manifest = yield* tar(source, options);
  };
  const packed = pipeline(Readable.from(entries(), { objectMode: true, highWaterMark: 1 }), gzip, { ...(options.signal && { signal: options.signal }) });
  packed.catch(() => undefined); // surfaces below, from the stream or from here
  for await (const piece of gzip as AsyncIterable<Buffer>) yield piece;
  await packed;
  if (!manifest) throw new Error('the file has ended without its manifest');
  return manifest;
}

interface Stored {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

async function* tar(source: TenantSource, options: TenantFileOptions): AsyncGenerator<Buffer, TenantFileManifest> {
  const { at } = source;
  const others: Stored[] = [];
  const small = function* (file: string, text: string): Generator<Buffer> {
    const content = Buffer.from(text);
    others.push({ file, bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') });
    yield* [tarHeader({ name: file, bytes: content.length, modifiedAt: at }), content, tarPadding(content.length)];
  };
  const [first] = source.tables;
  const schema = first ? partsOf(first.name).schema : 'public';
  const schemaJson = await source.schema?.();
  const known = schemaJson === undefined ? undefined : parseSchema(schemaJson);
  const ddl = options.kind === 'full' ? known : undefined;
  const tables = (known ? orderedBySchema(source.tables, known) : source.tables).map((table, index) => ({
    table,
    file: `tables/${String(index + 1).padStart(4, '0')}_${safeName(table.name)}.sql`,
  }));
  yield* small(restoreName, restoreSql({ tables, schema, hasSchema: ddl !== undefined }));
  if (ddl) for (const phase of ['before', 'after'] as const) yield* small(schemaNames[phase], schemaText(ddl, phase));
  const written: TenantFileTable[] = [];
  for (const { table, file } of tables) {
    options.signal?.throwIfAborted();
    const entry = yield* tableEntry(source, table, { file, schema });
    written.push(entry);
    options.onProgress?.({ table: table.name, rows: entry.rows });
  }
  const manifest = (): TenantFileManifest => ({
    format: tenantFileFormat,
    version: tenantFileVersion,
    tenant: source.tenant,
    at: at.toISOString(),
    kind: options.kind,
    source: source.description,
    tables: written,
    others,
    rows: written.reduce((sum, { rows }) => sum + rows, 0),
  });
  yield* small(manifestTextName, manifestText(manifest()));
  const whole = manifest();
  const content = Buffer.from(`${JSON.stringify(whole, undefined, 2)}\n`);
  yield* [tarHeader({ name: manifestName, bytes: content.length, modifiedAt: at }), content, tarPadding(content.length), tarEnd];
  return whole;
}

async function* tableEntry(
  source: TenantSource,
  table: SourceTable,
  { file, schema }: { file: string; schema: string },
): AsyncGenerator<Buffer, TenantFileTable> {
  const head = Buffer.from(copyStatement(table, schema));
  const first = await hold(source.rows(table));
  const dataBytes = first.bytes;
  const bytes = head.length + dataBytes + copyEnd.length;
  const hash = createHash('sha256').update(head);
  let rows = 0;
  let written = 0;
  yield tarHeader({ name: file, bytes, modifiedAt: source.at });
  yield head;
  for await (const piece of first.held ?? source.rows(table)) {
    hash.update(piece);
    rows += countLines(piece);
    written += piece.length;
    if (written > dataBytes) break;
    yield piece;
  }
  if (written !== dataBytes || rows !== table.count)
    throw new PartywallError('archive_damaged', `exporting ${table.name} from ${source.description}: it gives ${rows} rows where it said ${table.count}`);
  yield copyEnd;
  yield tarPadding(bytes);
  return {
    file,
    bytes,
    sha256: hash.update(copyEnd).digest('hex'),
    name: table.name,
    columns: table.columns.map(({ name, type }) => ({ name, type })),
    key: [...table.key],
    tenantColumn: table.tenantColumn,
    rows,
    data: { offset: head.length, bytes: dataBytes },
  };
}

/** Measures, and holds what fits. */
async function hold(pieces: AsyncIterable<Buffer>): Promise<{ bytes: number; held: readonly Buffer[] | undefined }> {
  let held: Buffer[] | undefined = [];
  let bytes = 0;
  for await (const piece of pieces) {
    bytes += piece.length;
    if (bytes > heldBytesMax) held = undefined;
    held?.push(piece);
  }
  return { bytes, held };
}

/** As the operations document prints it, with rows where that counted lines. */
function manifestText({ tenant, at, kind, source, tables, rows }: TenantFileManifest): string {
  const shown = /^[\x21-\x7e]+$/.test(tenant) ? tenant : JSON.stringify(tenant);
  return [
    'Tenant Backup Manifest',
    '======================',
    `Tenant ID: ${shown}`,
    `Timestamp: ${at}`,
    `Backup Type: ${kind === 'export' ? 'Export' : 'Full Backup'}`,
    `Source: ${source.replaceAll(/[\r\n]/g, ' ')}`,
    '',
    'Tables Backed Up:',
    ...tables.map((table) => `  - ${table.name.replaceAll(/[\r\n]/g, ' ')}: ${table.rows} rows`),
    `Total: ${rows} rows`,
    '',
  ].join('\n');
}
