import { z } from 'zod';

/**
 * The file of one tenant, `docs/formats/tenant-file.md`: a tar.gz with one file of `COPY ... FROM STDIN` for each table, `restore.sql` over them, and a manifest
 * of what is in them, written last. What is checked against the manifest is what was read.
 */
export const tenantFileFormat = 'partywall.tenant-file';
export const tenantFileVersion = 1;

export const manifestName = 'MANIFEST.json';
export const manifestTextName = 'MANIFEST.txt';
export const restoreName = 'restore.sql';
/** Statements before and after the rows. */
export const schemaNames = { before: 'schema-before.sql', after: 'schema-after.sql' } as const;

/** Bounds of a file that is read. */
export const entriesMax = 6_000;
export const manifestBytesMax = 32 * 1024 ** 2;
/** Of all entries together, unpacked. */
export const contentBytesMax = 64 * 1024 ** 3;

const count = z.int().min(0);
const text = (max: number) => z.string().max(max);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const stored = { file: text(300).min(1), bytes: count, sha256 };

const table = z.strictObject({
  ...stored,
  /** `schema.name`, each part quoted where SQL requires it. */
  name: text(300).min(1),
  columns: z
    .array(z.strictObject({ name: text(300), type: text(300) }))
    .min(1)
    .max(1_600),
  /** Columns that tell rows apart; empty: none do. */
  key: z.array(text(300)).max(1_600),
  tenantColumn: text(300),
  rows: count,
  /** Where in the file the rows are, between the statement and `\.`. */
  data: z.strictObject({ offset: count, bytes: count }),
});

export const tenantFileManifest = z.strictObject({
  format: z.literal(tenantFileFormat),
  version: z.literal(tenantFileVersion),
  tenant: text(10_000),
  /** When the rows were so. */
  at: z.iso.datetime(),
  /** `full` has the schema's statements too, `export` the data alone. */
  kind: z.enum(['full', 'export']),
  /** `backup 20261121t020000z-1f2e3d4c`, `database chatbot@db:5432/chatbot`, `SQLite file /data/admin.db`. */
  source: text(10_000),
  tables: z.array(table).min(1).max(5_000),
  /** The other files; the manifest itself is not among them. */
  others: z.array(z.strictObject(stored)).max(10),
  rows: count,
});

export type TenantFileManifest = z.output<typeof tenantFileManifest>;
export type TenantFileTable = TenantFileManifest['tables'][number];
