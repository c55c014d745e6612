import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { modelFingerprint } from '../../model/fingerprint.ts';
import { quoted } from '../../model/table-name.ts';
import { copyRows } from './copy-rows.ts';
import { type ExportHeader, type ExportTrailer, exportFormat, exportVersion, type Row, rowBytesMax, tableSum, trailerOf } from './layout.ts';
import { directoryEntry, openTransfer, pinTexts } from './session.ts';
import { headOf, rowsQuery, scopedRelations, type TransferTable, transferTables } from './tables.ts';

/** A table that is being rebuilt is waited for this long. */
const lockTimeoutMs = 10_000;
const pieceBytes = 64 * 1024;

export interface ExportOptions {
  readonly onProgress?: (progress: { readonly table: string; readonly rows: number }) => void;
}

/**
 * Everything of one tenant as one JSON document, in pieces of text: one consistent snapshot, the rows of the root and of every scoped table.
 * Nothing is opened before the first piece is asked for, and all is closed when the generator ends, also before its end. A document that
 * was cut short has no trailer; that of a whole one is returned too. Recorded in the tenant's audit log, complete or not.
 *
 * @throws PartywallError tenant_unknown, transfers_busy (with the first piece); export_too_large (a row over `rowBytesMax`)
 */
export async function* exportTenant(
  operation: Operation,
  input: { readonly tenant: string },
  options: ExportOptions = {},
): AsyncGenerator<string, ExportTrailer> {
  const { tenant } = input;
  await directoryEntry(operation.database.pool, tenant);
  const { client, close } = await openTransfer(operation.database);
  try {
    const trailer = yield* write(client, operation, tenant, options);
    close(true);
    return trailer;
  } finally {
    close(false);
  }
}

async function* write(client: pg.PoolClient, operation: Operation, tenant: string, options: ExportOptions): AsyncGenerator<string, ExportTrailer> {
  const snapshot = await openSnapshot(client, operation, tenant);
  const progress = { rows: 0, complete: false };
  const record = (details: Readonly<Record<string, unknown>>) => appendAudit(operation.database.pool, operation, { tenant, action: 'tenant.export', details });
  try {
    const trailer = yield* document(client, snapshot, (table, rows) => {
      operation.signal?.throwIfAborted();
      progress.rows += rows;
      options.onProgress?.({ table, rows: progress.rows });
    });
    await client.query('commit');
    const { rows, sha256, tables } = trailer;
    // Before the last piece: nobody holds a complete export that is not on record.
    await record({ complete: true, rows, sha256, tables: Object.fromEntries(tables.map((table) => [table.name, table.rows])) });
    progress.complete = true;
    yield `"trailer":${JSON.stringify(trailer)}}\n`;
    return trailer;
  } finally {
    if (!progress.complete) await record({ complete: false, rows: progress.rows });
  }
}

type OnRows = (table: string, rows: number) => void;

interface Snapshot {
  readonly header: ExportHeader;
  readonly tables: readonly TransferTable[];
}

/** Locks before the snapshot is taken: a TRUNCATE or a rewrite that commits in between would leave it nothing to read. */
async function openSnapshot(client: pg.PoolClient, { database }: Operation, tenant: string): Promise<Snapshot> {
  const { model, clock } = database;
  const catalog = await readCatalog(client);
  await client.query('begin isolation level repeatable read, read only');
  await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
  await client.query(
    `lock table ${scopedRelations(model, catalog)
      .map(({ table }) => quoted(table))
      .join(', ')} in access share mode`,
  );
  await pinTexts(client);
  const tables = await transferTables(client, model, catalog);
  const { name, status, plan } = await directoryEntry(client, tenant);
  return {
    tables,
    header: {
      format: exportFormat,
      version: exportVersion,
      tenant: { id: tenant, name, status, plan },
      exportedAt: clock().toISOString(),
      model: modelFingerprint(model),
      tables: tables.map(headOf),
    },
  };
}

/** The document up to its trailer. */
async function* document(client: pg.ClientBase, { header, tables }: Snapshot, onRows: OnRows): AsyncGenerator<string, ExportTrailer> {
  yield `{"header":${JSON.stringify(header)},\n"tables":{`;
  const sums = [];
  for (const [at, table] of tables.entries()) {
    const sum = tableSum();
    const names = table.columns.map(({ name }) => JSON.stringify(name));
    let piece = `${at === 0 ? '' : ','}\n${JSON.stringify(table.relation.table)}:[`;
    let separator = '\n';
    for await (const rows of copyRows(client, rowsQuery(table, header.tenant.id))) {
      for (const row of rows) {
        sum.add(row);
        piece += separator + rowText(names, row);
        separator = ',\n';
        if (piece.length < pieceBytes) continue;
        yield piece;
        piece = '';
      }
      onRows(table.relation.table, rows.length);
    }
    yield `${piece}\n]`;
    sums.push(sum.total());
  }
  yield '},\n';
  return trailerOf(header, sums);
}

function rowText(names: readonly string[], row: Row): string {
  const text = `{${row.map((value, at) => `${names[at]}:${JSON.stringify(value)}`).join(',')}}`;
  if (text.length > rowBytesMax || Buffer.byteLength(text) > rowBytesMax) {
    throw new PartywallError('export_too_large', `exporting rows: one is longer than ${rowBytesMax} bytes as JSON`);
  }
  return text;
}

/** Hashes of a tenant's rows as the transaction of `client` sees them, to compare with those of a document. */
export async function hashTenant(client: pg.ClientBase, tenant: string, tables: readonly TransferTable[]): Promise<string> {
  const sums = [];
  for (const table of tables) {
    const sum = tableSum();
    for await (const rows of copyRows(client, rowsQuery(table, tenant))) for (const row of rows) sum.add(row);
    sums.push(sum.total());
  }
  return trailerOf({ tenant: { id: tenant, name: '', status: '', plan: '' }, tables: tables.map(headOf) }, sums).sha256;
}
