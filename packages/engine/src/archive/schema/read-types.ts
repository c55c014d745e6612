import { literal } from '../../db/sql.ts';
import { addressOf, type Draft, identityOf, isFree, isOurs, type Reading, type Rows } from './draft.ts';

/** Schemas, extensions, collations and types: what everything else stands on. */
export async function readTypes(rows: Rows): Promise<Reading> {
  const drafts = [
    ...(await schemas(rows)),
    ...(await extensions(rows)),
    ...(await collations(rows)),
    ...(await enums(rows)),
    ...(await composites(rows)),
    ...(await domains(rows)),
    ...(await ranges(rows)),
  ];
  return { drafts };
}

async function schemas(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; name: string; quoted: string }>(
    `select n.oid, ${identityOf('pg_namespace', 'n.oid')} as id, n.nspname as name, quote_ident(n.nspname) as quoted
from pg_catalog.pg_namespace n where ${isOurs('n')} and ${isFree('pg_namespace', 'n.oid')}`,
  );
  const made = found.map(
    ({ oid, id, quoted }): Draft => ({
      id,
      kind: 'schema',
      // Every new database has `public`.
      statements: [`create schema if not exists ${quoted}`],
      makes: [addressOf('pg_namespace', oid)],
    }),
  );
  const isPublic = found.some(({ name }) => name === 'public');
  return isPublic ? made : [...made, { id: 'schema public', kind: 'schema', statements: ['drop schema if exists public'], makes: [] }];
}

async function extensions(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; name: string; schema: string | null }>(
    `select x.oid, ${identityOf('pg_extension', 'x.oid')} as id, quote_ident(x.extname) as name,
  case when ${isFree('pg_namespace', 'n.oid')} then quote_ident(n.nspname) end as schema
from pg_catalog.pg_extension x join pg_catalog.pg_namespace n on n.oid = x.extnamespace where x.oid >= 16384`,
  );
  return found.map(({ oid, id, name, schema }) => ({
    id,
    kind: 'extension',
    statements: [`create extension if not exists ${name}${schema === null ? '' : ` with schema ${schema}`}`],
    makes: [addressOf('pg_extension', oid)],
  }));
}

async function collations(rows: Rows): Promise<Draft[]> {
  // The name of the locale's column and the rules differ between versions.
  const found = await rows<{ oid: number; id: string; name: string; provider: string; deterministic: boolean; whole: Record<string, string | null> }>(
    `select c.oid, ${identityOf('pg_collation', 'c.oid')} as id, format('%I.%I', n.nspname, c.collname) as name, c.collprovider as provider,
  c.collisdeterministic as deterministic, to_jsonb(c) as whole
from pg_catalog.pg_collation c join pg_catalog.pg_namespace n on n.oid = c.collnamespace
where ${isOurs('n')} and ${isFree('pg_collation', 'c.oid')}`,
  );
  return found.map(({ oid, id, name, provider, deterministic, whole }) => {
    const locale = whole['colllocale'] ?? whole['colliculocale'];
    const options = [
      `provider = ${{ c: 'libc', i: 'icu', b: 'builtin' }[provider] ?? literal(provider)}`,
      ...(deterministic ? [] : ['deterministic = false']),
      ...(locale
        ? [`locale = ${literal(locale)}`]
        : [`lc_collate = ${literal(whole['collcollate'] ?? '')}`, `lc_ctype = ${literal(whole['collctype'] ?? '')}`]),
      ...(whole['collicurules'] ? [`rules = ${literal(whole['collicurules'])}`] : []),
    ];
    return { id, kind: 'collation', statements: [`create collation ${name} (${options.join(', ')})`], makes: [addressOf('pg_collation', oid)] };
  });
}

async function enums(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; name: string; labels: string[] }>(
    `${typeColumns}, array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = t.oid order by e.enumsortorder) as labels
${typeTables} and t.typtype = 'e'`,
  );
  return found.map(({ oid, id, name, labels }) => ({
    id,
    kind: 'type',
    statements: [`create type ${name} as enum (${labels.map(literal).join(', ')})`],
    makes: [addressOf('pg_type', oid)],
  }));
}

