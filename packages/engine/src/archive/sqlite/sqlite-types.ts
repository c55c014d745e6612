/**
 * PostgreSQL's type for a column that SQLite declares so. SQLite keeps to no declaration: what a value is in fact is asked for each one
 * (`sqlite-value.ts`). All integers are 64 bits wide and no length is enforced, so neither is promised here.
 */
export function postgresType(declared: string): string {
  const name = declared.toLowerCase().replace(/\(.*$/, '').trim();
  return exact[name] ?? byPart.find(([part]) => name.includes(part))?.[1] ?? 'text';
}

const exact: Readonly<Record<string, string>> = {
  blob: 'bytea',
  bytea: 'bytea',
  date: 'date',
  time: 'time without time zone',
  uuid: 'uuid',
  json: 'json',
  jsonb: 'jsonb',
};

/** In this order, which is that of SQLite's own rules on affinity as far as these go. */
const byPart: readonly (readonly [part: string, type: string])[] = [
  ['bool', 'boolean'],
  ['timestamp', 'timestamp with time zone'],
  ['datetime', 'timestamp with time zone'],
  ['interval', 'text'],
  ['point', 'text'],
  ['int', 'bigint'],
  ['char', 'text'],
  ['clob', 'text'],
  ['text', 'text'],
  ['blob', 'bytea'],
  ['real', 'double precision'],
  ['floa', 'double precision'],
  ['doub', 'double precision'],
  ['numeric', 'numeric'],
  ['decimal', 'numeric'],
];
