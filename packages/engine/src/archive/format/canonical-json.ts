/** JSON in one form only (RFC 8785 for what manifests hold: texts, safe integers, booleans, null): members sorted by code unit, no white space. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [name: string]: Json | undefined };

/** @throws TypeError for a number that is no safe integer, and for text that is no Unicode */
export function canonicalJson(value: Json): string {
  // JSON.stringify keeps the order that members have, and is seven times as fast as what follows: what was read is in order.
  if (isOrdered(value) || value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isList(value)) return `[${value.map(canonicalJson).join(',')}]`;
  const members = Object.keys(value)
    .sort()
    .flatMap((name) => {
      const member = value[name];
      return member === undefined ? [] : [`${canonicalJson(name)}:${canonicalJson(member)}`];
    });
  return `{${members.join(',')}}`;
}

/** Whether all objects in it have their members in order. */
function isOrdered(value: Json): boolean {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new TypeError(`${value} has no canonical form`);
  if (typeof value === 'string' && !value.isWellFormed()) throw new TypeError('a text with half a character has no canonical form');
  if (value === null || typeof value !== 'object') return true;
  if (isList(value)) return value.every(isOrdered);
  let before = '';
  for (const name of Object.keys(value)) {
    const member = value[name];
    if (name < before || (member !== undefined && !(isOrdered(name) && isOrdered(member)))) return false;
    before = name;
  }
  return true;
}

function isList(value: object): value is readonly Json[] {
  return Array.isArray(value);
}
