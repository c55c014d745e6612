/** Families of types whose values can be compared as keys; PostgreSQL accepts a foreign key between members of one. */
export function keyFamily(type: string): string {
  const bare = type.replace(/\(.*\)/, '').replace(/^.*\./, '');
  if (bare === 'smallint' || bare === 'integer' || bare === 'bigint') return 'integer';
  if (bare === 'text' || bare === 'character varying' || bare === 'character' || bare === 'citext' || bare === 'name') return 'text';
  return type;
}

export function sameKeyFamily(left: string, right: string): boolean {
  return keyFamily(left) === keyFamily(right);
}
