import { parseSealKeys, type SealKey, sealOf } from './seal-keys.ts';

/** A code that lets the holder enter one tenant, or one unit of it, until it expires. */
export interface Seal {
  /** Number of the key it is made with. */
  readonly key: number;
  /** Seconds since 1970. */
  readonly expires: number;
  readonly mac: Buffer;
  /** When another is to be made in its place, in milliseconds of the clock it was made by. */
  readonly renewAt: number;
}

/** Makes the seals of one pool, with one of its keys. */
export interface Sealer {
  seal(tenant: string, unit: string | null): Seal;
  /** Takes the best key that is among these, and says whether there is one. */
  choose(known: readonly number[]): boolean;
  /** Numbers of all keys of the pool. */
  readonly ids: readonly number[];
  now(): number;
}

/** A seal is at least half as long good: how far the application's clock may be behind the database's. */
const lifetimeSeconds = 60;

/**
 * @param keys as `parseSealKeys` reads them
 * @param now milliseconds since 1970
 * @throws TypeError
 */
export function createSealer(keys: string, now: () => number = Date.now): Sealer {
  const all = parseSealKeys(keys);
  let chosen: SealKey | undefined = all[0];
  return {
    ids: all.map(({ id }) => id),
    now,
    choose: (known) => {
      const found = all.find(({ id }) => known.includes(id));
      chosen = found ?? chosen;
      return found !== undefined;
    },
    seal: (tenant, unit) => {
      if (!chosen) throw new TypeError('sealing: there is no key');
      const at = now();
      const expires = Math.floor(at / 1_000) + lifetimeSeconds;
      return { key: chosen.id, expires, mac: sealOf(chosen, { tenant, unit, expires }), renewAt: at + (lifetimeSeconds * 1_000) / 2 };
    },
  };
}
