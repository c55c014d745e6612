import { randomBytes } from 'node:crypto';
import { PartywallError } from '../errors.ts';

/** A key of the seal: the application has it as text, the database as the two blocks that HMAC makes of it. */
export interface SealKey {
  readonly id: number;
  readonly secret: Buffer;
}

const secretBytes = 32;
const blockBytes = 64;

export function newSealKey(id: number): SealKey {
  return { id, secret: randomBytes(secretBytes) };
}

/** As `createWalledPool({ seal })` takes it. */
export function sealKeyText({ id, secret }: SealKey): string {
  return `${id}:${secret.toString('base64url')}`;
}

/** @throws PartywallError seal_unchanged, without the text */
export function parseSealKey(text: string): SealKey {
  const [, id = '', secret = ''] = /^(\d{1,9}):([A-Za-z0-9_-]{43})=?$/.exec(text.trim()) ?? [];
  const key = { id: Number(id), secret: Buffer.from(secret, 'base64url') };
  if (key.id >= 1 && key.secret.length === secretBytes) return key;
  throw new PartywallError('seal_unchanged', 'reading a key of the seal: it is not one', { hint: 'a key is <number>:<32 bytes as base64url>, on one line' });
}

/** RFC 2104: the key, filled up with zeros, xor 0x36 and xor 0x5c. */
export function hmacBlocks({ secret }: SealKey): { readonly ipad: Buffer; readonly opad: Buffer } {
  const block = Buffer.concat([secret, Buffer.alloc(blockBytes - secret.length)]);
  return { ipad: block.map((byte) => byte ^ 0x36) as Buffer, opad: block.map((byte) => byte ^ 0x5c) as Buffer };
}
