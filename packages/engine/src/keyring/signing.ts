import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { PartywallError } from '../errors.ts';
import { createKeyFile, openFolder, readKeyFile } from './folder.ts';

/**
 * Ed25519 keys that sign what must be provable later, one file each: `signing-<number>.pem` (PKCS #8). The highest number signs; the others
 * stay, so that what they signed can be checked. A key's id names its number and begins its fingerprint, so that a number that was used
 * again in another keyring is not taken for this one: `signing-1:4f1c…`.
 */
const fingerprintCharacters = 16;

export interface SigningKey {
  readonly id: string;
  /** PEM, SubjectPublicKeyInfo: what a third party checks signatures with. */
  readonly publicKey: string;
  sign(text: string): Buffer;
}

/**
 * The key that signs now; made where there is none. Safe for many processes at once: all get the same.
 *
 * @throws PartywallError keyring_refused
 */
export async function signingKey(keyring: string): Promise<SigningKey> {
  await openFolder(keyring);
  const number = Math.max(1, ...(await numbers(keyring)));
  const file = keyFile(keyring, number);
  if (number === 1 && !(await numbers(keyring)).includes(1)) {
    await createKeyFile(
      file,
      generateKeyPairSync('ed25519', { privateKeyEncoding: { type: 'pkcs8', format: 'pem' }, publicKeyEncoding: { type: 'spki', format: 'pem' } }).privateKey,
    );
  }
  return open(file, number);
}

/** Public keys of the keyring by id, as PEM. */
export async function publicKeys(keyring: string): Promise<ReadonlyMap<string, string>> {
  await openFolder(keyring);
  const keys = await Promise.all((await numbers(keyring)).map((number) => open(keyFile(keyring, number), number)));
  return new Map(keys.map(({ id, publicKey }) => [id, publicKey]));
}

/** Whether `signature` is of `text` by the key whose public half this is. */
export function isSignedBy(publicKey: string, text: string, signature: Buffer): boolean {
  return verify(null, Buffer.from(text), publicKey, signature);
}

async function open(file: string, number: number): Promise<SigningKey> {
  const privateKey = parse(file, await readKeyFile(file));
  const publicKey = createPublicKey(privateKey);
  const fingerprint = createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('hex')
    .slice(0, fingerprintCharacters);
  return {
    id: `signing-${number}:${fingerprint}`,
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    sign: (text) => sign(null, Buffer.from(text), privateKey),
  };
}

function parse(file: string, content: Buffer): KeyObject {
  try {
    const key = createPrivateKey(content);
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch {
    // What the parser says may quote the file.
  }
  throw new PartywallError('keyring_refused', `reading ${file}: not an Ed25519 private key`);
}

async function numbers(keyring: string): Promise<number[]> {
  return (await fs.readdir(keyring)).flatMap((file) => {
    const [, number] = /^signing-([1-9]\d{0,8})\.pem$/.exec(file) ?? [];
    return number === undefined ? [] : [Number(number)];
  });
}

function keyFile(keyring: string, number: number): string {
  return path.join(keyring, `signing-${number}.pem`);
}
