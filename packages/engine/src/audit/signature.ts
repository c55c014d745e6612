import { createHash, createPublicKey } from 'node:crypto';
import { PartywallError } from '../errors.ts';
import { isSignedBy, publicKeys, signingKey } from '../keyring/signing.ts';

/**
 * Signatures of what the audit log must be held to. Every signed text begins with what it is (`partywall.audit.anchor…`), so that a signature
 * under one thing is none under another.
 */
export interface Signature {
  readonly keyId: string;
  /** Base64. */
  readonly signature: string;
}

/** Signs any number of texts with the newest key of the keyring; a first key is made where there is none. */
export async function readSigner(keyring: string): Promise<(text: string) => Signature> {
  const key = await signingKey(keyring);
  return (text) => ({ keyId: key.id, signature: key.sign(text).toString('base64') });
}

/** How a text and a signature go together; `unknown` where the keyring lacks the key. */
export type Verifier = (text: string, signature: Signature) => 'holds' | 'broken' | 'unknown';

export async function readVerifier(keyring: string): Promise<Verifier> {
  const keys = await publicKeys(keyring);
  return verifierOf((keyId) => keys.get(keyId));
}

const pemPattern = /-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----/g;

/**
 * A verifier for whoever has public keys alone: an auditor, with what `partywall audit keys` printed. A key's id ends with the beginning of its
 * fingerprint, by which it is found here.
 *
 * @throws PartywallError input_invalid where the text holds no public key
 */
export function verifierOfKeys(pem: string): Verifier {
  const keys = new Map(
    (pem.match(pemPattern) ?? []).map((key) => {
      const der = publicKey(key).export({ type: 'spki', format: 'der' });
      return [createHash('sha256').update(der).digest('hex'), key] as const;
    }),
  );
  if (keys.size === 0) throw new PartywallError('input_invalid', 'reading public keys: the text holds none', { hint: '`partywall audit keys` prints them' });
  return verifierOf((keyId) => {
    const [, begins] = /:([0-9a-f]{16,64})$/.exec(keyId) ?? [];
    return begins === undefined ? undefined : [...keys].find(([fingerprint]) => fingerprint.startsWith(begins))?.[1];
  });
}

function verifierOf(find: (keyId: string) => string | undefined): Verifier {
  return (text, { keyId, signature }) => {
    const key = find(keyId);
    if (key === undefined) return 'unknown';
    return isSignedBy(key, text, Buffer.from(signature, 'base64')) ? 'holds' : 'broken';
  };
}

function publicKey(pem: string): ReturnType<typeof createPublicKey> {
  try {
    return createPublicKey(pem);
  } catch (cause) {
    throw new PartywallError('input_invalid', 'reading public keys: one of them is not in PEM', { cause });
  }
}
