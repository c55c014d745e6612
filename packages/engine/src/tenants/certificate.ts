import { createHash } from 'node:crypto';
import type pg from 'pg';
import { z } from 'zod';
import type { Operation } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';
import { isSignedBy, publicKeys, type SigningKey } from '../keyring/signing.ts';

/**
 * Proof that a tenant was erased: a JSON text, signed as it is, byte for byte. Each holds the hash of the one before, so that none can be taken
 * out. It names the tenant by its key and by a salted hash of its name: whoever knows the name can check that this is the tenant, and nobody
 * learns it from the certificate.
 */
export const certificateFormat = 'partywall.erasure/1';

const count = z.int().min(0);

const erasedBackups = z.object({
  /** Id of the archive. */
  archive: z.string(),
  /** Random names of the tenant in it, and of its data keys: all destroyed. Empty where it was never backed up. */
  refs: z.array(z.string()),
  keys: z.array(z.string()),
  /** Versions of key-encryption keys that could open an older keybook. `pending`: somebody has to take them away, and until then they can. */
  keks: z.object({ destroyed: z.array(z.int()), pending: z.array(z.int()) }),
  /** Whether the keybook as it was before still opens; null where it was not there to be tried any more. */
  oldKeybookOpens: z.boolean().nullable(),
  /** Files of the tenant that were removed from where the application keeps them; absent where the model names no such place. */
  files: count.optional(),
  /** Backups that held the tenant, and what they reach: segments were each tried, none opens. `bytes` of the objects. */
  held: z.object({ backups: count, objects: count, segments: count, bytes: count }),
  /** Until when some of the objects cannot be deleted; null where none is locked. They cannot be read either. */
  lockedUntil: z.string().nullable(),
  /** Backups whose manifest or page could not be read, so that their segments are not named. Their keys are gone with the others. */
  unread: count,
  /** The object of the archive that names every segment, and what it hashes to. */
  list: z.object({ object: z.string(), sha256: z.string() }).nullable(),
  /** Every other subject: its key is there, and a segment of it in the newest backup was opened, or there was none to open. */
  others: z.object({ of: count, visited: count, opened: count, without: count, damaged: count }),
  /** Number of the ledger's object that holds the erasure. */
  ledger: count,
});

const certificateBody = z.object({
  format: z.literal(certificateFormat),
  number: z.int(),
  tenant: z.object({ id: z.string(), nameSalt: z.string(), nameHash: z.string() }),
  operation: z.string(),
  requestedBy: z.object({ kind: z.string(), id: z.string() }),
  reason: z.string().nullable(),
  requestedAt: z.string(),
  completedAt: z.string(),
  /** Rows of each table of the model. */
  tables: z.array(z.object({ table: z.string(), before: z.int(), after: z.literal(0) })),
  /** People without another tenant, rows of the control plane, rows that apply had taken aside, rows of schema partywall that named it (absent in older ones). */
  removed: z.object({ people: z.int(), control: z.int(), quarantined: z.int(), wall: z.int().optional() }),
  /** Materialised views that hold copies until their owner refreshes them. */
  copies: z.array(z.string()),
  /** What became of its backups; absent where the database was never backed up. */
  backups: erasedBackups.optional(),
  previous: z.string().nullable(),
  keyId: z.string(),
});
export type CertificateBody = z.output<typeof certificateBody>;

export interface Certificate {
  readonly body: CertificateBody;
  /** What is signed. */
  readonly text: string;
  /** SHA-256 of the text, hex: what the next certificate holds. */
  readonly hash: string;
  /** Ed25519, base64. */
  readonly signature: string;
}

/** Hash by which a name can be recognised. */
export function nameHash(salt: string, name: string): string {
  return createHash('sha256').update(`${salt}:${name}`).digest('hex');
}

