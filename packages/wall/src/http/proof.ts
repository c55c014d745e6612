/**
 * What a request says and what its credential proves are different types, and only a proven value reaches a context: a claim has to match
 * one that was proven before (`prove`). There is no other way from the one to the other.
 */

/** What a value names. */
export type Named = 'tenant' | 'unit';

declare const named: unique symbol;

/** What a credential proves: a signature, a session or a membership was checked. */
export interface Proven<What extends Named> {
  readonly proven: string;
  readonly [named]: What;
}

/** What the request merely says. */
export interface Claimed<What extends Named> {
  readonly claimed: string;
  readonly [named]: What;
}

type Id = string | number | bigint;

/**
 * For verifiers, and for nothing else: says that the credential of the request was checked and names this tenant, or that whoever it is of was
 * looked up and belongs to it.
 */
export function provenTenant(id: Id): Proven<'tenant'> {
  // The mark exists for the compiler alone; so below.
  return { proven: String(id) } as Proven<'tenant'>;
}

/** As `provenTenant`: the credential holds for this unit of the tenant and for no other. */
export function provenUnit(id: Id): Proven<'unit'> {
  return { proven: String(id) } as Proven<'unit'>;
}

export function claimOf<What extends Named>(value: string): Claimed<What> {
  return { claimed: value } as Claimed<What>;
}

/** Longer than any key of a tenant or unit that a header can sensibly hold. */
export const claimCharactersMax = 256;

/**
 * The proven value that a claim means, if it means one. A claim may be percent-encoded, because a header cannot hold every character of a
 * text key, and a UUID may be in capitals.
 */
export function prove<What extends Named>({ claimed }: Claimed<What>, among: readonly Proven<What>[]): Proven<What> | undefined {
  if (claimed.length > claimCharactersMax) return undefined;
  const exact = among.find(({ proven }) => proven === claimed);
  if (exact) return exact;
  const decoded = decodedClaim(claimed);
  const wanted = uuid.test(decoded) ? decoded.toLowerCase() : decoded;
  return among.find(({ proven }) => proven === decoded || (uuid.test(proven) && proven.toLowerCase() === wanted));
}

const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** What was percent-encoded, or the text itself where it is not. */
export function decodedClaim(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a key with a plain percent sign
  }
}
