import { createHash } from 'node:crypto';

/** PostgreSQL cuts names at this many bytes; two long names must not become one. */
const nameBytesMax = 63;

/**
 * Names of what the wall adds: `pw_key_contacts_1f2e3d4c`. The hash covers all parts, so equal names mean equal things, and a
 * name that would be cut loses its readable middle, never its hash.
 */
export function wallName(kind: 'key' | 'index' | 'fk' | 'root' | 'unique' | 'check' | 'derive' | 'adopt', ...parts: readonly string[]): string {
  const hash = createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 8);
  const prefix = `pw_${kind}_`;
  const readable = Buffer.from(parts.at(0) ?? '').subarray(0, nameBytesMax - prefix.length - hash.length - 1);
  // A cut inside a multi-byte character leaves a replacement character; drop it.
  return `${prefix}${readable.toString('utf8').replace(/\uFFFD+$/u, '')}_${hash}`;
}

/** Name of the canonical policy: a policy of this name has this body, and a changed body needs another name. */
export function policyName(body: string): string {
  return `partywall_${createHash('sha256').update(body).digest('hex').slice(0, 12)}`;
}