async function composites(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; relation: number; id: string; name: string; attributes: string[] }>(
    `${typeColumns}, t.typrelid as relation,
  array(select format('%I %s%s', a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
      case when a.attcollation <> b.typcollation then ' collate ' || a.attcollation::regcollation else '' end)
    from pg_catalog.pg_attribute a join pg_catalog.pg_type b on b.oid = a.atttypid
    where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum) as attributes
${typeTables} and t.typtype = 'c' and exists (select from pg_catalog.pg_class c where c.oid = t.typrelid and c.relkind = 'c')`,
  );
  return found.map(({ oid, relation, id, name, attributes }) => ({
    id,
    kind: 'type',
    statements: [`create type ${name} as (${attributes.join(', ')})`],
    makes: [addressOf('pg_type', oid), addressOf('pg_class', relation)],
  }));
}

async function domains(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; name: string; base: string; fallback: string | null; collation: string | null } & Constraints>(
    `${typeColumns}, pg_catalog.format_type(t.typbasetype, t.typtypmod) as base, t.typdefault as fallback, t.typnotnull as "notNull",
  case when t.typcollation <> b.typcollation then t.typcollation::regcollation::text end as collation,
  coalesce((select json_agg(json_build_object('oid', k.oid, 'kind', k.contype, 'name', quote_ident(k.conname), 'validated', k.convalidated,
    'definition', pg_catalog.pg_get_constraintdef(k.oid)) order by k.conname) from pg_catalog.pg_constraint k where k.contypid = t.oid), '[]') as constraints
${typeTables.replace('where', 'join pg_catalog.pg_type b on b.oid = t.typbasetype where')} and t.typtype = 'd'`,
  );
  return found.map(({ oid, id, name, base, fallback, collation, notNull, constraints }) => {
    const checks = constraints.filter(({ kind, validated }) => kind === 'c' && validated);
    const named = constraints.find(({ kind }) => kind === 'n');
    const unproven = constraints.filter(({ kind, validated }) => kind === 'c' && !validated);
    const parts = [
      `create domain ${name} as ${base}`,
      ...(collation === null ? [] : [`collate ${collation}`]),
      ...(fallback === null ? [] : [`default ${fallback}`]),
      ...(notNull ? [named ? `constraint ${named.name} not null` : 'not null'] : []),
      ...checks.map((check) => `constraint ${check.name} ${check.definition}`),
    ];
    return {
      id,
      kind: 'type',
      statements: [parts.join(' '), ...unproven.map((check) => `alter domain ${name} add constraint ${check.name} ${check.definition}`)],
      makes: [addressOf('pg_type', oid), ...constraints.map((constraint) => addressOf('pg_constraint', constraint.oid))],
    };
  });
}

interface Constraints {
  readonly notNull: boolean;
  readonly constraints: readonly { oid: number; kind: string; name: string; validated: boolean; definition: string }[];
}

async function ranges(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; multirange: number; id: string; name: string; options: string[] }>(
    `${typeColumns}, r.rngmultitypid as multirange, array_remove(array[
    'subtype = ' || pg_catalog.format_type(r.rngsubtype, null),
    (select format('subtype_opclass = %I.%I', s.nspname, o.opcname) from pg_catalog.pg_opclass o join pg_catalog.pg_namespace s on s.oid = o.opcnamespace
      where o.oid = r.rngsubopc),
    case when r.rngcollation <> 0 then 'collation = ' || r.rngcollation::regcollation end,
    case when r.rngsubdiff <> 0 then 'subtype_diff = ' || r.rngsubdiff::regproc end,
    (select format('multirange_type_name = %I.%I', s.nspname, m.typname) from pg_catalog.pg_type m join pg_catalog.pg_namespace s on s.oid = m.typnamespace
      where m.oid = r.rngmultitypid)], null) as options
${typeTables.replace('where', 'join pg_catalog.pg_range r on r.rngtypid = t.oid where')} and r.rngcanonical = 0`,
  );
  return found.map(({ oid, multirange, id, name, options }) => ({
    id,
    kind: 'type',
    statements: [`create type ${name} as range (${options.join(', ')})`],
    makes: [addressOf('pg_type', oid), addressOf('pg_type', multirange)],
  }));
}

const typeColumns = `select t.oid, ${identityOf('pg_type', 't.oid')} as id, format('%I.%I', n.nspname, t.typname) as name`;
const typeTables = `from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace where ${isOurs('n')} and ${isFree('pg_type', 't.oid')}`;