/** Signs and stores a certificate in the caller's transaction, which has the chain to itself from here on. */
export async function issueCertificate(
  client: pg.ClientBase,
  key: SigningKey,
  facts: Omit<CertificateBody, 'format' | 'number' | 'previous' | 'keyId'>,
): Promise<Certificate> {
  await client.query("select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('partywall:certificates', 0))");
  const { rows } = await client.query<{ seq: string; hash: string }>(
    "select c.seq, pg_catalog.encode(c.hash, 'hex') as hash from partywall_control.certificates c order by c.seq desc limit 1",
  );
  const last = rows[0];
  const body: CertificateBody = { format: certificateFormat, number: Number(last?.seq ?? 0) + 1, ...facts, previous: last?.hash ?? null, keyId: key.id };
  const text = JSON.stringify(body);
  const hash = createHash('sha256').update(text).digest('hex');
  const signature = key.sign(text);
  await client.query(
    `insert into partywall_control.certificates (seq, tenant_id, operation_id, issued_at, body, hash, key_id, signature)
values ($1, $2, $3, $4, $5, pg_catalog.decode($6, 'hex'), $7, $8)`,
    [body.number, body.tenant.id, body.operation, body.completedAt, text, hash, key.id, signature],
  );
  return { body, text, hash, signature: signature.toString('base64') };
}

interface CertificateRow {
  readonly body: string;
  readonly hash: string;
  readonly signature: Buffer;
}

const columns = "c.body, pg_catalog.encode(c.hash, 'hex') as hash, c.signature";

/**
 * The latest certificate for a tenant; a key can be used again after an erasure.
 *
 * @throws PartywallError certificate_unknown
 */
export async function readCertificate(operation: Operation, tenant: string): Promise<Certificate> {
  const { rows } = await operation.database.pool.query<CertificateRow>(
    `select ${columns} from partywall_control.certificates c where c.tenant_id = $1 order by c.seq desc limit 1`,
    [tenant],
  );
  if (rows[0]) return certificateOf(rows[0]);
  throw new PartywallError('certificate_unknown', `looking for the certificate of tenant ${JSON.stringify(tenant.slice(0, 100))}: there is none`);
}

/** Certificates, latest first, `limit + 1` of them. */
export async function listCertificates(operation: Operation, input: { readonly limit: number; readonly before?: number | undefined }): Promise<Certificate[]> {
  const { rows } = await operation.database.pool.query<CertificateRow>(
    `select ${columns} from partywall_control.certificates c where $1::bigint is null or c.seq < $1 order by c.seq desc limit $2`,
    [input.before ?? null, input.limit + 1],
  );
  return rows.map(certificateOf);
}

export interface CertificateCheck {
  readonly valid: boolean;
  /** Why not. */
  readonly problem: string | null;
  /** PEM of the key that the certificate names, where this keyring has it. */
  readonly publicKey: string | null;
}

/** Checks signature, hash, and that the certificate before it is the one it names. */
export async function verifyCertificate(operation: Operation, certificate: Certificate): Promise<CertificateCheck> {
  const { pool, keyring } = operation.database;
  const publicKey = (await publicKeys(keyring)).get(certificate.body.keyId) ?? null;
  const invalid = (problem: string): CertificateCheck => ({ valid: false, problem, publicKey });
  if (publicKey === null) return invalid(`the keyring has no key ${certificate.body.keyId}`);
  if (!isSignedBy(publicKey, certificate.text, Buffer.from(certificate.signature, 'base64'))) return invalid('the signature is not of this text');
  if (createHash('sha256').update(certificate.text).digest('hex') !== certificate.hash) return invalid('the stored hash is not of this text');
  const { rows } = await pool.query<{ hash: string }>(
    "select pg_catalog.encode(c.hash, 'hex') as hash from partywall_control.certificates c where c.seq = $1",
    [certificate.body.number - 1],
  );
  if ((rows[0]?.hash ?? null) !== certificate.body.previous) return invalid(`certificate ${certificate.body.number - 1} is not the one that this one follows`);
  return { valid: true, problem: null, publicKey };
}

function certificateOf({ body, hash, signature }: CertificateRow): Certificate {
  return { body: certificateBody.parse(JSON.parse(body)), text: body, hash, signature: signature.toString('base64') };
}
