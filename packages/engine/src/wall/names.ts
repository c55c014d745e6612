import { createHash } from 'node:crypto';

/** PostgreSQL cuts names at this many bytes; two long names must not become one. */
export const nameBytesMax = 63;

const wallNameKinds = ['key', 'index', 'fk', 'root', 'unique', 'check', 'derive', 'adopt', 'observe', 'restored'] as const;
export type WallNameKind = (typeof wallNameKinds)[number];

/**
 * Names of what the wall adds: `pw_key_contacts_1f2e3d4c`. The hash covers all parts, so equal names mean equal things, and a
 * name that would be cut loses its readable middle, never its hash.
 */
export function wallName(kind: WallNameKind, ...parts: readonly string[]): string {
  return withHash(`pw_${kind}_`, parts);
}

/** Triggers of one event fire in the order of their names: this one after the application's, whatever they change. */
export function lastTriggerName(kind: WallNameKind, ...parts: readonly string[]): string {
  return withHash(`zz_pw_${kind}_`, parts);
}

function withHash(prefix: string, parts: readonly string[]): string {
  const hash = createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 8);
  const readable = Buffer.from(parts.at(0) ?? '').subarray(0, nameBytesMax - prefix.length - hash.length - 1);
  // A cut inside a multi-byte character leaves a replacement character; drop it.
  return `${prefix}${readable.toString('utf8').replace(/\uFFFD+$/u, '')}_${hash}`;
}

/** Whether the wall made a thing of this name: `pw_reset_token_key` is an application's password reset, not ours. */
export function isWallName(name: string, kinds: readonly WallNameKind[] = wallNameKinds): boolean {
  const kind = /^(?:zz_)?pw_([a-z]+)_.*_[0-9a-f]{8}$/s.exec(name)?.[1];
  return kinds.some((known) => known === kind);
}

/** Name of the canonical policy: a policy of this name has this body, and a changed body needs another name. */
export function policyName(body: string): string {
  return `partywall_${bodyHash(body)}`;
}

/** The same for the policies of units. */
export function unitPolicyName(body: string): string {
  return `${unitPolicyPrefix}${bodyHash(body)}`;
}

export function isUnitPolicyName(name: string): boolean {
  return name.startsWith(unitPolicyPrefix);
}

const unitPolicyPrefix = 'partywall_unit_';

function bodyHash(body: string): string {
  return createHash('sha256').update(body).digest('hex').slice(0, 12);
}
