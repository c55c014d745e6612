import { z } from 'zod';
import { backupText, hex } from './page.ts';

/**
 * The manifest of a backup: canonical JSON, signed, written last. What it does not reach does not exist. No name of a tenant and no value of a
 * row is in it. `docs/formats/archive.md` explains every member.
 */
export const manifestFormat = 'partywall.backup';
export const manifestMajor = 1;
export const manifestMinor = 0;

const count = z.int().min(0);
const text = z.string().max(10_000);
const time = z.iso.datetime();

/** What is backed up together, each with its own recovery point objective. */
export const dataClasses = ['database', 'configuration', 'files', 'audit'] as const;
export type DataClass = (typeof dataClasses)[number];
export const dataClass = z.enum(dataClasses);

const table = z.strictObject({
  /** `public.customers`; `partywall:schema` and the like are not tables of the database. */
  name: z.string().min(1).max(400),
  class: dataClass,
  /** `rows`: lines of COPY's text format. `bytes`: anything else. */
  kind: z.enum(['rows', 'bytes']),
  columns: z.array(z.strictObject({ name: z.string().max(63), type: z.string().max(300) })),
  key: z.array(z.string().max(63)),
  /** Null: rows of no tenant. */
  tenantColumn: z.string().max(63).nullable(),
  rows: count,
});

const subject = z.strictObject({
  subject: hex(16),
  /** Where its page is; `backup` is the one that wrote it. */
  page: z.strictObject({ backup: backupText, offset: count, bytes: z.int().min(1), sha256: hex(32) }),
  /** Every pack that the page reaches. */
  packs: z.array(z.strictObject({ backup: backupText, pack: count, bytes: z.int().min(1), sha256: hex(32) })),
  rows: count,
  /** Plain bytes. */
  bytes: count,
  /** SHA-256 over the marks of its tables and the key: the writer's own, so that what did not change is known without its page. */
  marks: hex(32).optional(),
});

export const manifest = z.strictObject({
  format: z.literal(manifestFormat),
  version: z.strictObject({ major: z.literal(manifestMajor), minor: count }),
  /** Never `none`: a reader refuses what is not encrypted. */
  encryption: z.literal('aes-256-gcm-stream/1'),
  archive: z.uuid(),
  id: backupText,
  /** `all`: every tenant, and what belongs to none. `tenants`: some. */
  scope: z.enum(['all', 'tenants']),
  classes: z.array(dataClass).min(1),
  /** `schedule hourly`, `by hand`, `before restore`, as given. */
  reason: text,
  /** When the snapshot was taken, and when the last byte was stored. */
  at: time,
  finishedAt: time,
  source: z.strictObject({
    engine: z.enum(['postgresql', 'sqlite']),
    version: text,
    /** Log position of the snapshot, `0/16B3748`; empty for SQLite. */
    lsn: text,
    /** Tells one history of one database from every other, so that marks of another are not believed. */
    lineage: text,
    /** Settings that texts were written under. */
    settings: z.record(z.string(), text),
  }),
  /** Fingerprints of the tenancy model and of the schema; the schema's statements are the platform's segment `partywall:schema`. */
  model: hex(32),
  schema: hex(32),
  tables: z.array(table),
  sequences: z.array(z.strictObject({ name: z.string().max(400), last: z.string().regex(/^-?\d+$/), called: z.boolean() })),
  subjects: z.array(subject),
  /** What was looked at and is not in the backup, a line each. */
  left: z.array(text),
  previous: z.strictObject({ id: backupText, sha256: hex(32) }).nullable(),
});

/** The stored object: `{ manifest, signature }`, the signature being Ed25519 over the canonical JSON of the manifest. */
export const signedManifest = z.strictObject({
  manifest,
  signature: z.strictObject({ key: z.string().max(100), ed25519: z.base64() }),
});

export type Manifest = z.output<typeof manifest>;
export type ManifestTable = z.output<typeof table>;
export type ManifestSubject = z.output<typeof subject>;
export type SignedManifest = z.output<typeof signedManifest>;
