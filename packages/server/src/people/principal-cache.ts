import type { Principal } from './principal.ts';

/** What was found out about a credential. */
export interface Known {
  readonly principal: Principal;
  /** Hashes under which a change of the person or key is announced. */
  readonly subject: string;
  /** Milliseconds since the epoch; Infinity where it does not expire. */
  readonly expiresAt: number;
}

/**
 * Principals by a hash of the credential, in memory. Answers only while it is told of changes: whoever listens extends `trustUntil`, so that a
 * listener that fails, hangs or is cut off turns the cache off by doing nothing. Bounded: the oldest entry goes first.
 */
export interface PrincipalCache {
  get(hash: string): Principal | undefined;
  /** Number of the forgettings so far, to be taken before the lookup whose result is stored. */
  mark(): number;
  /** Stores what a lookup found, unless something was forgotten since the mark: the lookup may have read what was there before. */
  set(hash: string, known: Known, mark: number): void;
  /** Forgets a person or key. */
  forget(subject: string): void;
  forgetAll(): void;
  /** Answers are given until then, by the cache's clock. */
  trustUntil(time: number): void;
}

const entriesMax = 10_000;
/** Bounds what a change that nobody announced, such as one with triggers off, can do. */
const rememberedMs = 60_000;

/** `now` is monotonic for trust, `clock` is the time of day for expiry; both in milliseconds. */
export function principalCache(now: () => number, clock: () => number): PrincipalCache {
  const entries = new Map<string, Known & { readonly forgottenAt: number }>();
  const bySubject = new Map<string, Set<string>>();
  let trusted = 0;
  let forgettings = 0;

  const drop = (hash: string): void => {
    const entry = entries.get(hash);
    if (!entry) return;
    entries.delete(hash);
    const hashes = bySubject.get(entry.subject);
    hashes?.delete(hash);
    if (hashes?.size === 0) bySubject.delete(entry.subject);
  };

  return {
    get: (hash) => {
      const time = now();
      if (time >= trusted) return undefined;
      const entry = entries.get(hash);
      if (entry && time < entry.forgottenAt && clock() < entry.expiresAt) return entry.principal;
      if (entry) drop(hash);
      return undefined;
    },
    mark: () => forgettings,
    set: (hash, known, mark) => {
      const time = now();
      if (time >= trusted || mark !== forgettings) return;
      drop(hash);
      const [oldest] = entries.size >= entriesMax ? entries.keys() : [];
      if (oldest !== undefined) drop(oldest);
      entries.set(hash, { ...known, forgottenAt: time + rememberedMs });
      const hashes = bySubject.get(known.subject) ?? new Set();
      bySubject.set(known.subject, hashes.add(hash));
    },
    forget: (subject) => {
      forgettings += 1;
      for (const hash of [...(bySubject.get(subject) ?? [])]) drop(hash);
    },
    forgetAll: () => {
      forgettings += 1;
      entries.clear();
      bySubject.clear();
    },
    trustUntil: (time) => {
      trusted = time;
    },
  };
}
