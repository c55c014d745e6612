import { createHash } from 'node:crypto';

/** *observe*: nothing is refused, and what would be is counted. *enforce*: the wall holds. */
export type RolloutMode = 'observe' | 'enforce';

/** The modes as the database has them (`partywall.rollout_state`). */
export interface RolloutState {
  /** Of the modes' contents; the same as long as they are. */
  readonly change: string;
  /** SQL type of the tenants' keys. */
  readonly keyType: string;
  /** Null where nobody has set one, which means enforce. */
  readonly all: RolloutMode | null;
  /** How many tenants of a hundred are enforced, by the hash of their key. */
  readonly percent: number | null;
  /** Tenants with a mode of their own, by the hash of their key. */
  readonly tenants: Readonly<Record<string, RolloutMode>>;
  /** Tables that are open while the rest is enforced: `schema.table`. */
  readonly tables: readonly string[];
}

/**
 * The mode of a tenant, or of work without one (undefined). What is said of the tenant itself goes before the percentage, and this before
 * what is said of all. Without a state, and where the key cannot be told apart from that of a tenant with a mode of its own, it is enforce.
 */
export function modeOf(state: RolloutState | undefined, tenant?: string): RolloutMode {
  const all = state?.all ?? 'enforce';
  if (!state || tenant === undefined) return all;
  if (state.percent === null && Object.keys(state.tenants).length === 0) return all;
  const hash = tenantHash(state.keyType, tenant);
  if (hash === undefined) return 'enforce';
  const own = Object.hasOwn(state.tenants, hash) ? state.tenants[hash] : undefined;
  return own ?? (state.percent !== null && canaryPlace(hash) < state.percent ? 'enforce' : all);
}

/**
 * Place of a tenant between 0 and 99: the first four bytes of the SHA-256 of its key, as a big-endian number, modulo 100. A canary of N percent
 * enforces places below N, so a larger canary holds all tenants of a smaller one, in every process and for ever.
 */
export function canaryPlace(hash: string): number {
  return Number.parseInt(hash.slice(0, 8), 16) % 100;
}

/** SHA-256, in hex, of the key as its type prints it; undefined where the text is no key of the type in a form that is known here. */
export function tenantHash(keyType: string, tenant: string): string | undefined {
  const key = canonicalKey(keyType, tenant);
  return key === undefined ? undefined : createHash('sha256').update(key).digest('hex');
}

/** The key as its type prints it. */
export function canonicalKey(keyType: string, tenant: string): string | undefined {
  switch (keyType) {
    case 'uuid': {
      const digits = tenant.replaceAll(/[{}-]/g, '').toLowerCase();
      return /^[0-9a-f]{32}$/.test(digits) ? digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') : undefined;
    }
    case 'bigint':
    case 'integer':
    case 'smallint':
      return /^\s*[-+]?\d+\s*$/.test(tenant) ? BigInt(tenant.replace('+', '')).toString() : undefined;
    default:
      return tenant;
  }
}

/** What the database has answered; undefined where it is nothing that this version understands. */
export function parseRolloutState(answer: unknown): RolloutState | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined;
  const { change, keyType, all, percent, tenants, tables } = answer as { readonly [Name in keyof RolloutState]?: unknown }; // each is looked at below
  if (typeof change !== 'string' || typeof keyType !== 'string' || !(all === null || isMode(all)) || !(percent === null || typeof percent === 'number'))
    return undefined;
  if (typeof tenants !== 'object' || tenants === null || !Array.isArray(tables)) return undefined;
  const own = Object.entries(tenants).flatMap(([hash, mode]: [string, unknown]) => (isMode(mode) ? [[hash, mode] as const] : []));
  return { change, keyType, all, percent, tenants: Object.fromEntries(own), tables: tables.map(String) };
}

function isMode(value: unknown): value is RolloutMode {
  return value === 'observe' || value === 'enforce';
}
