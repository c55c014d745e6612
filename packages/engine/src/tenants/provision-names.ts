import { createHash } from 'node:crypto';

/** Leaves room for a suffix in a column of 63 characters. */
const slugCharactersMax = 48;
const suffixCharacters = 8;

/** What makes two names the same tenant: form, case and outer or repeated space do not count. */
export function provisionKey(name: string): string {
  return name.normalize('NFKC').toLowerCase().trim().replaceAll(/\s+/gu, ' ');
}

/**
 * The name for addresses: letters and digits of any script in lower case, joined by `-`.
 *
 * @param taken true where another tenant has the plain one: the name's hash is added, so that trying again gives the same
 */
export function slugOf(name: string, taken: boolean): string {
  const key = provisionKey(name);
  const words = key.replaceAll(/[^\p{L}\p{N}\p{M}]+/gu, '-').replaceAll(/^-+|-+$/gu, '');
  const slug = [...words].slice(0, slugCharactersMax).join('').replace(/-+$/u, '');
  const suffix = createHash('sha256').update(key).digest('hex').slice(0, suffixCharacters);
  if (slug === '') return `tenant-${suffix}`;
  return taken ? `${slug}-${suffix}` : slug;
}
