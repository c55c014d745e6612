import { createHash } from 'node:crypto';
import { exportTenant, type ImportOptions, type ImportReport, importTenant, type Operation } from '@partywall/engine';

/** An export as tests look at it and change it. */
export interface Document {
  header: { format: string; tenant: { id: string; [member: string]: unknown }; model: string; tables: Head[]; [member: string]: unknown };
  tables: Record<string, Record<string, string | null>[]>;
  trailer: { tables: { name: string; rows: number; sha256: string }[]; rows: number; sha256: string };
}
interface Head {
  name: string;
  key: string[];
  columns: { name: string; type: string }[];
}

export async function exportText(operation: Operation, tenant: string): Promise<string> {
  let text = '';
  for await (const piece of exportTenant(operation, { tenant })) text += piece;
  return text;
}

export async function exportDocument(operation: Operation, tenant: string): Promise<Document> {
  return JSON.parse(await exportText(operation, tenant));
}

/** Hash of everything a tenant has. */
export async function contentHash(operation: Operation, tenant: string): Promise<string> {
  return (await exportDocument(operation, tenant)).trailer.sha256;
}

/** Restores a text that arrives in chunks of `chunkBytes`. */
export function importText(operation: Operation, text: string, { dryRun = false, chunkBytes = 65_536, ...options }: Choices = {}): Promise<ImportReport> {
  return importTenant(operation, { source: chunks(Buffer.from(text), chunkBytes), dryRun }, options);
}
interface Choices extends ImportOptions {
  readonly dryRun?: boolean;
  readonly chunkBytes?: number;
}

export async function* chunks(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Gives a changed document the hashes that its writer would have given it, as docs/formats/tenant-export.md describes them. */
export function sealed(document: Document): string {
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const { header } = document;
  const tables = header.tables.map(({ name, columns }) => {
    const rows = document.tables[name] ?? [];
    const lines = rows.map((row) => `${JSON.stringify(columns.map((column) => row[column.name] ?? null))}\n`);
    return { name, rows: rows.length, sha256: sha256(lines.join('')) };
  });
  const content = header.tables.map(({ name, key, columns }, at) => [
    name,
    key,
    columns.map((column) => [column.name, column.type]),
    tables[at]?.rows,
    tables[at]?.sha256,
  ]);
  const trailer = { tables, rows: tables.reduce((sum, { rows }) => sum + rows, 0), sha256: sha256(JSON.stringify([header.tenant.id, content])) };
  return JSON.stringify({ header, tables: document.tables, trailer });
}
