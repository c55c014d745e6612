/**
 * Names as words, so that `organizationId`, `"Organization_ID"` and `organisation_id` are the same column and
 * `organisations_organisation` is a table of organizations.
 */
export function wordsOf(name: string): string[] {
  return name
    .replace(/([\p{Ll}\p{N}])(\p{Lu})/gu, '$1 $2')
    .replace(/(\p{Lu}+)(\p{Lu}\p{Ll})/gu, '$1 $2')
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter((word) => word !== '')
    .map((word) => word.replace('organis', 'organiz'));
}

/** Words without boundaries: `tenant_id`, `tenantId` and `tenantid` are all `tenantid`. */
export function compact(name: string): string {
  return wordsOf(name).join('');
}

/** Words joined by underscores, as framework names are written down. */
export function snake(name: string): string {
  return wordsOf(name).join('_');
}

/** What one row of a table is called: words in the singular, a doubled word once (`organisations_organisation`). */
export function stemOf(name: string): string[] {
  return wordsOf(name)
    .map(singular)
    .filter((word, at, words) => word !== words[at - 1]);
}

const irregular: ReadonlyMap<string, string> = new Map(
  Object.entries({ people: 'person', children: 'child', orgs: 'organization', org: 'organization', statuses: 'status' }),
);

export function singular(word: string): string {
  const known = irregular.get(word);
  if (known !== undefined) return known;
  if (/(?:ss|us|is)$/.test(word) || word.length < 4) return word;
  if (word.endsWith('ies')) return `${word.slice(0, -3)}y`;
  if (/(?:ss|x|ch|sh|us)es$/.test(word)) return word.slice(0, -2);
  return word.endsWith('s') ? word.slice(0, -1) : word;
}
