import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomUUID, sign, verify } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { sqlState } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';

/**
 * Ed25519 keys of the keyring folder, outside every database: what they sign cannot be forged by whoever can write to one. The highest
 * number signs; all of them verify, and a folder that holds public keys alone verifies too.
 *
 * What is signed begins with what it is (`partywall.audit.anchor…`), so that a signature under one thing is none under another.
 */
export interface Signature {
  /** First half of the SHA-256 of the public key, hex: the same key has the same id in every folder. */
  readonly keyId: string;
  /** Base64. */
  readonly signature: string;
}

/** How a signature and a text go together; `unknown` where the folder lacks the key. */
export type Verifier = (text: string, signature: Signature) => 'holds' | 'broken' | 'unknown';

/** Signs with the newest key of the folder; a first key is made where there is none. */
export async function signWith(keyring: string, text: string): Promise<Signature> {
  return (await readSigner(keyring))(text);
}

/** The same for many texts, with the key read once. */
export async function readSigner(keyring: string): Promise<(text: string) => Signature> {
  const key = await newestKey(keyring);
  const keyId = idOf(createPublicKey(key));
  return (text) => ({ keyId, signature: sign(null, Buffer.from(text, 'utf8'), key).toString('base64') });
}

/** Verifies against every key of the folder; with no folder every key is unknown. */
export async function readVerifier(keyring: string): Promise<Verifier> {
  const keys = new Map((await readPublicKeys(keyring)).map((key) => [idOf(key), key]));
  return (text, { keyId, signature }) => {
    const key = keys.get(keyId);
    if (!key) return 'unknown';
    return verify(null, Buffer.from(text, 'utf8'), key, Buffer.from(signature, 'base64')) ? 'holds' : 'broken';
  };
}

/** The public keys as PEM, for whoever verifies elsewhere. */
export async function publicKeys(keyring: string): Promise<{ readonly keyId: string; readonly pem: string }[]> {
  return (await readPublicKeys(keyring)).map((key) => ({ keyId: idOf(key), pem: key.export({ type: 'spki', format: 'pem' }).toString() }));
}

function idOf(key: KeyObject): string {
  const spki = key.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex').slice(0, 32);
}

async function newestKey(keyring: string): Promise<KeyObject> {
  await fs.mkdir(keyring, { recursive: true, mode: 0o700 });
  const numbers = (await fs.readdir(keyring)).flatMap((file) => {
    const [, number] = /^signing-([1-9]\d{0,8})\.key$/.exec(file) ?? [];
    return number === undefined ? [] : [Number(number)];
  });
  const number = Math.max(1, ...numbers);
  if (numbers.length === 0) await createKey(keyring, number);
  return readPrivateKey(path.join(keyring, `signing-${number}.key`));
}

/** Written beside and linked into place: of many processes that start at once one makes the key and all others find it whole. */
async function createKey(keyring: string, number: number): Promise<void> {
  const { privateKey } = generateKeyPairSync('ed25519');
  const draft = path.join(keyring, `.draft-${randomUUID()}`);
  const handle = await fs.open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(privateKey.export({ type: 'pkcs8', format: 'pem' }));
    await handle.sync();
  } finally {
    await handle.close();
  }
  try {
    await fs.link(draft, path.join(keyring, `signing-${number}.key`));
  } catch (error) {
    if (sqlState(error) !== 'EEXIST') throw error;
  } finally {
    await fs.rm(draft, { force: true });
  }
}

async function readPrivateKey(file: string): Promise<KeyObject> {
  const [pem, { mode }] = await Promise.all([fs.readFile(file), fs.stat(file)]);
  if ((mode & 0o077) !== 0 && process.platform !== 'win32') {
    throw new PartywallError('secret_unreadable', `reading ${file}: others than its owner can read it`, { hint: `chmod 600 ${file}` });
  }
  return createPrivateKey(pem);
}

async function readPublicKeys(keyring: string): Promise<KeyObject[]> {
  let files: string[];
  try {
    files = await fs.readdir(keyring);
  } catch (error) {
    if (sqlState(error) !== 'ENOENT') throw error;
    return [];
  }
  const held = files.filter((file) => /^signing-[1-9]\d{0,8}\.(?:key|pub)$/.test(file)).sort();
  return Promise.all(
    held.map(async (file) => {
      const full = path.join(keyring, file);
      return file.endsWith('.pub') ? createPublicKey(await fs.readFile(full)) : createPublicKey(await readPrivateKey(full));
    }),
  );
}
