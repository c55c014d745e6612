import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { isSignedBy, type SigningKey } from '../../keyring/signing.ts';
import { canonicalJson, type Json } from './canonical-json.ts';
import { dataClass } from './manifest.ts';
import { backupText, hex } from './page.ts';

/**
 * What became of a backup after its manifest was written: signed records beside it, each an object of its own that is never changed. They are in
 * the archive, because the database that remembers them may be what is lost. `docs/formats/archive.md` explains every member.
 */
const time = z.iso.datetime();

const verified = z.strictObject({
  format: z.literal('partywall.verified/1'),
  archive: z.uuid(),
  backup: backupText,
  /** SHA-256 of the stored manifest. */
  manifest: hex(32),
  /** When it was found whole. */
  verifiedAt: time,
  /** Of the manifest, so that a list of backups takes no manifests. */
  at: time,
  scope: z.enum(['all', 'tenants']),
  classes: z.array(dataClass).min(1),
});

const retired = z.strictObject({
  format: z.literal('partywall.retired/1'),
  archive: z.uuid(),
  backup: backupText,
  retiredAt: time,
  /** Refs of subjects that this backup holds no longer. */
  subjects: z.array(hex(16)).min(1),
});

const record = z.discriminatedUnion('format', [verified, retired]);
const signedRecord = z.strictObject({ record, signature: z.strictObject({ key: z.string().max(100), ed25519: z.base64() }) });

export type VerifiedRecord = z.output<typeof verified>;
export type RetiredRecord = z.output<typeof retired>;
export type ArchiveRecord = z.output<typeof record>;

/** A record of a hundred thousand subjects is about 4 MB. */
export const recordBytesMax = 64 * 1024 ** 2;

/** The object as it is stored. */
export function signRecord(written: ArchiveRecord, key: SigningKey): Buffer {
  const body: Json = written;
  return Buffer.from(canonicalJson({ record: body, signature: { key: key.id, ed25519: key.sign(canonicalJson(body)).toString('base64') } }));
}

/**
 * The record of a stored object.
 *
 * @param publicKeys by id, as PEM: of the keyring, never of the archive
 * @throws PartywallError archive_damaged: changed, of another backup, or signed by nobody known
 */
export function parseRecord(stored: Buffer, of: { readonly key: string; readonly backup: string }, publicKeys: ReadonlyMap<string, string>): ArchiveRecord {
  const damaged = (what: string): PartywallError => new PartywallError('archive_damaged', `reading ${of.key}: ${what}`);
  const parsed = signedRecord.safeParse(parsedJson(stored));
  if (!parsed.success) throw damaged(`it is malformed at ${parsed.error.issues[0]?.path.join('.')}`);
  const { record: body, signature } = parsed.data;
  const publicKey = publicKeys.get(signature.key);
  if (publicKey === undefined) throw damaged(`it is signed with ${signature.key}, which is not in the keyring`);
  if (!isSignedBy(publicKey, canonicalJson(body), Buffer.from(signature.ed25519, 'base64'))) throw damaged('its signature is not of this content');
  if (body.backup !== of.backup) throw damaged(`it is of backup ${body.backup}`);
  return body;
}

function parsedJson(stored: Buffer): unknown {
  try {
    return JSON.parse(stored.toString('utf8'));
  } catch {
    return undefined;
  }
}
