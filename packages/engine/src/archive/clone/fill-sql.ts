import { randomBytes } from 'node:crypto';
import { dollarQuote, ident, literal } from '../../db/sql.ts';
import type { CloneRule } from '../../model/clone.ts';
import type { TableName } from '../../model/table-name.ts';
import { type IdMap, mapOf, uuidMap, uuidPattern } from './id-maps.ts';
import type { ColumnFill } from './plan-clone.ts';

/** What the clone is: its key once it is known, its names, and the characters that tell it from its source. */
export interface CloneIdentity {
  readonly source: string;
  readonly key: string | undefined;
  readonly profile: Readonly<Record<'name' | 'slug' | 'plan' | 'contactEmail', string | null>>;
  readonly suffix: string;
}

/** Four bytes: clones of one tenant must not meet. */
export function newSuffix(): string {
  return randomBytes(4).toString('hex');
}

/** Exchanges every UUID of a text that was given anew. Made where a rule asks for it, and gone with the session at the latest. */
export const newIdsFunction = `create or replace function pg_temp.partywall_new_ids(value text) returns text language plpgsql stable as ${dollarQuote(`declare
  found record;
begin
  for found in select distinct m.hit[1] as old, u.new from pg_catalog.regexp_matches(value, '${uuidPattern}', 'g') m (hit)
    join ${uuidMap} u on u.old = m.hit[1]::uuid
  loop
    value := pg_catalog.replace(value, found.old, found.new::text);
  end loop;
  return value;
end`)}`;

/** Joins and expression that fill a column from the staged row `s`. `at` numbers the joins of a statement. */
export function fillSql(table: TableName, { name, type, fill }: ColumnFill, { at, maps, identity }: Filling): Filled {
  const old = `s.${ident(name)}`;
  const plain = (expression: string): Filled => ({ expression, joins: [] });
  const joined = (map: IdMap | undefined, on: string): Filled =>
    map ? { expression: `coalesce(m${at}.new, ${old})`, joins: [`left join ${map.name} m${at} on m${at}.old = ${on}`] } : plain(old);
  switch (fill.kind) {
    case 'kept':
    case 'status':
      return plain(old);
    case 'tenant':
      return plain(`${literal(identity.key ?? '')}::${type}`);
    case 'tenant reference':
      return plain(`case when ${old}::text = ${literal(identity.source)} then ${literal(identity.key ?? '')}::${type} else ${old} end`);
    case 'new':
      return joined(mapOf(maps, table, name), old);
    case 'reference':
      return joined(mapOf(maps, fill.table, fill.column), old);
    case 'profile':
    case 'rule': {
      const map = mapOf(maps, table, name);
      if (map) return joined(map, old);
      if (fill.kind === 'rule' && fill.rule.kind === 'polymorphic') return polymorphic(fill.rule, { name, type, at, maps });
      return plain(madeSql({ name, type, fill }, identity));
    }
  }
}

export interface Filling {
  readonly at: number;
  readonly maps: readonly IdMap[];
  readonly identity: CloneIdentity;
}

export interface Filled {
  readonly expression: string;
  readonly joins: readonly string[];
}

/** The expression that makes a value of its own, from the staged row `s` alone. */
export function madeSql({ name, type, fill }: ColumnFill, identity: CloneIdentity): string {
  const old = `s.${ident(name)}`;
  if (fill.kind === 'new') return fill.expression;
  if (fill.kind === 'rule') return ruleSql(fill.rule, old, type, identity);
  const value = fill.kind === 'profile' ? identity.profile[fill.of] : null;
  return value === null ? old : `${literal(value)}::${type}`;
}

function ruleSql(rule: CloneRule, old: string, type: string, { suffix }: CloneIdentity): string {
  const length = /^character(?: varying)?\((\d+)\)$/.exec(type)?.[1];
  switch (rule.kind) {
    case 'suffix': {
      // Before the @ of an address, so that it stays one.
      const address = `pg_catalog.regexp_replace(${old}::text, '@', '+${suffix}@')`;
      const start = length === undefined ? `${old}::text` : `pg_catalog.left(${old}::text, ${Math.max(0, Number(length) - suffix.length - 1)})`;
      return `(case when ${old}::text like '%_@_%' then ${address} else ${start} || '-${suffix}' end)::${type}`;
    }
    case 'random':
      return type === 'uuid'
        ? 'pg_catalog.gen_random_uuid()'
        : `(case when ${old} is not null then pg_catalog.left(pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''), ${length ?? 32}) end)::${type}`;
    case 'null':
      return `null::${type}`;
    case 'sql':
      return `(${rule.sql})`;
    case 'ids':
      return `pg_temp.partywall_new_ids(${old}::text)::${type}`;
    case 'keep':
    case 'reference':
    case 'polymorphic':
      return old;
  }
}

function polymorphic(
  rule: CloneRule & { readonly kind: 'polymorphic' },
  { name, type, at, maps }: { name: string; type: string; at: number; maps: readonly IdMap[] },
): Filled {
  const old = `s.${ident(name)}`;
  const branches = [...rule.tables].flatMap(([value, table], branch) => {
    const map = maps.find((each) => each.table === table);
    if (!map) return [];
    const here = `s.${ident(rule.by)}::text = ${literal(value)}`;
    const alias = `m${at}_${branch}`;
    // The cast is asked for inside the branch only: other kinds of ids may not be of the type.
    return [{ alias, join: `left join ${map.name} ${alias} on ${here} and ${alias}.old = case when ${here} then ${old}::${map.type} end` }];
  });
  return {
    expression: `coalesce(${[...branches.map(({ alias }) => `${alias}.new::${type}`), old].join(', ')})`,
    joins: branches.map(({ join }) => join),
  };
}
