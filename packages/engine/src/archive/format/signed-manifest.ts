import { createHash } from 'node:crypto';
import { PartywallError } from '../../errors.ts';
import { isSignedBy, type SigningKey } from '../../keyring/signing.ts';
import { canonicalJson } from './canonical-json.ts';
import { type Manifest, manifestFormat, manifestMajor, type SignedManifest, signedManifest } from './manifest.ts';

/** A manifest of ten thousand tenants is about 5 MB. */
export const manifestBytesMax = 1024 ** 3;

/** The object as it is stored. */
export function signManifest(manifest: Manifest, key: SigningKey): Buffer {
  const body = canonicalJson(manifest);
  return Buffer.from(`${bodyBegins}${body}${endOf({ key: key.id, ed25519: key.sign(body).toString('base64') })}`);
}

/** The manifest is nearly all of the object: its form is made once, or cut out where it was read. */
const bodyBegins = '{"manifest":';

function endOf(signature: SignedManifest['signature']): string {
  return `,"signature":${canonicalJson(signature)}}`;
}

/** What the next manifest holds of this one. */
export function manifestHash(stored: Buffer): string {
  return createHash('sha256').update(stored).digest('hex');
}

/**
 * The manifest of a stored object.
 *
 * @param publicKeys by id, as PEM: of the keyring, never of the archive
 * @throws PartywallError archive_foreign (another format, a newer major version, not encrypted), archive_damaged (changed, or signed by nobody known)
 */
export function parseManifest(stored: Buffer, id: string, publicKeys: ReadonlyMap<string, string>): Manifest {
  const damaged = (what: string, cause?: unknown): PartywallError =>
    new PartywallError('archive_damaged', `reading the manifest of backup ${id}: ${what}`, { cause });
  const text = stored.toString('utf8');
  let written: unknown;
  try {
    written = JSON.parse(text);
  } catch (cause) {
    throw damaged('it is no JSON', cause);
  }
  refuseForeign(written, id);
  const parsed = signedManifest.safeParse(written);
  if (!parsed.success) throw damaged(`it is malformed at ${parsed.error.issues[0]?.path.join('.')}`);
  const { manifest, signature } = parsed.data;
  // Parsing leaves everything as it is but the order of members, and in order it takes a tenth of the time.
  if (canonicalJson(written as SignedManifest) !== text) throw damaged('it is not in the form in which it was written');
  const publicKey = publicKeys.get(signature.key);
  if (publicKey === undefined) throw damaged(`it is signed with ${signature.key}, which is not in the keyring`);
  const body = text.slice(bodyBegins.length, -endOf(signature).length);
  if (!isSignedBy(publicKey, body, Buffer.from(signature.ed25519, 'base64'))) throw damaged('its signature is not of this content');
  if (manifest.id !== id) throw damaged(`it is the manifest of backup ${manifest.id}`);
  return manifest;
}

/** Before anything else is believed: what this version cannot read has its own answer. */
function refuseForeign(written: unknown, id: string): void {
  const member = (value: unknown, name: string): unknown => (typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined);
  const body = member(written, 'manifest');
  const refuse = (what: string): PartywallError => new PartywallError('archive_foreign', `reading the manifest of backup ${id}: ${what}`);
  if (member(body, 'format') !== manifestFormat) throw refuse(`its format is not ${manifestFormat}`);
  const major = member(member(body, 'version'), 'major');
  if (major !== manifestMajor) throw refuse(`its version is ${JSON.stringify(major)}, and this version of Partywall reads ${manifestMajor}`);
  const encryption = member(body, 'encryption');
  if (encryption === undefined || encryption === null || encryption === 'none') throw refuse('it says that nothing is encrypted');
}
