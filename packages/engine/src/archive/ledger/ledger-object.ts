import { createHash } from 'node:crypto';
import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { isSignedBy, publicKeys, signingKey } from '../../keyring/signing.ts';
import type { Archive } from '../archive.ts';
import { canonicalJson } from '../format/canonical-json.ts';
import { hex } from '../format/page.ts';
import { readSegment, writeSegment } from '../format/segment.ts';

/** Objects of the ledger: numbered from 1 without a gap, signed, chained, their content encrypted for the platform. `docs/formats/ledger.md`. */
export const ledgerFormat = 'partywall.ledger/1';
/** Every so many objects one holds the state of all tenants, so that reading the ledger does not grow with its age. */
export const objectsPerSummary = 64;
export const objectBytesMax = 256 * 1024 ** 2;

/** `gone`: the application deleted the tenant's row by itself. */
export const ledgerStatuses = ['active', 'suspended', 'cancelled', 'deleted', 'erasing', 'erased', 'gone'] as const;

const record = z.strictObject({
  /** Text of the tenant's key. */
  tenant: z.string(),
  /** Since when it is known to be so. */
  at: z.iso.datetime(),
  status: z.enum(ledgerStatuses),
  /** Cancelled or deleted: until then it can be brought back. */
  retainedUntil: z.iso.datetime().nullable(),
  /** Database that holds it; null: this one. */
  placement: z.string().nullable(),
});
export type LedgerRecord = z.output<typeof record>;

const content = z.strictObject({
  /** The records are the state of all tenants, and nothing before them is needed. */
  summary: z.boolean(),
  records: z.array(record),
});
export type LedgerContent = z.output<typeof content>;

const entry = z.strictObject({
  format: z.literal(ledgerFormat),
  number: z.int().min(1),
  at: z.iso.datetime(),
  /** SHA-256 of the object before it, hex; null before the first. */
  previous: hex(32).nullable(),
  /** Data key of the platform. */
  key: hex(16),
  sum: z.strictObject({ chunks: z.int().min(1), plainBytes: z.int().min(0), mac: hex(32) }),
  segment: z.base64(),
});
const stored = z.strictObject({ entry, signature: z.strictObject({ key: z.string().max(100), ed25519: z.base64() }) });
export type LedgerEntry = z.output<typeof entry>;

export function ledgerObject(number: number): string {
  return `ledger/${String(number).padStart(12, '0')}.json`;
}

export function objectHash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function segmentName(number: number): { backup: string; table: string; part: number } {
  return { backup: 'ledger', table: 'partywall:ledger', part: number };
}

/** The bytes of an object. */
export async function writeLedgerObject(
  archive: Archive,
  { number, at, previous }: Pick<LedgerEntry, 'number' | 'at' | 'previous'>,
  written: LedgerContent,
): Promise<Buffer> {
  const key = (await archive.keys.ensure(['platform'])).get('platform');
  if (!key) throw new Error('the keyring gave no key for the platform');
  const writer = writeSegment(key, segmentName(number));
  const segment = Buffer.concat([writer.header, writer.chunk(Buffer.from(canonicalJson(written)), true)]).toString('base64');
  const made: LedgerEntry = { format: ledgerFormat, number, at, previous, key: key.id, sum: writer.sum(), segment };
  const signer = await signingKey(archive.keyring);
  return Buffer.from(canonicalJson({ entry: made, signature: { key: signer.id, ed25519: signer.sign(canonicalJson(made)).toString('base64') } }));
}

/**
 * @throws PartywallError archive_damaged (changed, signed by nobody known, or under another number), key_missing
 */
export async function readLedgerObject(archive: Archive, number: number, bytes: Buffer): Promise<{ entry: LedgerEntry; content: LedgerContent }> {
  const damaged = (what: string): PartywallError => new PartywallError('archive_damaged', `reading entry ${number} of the ledger: ${what}`);
  const parsed = stored.safeParse(parseJson(bytes));
  if (!parsed.success) throw damaged(`it is malformed at ${parsed.error.issues[0]?.path.join('.')}`);
  const { entry: found, signature } = parsed.data;
  const publicKey = (await publicKeys(archive.keyring)).get(signature.key);
  if (publicKey === undefined) throw damaged(`it is signed with ${signature.key}, which is not in the keyring`);
  if (!isSignedBy(publicKey, canonicalJson(found), Buffer.from(signature.ed25519, 'base64'))) throw damaged('its signature is not of this content');
  if (found.number !== number) throw damaged(`it is entry ${found.number}`);
  const pieces: Buffer[] = [];
  const segment = Buffer.from(found.segment, 'base64');
  for await (const piece of readSegment(archive.keys.byId(found.key), segmentName(number), found.sum, once(segment))) pieces.push(piece);
  const read = content.safeParse(parseJson(Buffer.concat(pieces)));
  if (!read.success) throw damaged(`its content is malformed at ${read.error.issues[0]?.path.join('.')}`);
  return { entry: found, content: read.data };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
