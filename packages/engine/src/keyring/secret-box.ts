import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { PartywallError } from '../errors.ts';
import { createKeyFile, readKeyFile } from './folder.ts';

/**
 * Secrets that the database holds for the control plane (where a channel delivers to, and what it signs with), sealed so that a dump of the
 * database does not give them away: AES-256-GCM with a key of the keyring folder.
 *
 * A box is: version (1 byte), number of the key (4 bytes), nonce (12 bytes), ciphertext, tag (16 bytes). What it belongs to is associated
 * data: a box that is moved to another row does not open there. The highest key seals; lower ones open what they sealed.
 */

const version = 1;
const keyBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;
const headerBytes = 5;
/** A key seals a handful of channels: far below what random nonces of 96 bits allow. */
const algorithm = 'aes-256-gcm';

/**
 * Seals a text for one purpose.
 *
 * @param keyring folder of the keys; a first key is made where there is none
 * @param purpose what the text belongs to, such as `alert_channel:ops`; opening it takes the same
 */
export async function sealSecret(keyring: string, purpose: string, text: string): Promise<Buffer> {
  const { number, key } = await sealingKey(keyring);
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(version);
  header.writeUInt32BE(number, 1);
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv(algorithm, key, nonce, { authTagLength: tagBytes }).setAAD(associated(header, purpose));
  return Buffer.concat([header, nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
}

/**
 * The text that was sealed for this purpose.
 *
 * @throws PartywallError secret_unreadable: the keyring lacks the key, or the box was changed or sealed for something else
 */
export async function openSecret(keyring: string, purpose: string, box: Buffer): Promise<string> {
  try {
    if (box.length < headerBytes + nonceBytes + tagBytes || box.readUInt8() !== version) throw new Error('not a sealed secret of this version');
    const header = box.subarray(0, headerBytes);
    const key = await readKey(keyFile(keyring, header.readUInt32BE(1)));
    const body = headerBytes + nonceBytes;
    const decipher = createDecipheriv(algorithm, key, box.subarray(headerBytes, body), { authTagLength: tagBytes });
    decipher.setAAD(associated(header, purpose)).setAuthTag(box.subarray(-tagBytes));
    return Buffer.concat([decipher.update(box.subarray(body, -tagBytes)), decipher.final()]).toString('utf8');
  } catch (cause) {
    if (cause instanceof PartywallError) throw cause;
    throw new PartywallError('secret_unreadable', `opening the secret of ${purpose} with the keyring ${keyring}`, { cause });
  }
}

function associated(header: Buffer, purpose: string): Buffer {
  return Buffer.concat([header, Buffer.from(purpose, 'utf8')]);
}

function keyFile(keyring: string, number: number): string {
  return path.join(keyring, `secrets-${number}.key`);
}

async function sealingKey(keyring: string): Promise<{ readonly number: number; readonly key: Buffer }> {
  await fs.mkdir(keyring, { recursive: true, mode: 0o700 });
  const numbers = (await fs.readdir(keyring)).flatMap((file) => {
    const [, number] = /^secrets-([1-9]\d{0,8})\.key$/.exec(file) ?? [];
    return number === undefined ? [] : [Number(number)];
  });
  const number = Math.max(1, ...numbers);
  if (numbers.length === 0) await createKeyFile(keyFile(keyring, number), randomBytes(keyBytes));
  return { number, key: await readKey(keyFile(keyring, number)) };
}

async function readKey(file: string): Promise<Buffer> {
  const key = await readKeyFile(file).catch((error: unknown) => {
    if (!(error instanceof PartywallError)) throw error;
    throw new PartywallError('secret_unreadable', error.message, { hint: error.hint });
  });
  if (key.length !== keyBytes) throw new Error(`${file} is not a key of ${keyBytes} bytes`);
  return key;
}
