import { z } from 'zod';

/**
 * The page of a subject: where its segments are, table by table. Canonical JSON, in clear: it holds no name and no value of the tenant. A page
 * is written where something changed, and manifests go on pointing at it until something changes again. Tables without rows are left out.
 */
export const pageFormat = 'partywall.page/1';

const count = z.int().min(0);
export const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
export const backupText = z.string().regex(/^\d{8}t\d{6}z-[0-9a-f]{8}$/);

const segment = z.strictObject({
  /** Backup that stored it, and with which key. */
  backup: backupText,
  key: hex(16),
  part: count,
  /** Where: number of the subject's pack of that backup, and the bytes of it. */
  pack: count,
  offset: count,
  bytes: z.int().min(1),
  chunks: z.int().min(1),
  rows: count,
  plainBytes: count,
  mac: hex(32),
});

export const page = z.strictObject({
  format: z.literal(pageFormat),
  /** Backup that wrote the page. */
  backup: backupText,
  subject: hex(16),
  tables: z.array(
    z.strictObject({
      table: z.string().min(1).max(400),
      rows: count,
      /** Tells whether the rows changed since, to whoever reads the same database again; `docs/decisions/0012-archive.md`. */
      mark: z.string().max(400).nullable(),
      segments: z.array(segment).min(1),
    }),
  ),
});

export type Page = z.output<typeof page>;
export type PageTable = Page['tables'][number];
export type PageSegment = z.output<typeof segment>;
