import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * The document of one tenant: `docs/formats/tenant-export.md`. One JSON object of three members in this order: `header`, `tables` (a
 * member for each table of the header, in its order, an array of rows), `trailer`. A row is an object from column to the value in
 * PostgreSQL's own text form, or null. Written and read piece by piece, so the order is part of the format; white space is not, because
 * `curl -d @file` takes line ends out.
 */
export const exportFormat = 'partywall.tenant';
export const exportVersion = 1;

/** Bounds of a document that is read. */
export const documentBytesMax = 64 * 1024 ** 3;
/** Of a row's JSON text. What is written keeps to it too, so that whatever was exported can be restored. */
export const rowBytesMax = 64 * 1024 ** 2;
export const headBytesMax = 8 * 1024 ** 2;
/** Deeper than any part of the format is. */
export const nestingMax = 8;
const tablesMax = 5_000;
/** PostgreSQL's own. */
const columnsMax = 1_600;

const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((value) => !value.includes('\0') && value.isWellFormed(), 'holds a character that no text of the database can');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'a SHA-256 in lower-case hex');

/** A table as `schema.name`, its key and columns; each row has exactly these columns. Generated columns are left out. */
export const tableHead = z.strictObject({
  name: text(300).min(1),
  /** Primary key, or what stands for it; empty: the table has none. */
  key: z.array(text(63).min(1)).max(columnsMax),
  columns: z
    .array(z.strictObject({ name: text(63).min(1), type: text(300).min(1) }))
    .min(1)
    .max(columnsMax),
});

export const exportHeader = z.strictObject({
  format: z.literal(exportFormat),
  version: z.literal(exportVersion),
  tenant: z.strictObject({ id: text(300).min(1), name: text(10_000), status: text(40), plan: text(100) }),
  exportedAt: z.iso.datetime(),
  /** Fingerprint of the tenancy model. */
  model: sha256,
  tables: z.array(tableHead).min(1).max(tablesMax),
});

export const exportTrailer = z.strictObject({
  tables: z.array(z.strictObject({ name: text(300).min(1), rows: z.int().min(0), sha256 })).max(tablesMax),
  rows: z.int().min(0),
  sha256,
});

/** The whole document: for its JSON Schema. It is never parsed in one piece. */
export const exportDocument = z.strictObject({
  header: exportHeader,
  tables: z.record(z.string(), z.array(z.record(z.string(), z.union([z.string(), z.null()])))),
  trailer: exportTrailer,
});

export type TableHead = z.output<typeof tableHead>;
export type ExportHeader = z.output<typeof exportHeader>;
export type ExportTrailer = z.output<typeof exportTrailer>;

/** Values in the order of the table's columns. */
export type Row = readonly (string | null)[];

/** Adds up a table row by row: the hash covers the values alone, so white space and escapes may differ. */
export interface TableSum {
  add(row: Row): void;
  total(): { readonly rows: number; readonly sha256: string };
}

export function tableSum(): TableSum {
  const hash = createHash('sha256');
  let rows = 0;
  return {
    add: (row) => {
      rows += 1;
      hash.update(`${JSON.stringify(row)}\n`);
    },
    total: () => ({ rows, sha256: hash.copy().digest('hex') }),
  };
}

/** Hash of a tenant's whole content: equal for equal rows, whenever they were exported. */
export function trailerOf(header: Pick<ExportHeader, 'tenant' | 'tables'>, sums: readonly { readonly rows: number; readonly sha256: string }[]): ExportTrailer {
  const tables = header.tables.map(({ name }, at) => ({ name, rows: sums[at]?.rows ?? 0, sha256: sums[at]?.sha256 ?? '' }));
  const content = header.tables.map(({ name, key, columns }, at) => [
    name,
    key,
    columns.map((column) => [column.name, column.type]),
    tables[at]?.rows,
    tables[at]?.sha256,
  ]);
  return {
    tables,
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    sha256: createHash('sha256')
      .update(JSON.stringify([header.tenant.id, content]))
      .digest('hex'),
  };
}
