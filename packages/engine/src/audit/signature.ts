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
  return (text, { keyId, signature }) => {
    const key = keys.get(keyId);
    if (key === undefined) return 'unknown';
    return isSignedBy(key, text, Buffer.from(signature, 'base64')) ? 'holds' : 'broken';
  };
}
