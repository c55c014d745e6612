import { dollarQuote, literal } from '../../db/sql.ts';
import { addressOf, type Draft, identityOf, isFree, isOurs, type Reading, type Rows } from './draft.ts';

/** Text search, publications, event triggers, settings of the database; and everything that no statement is made for. */
export async function readOthers(rows: Rows): Promise<Reading> {
  return {
    drafts: [...(await textSearch(rows)), ...(await publications(rows)), ...(await eventTriggers(rows)), ...(await settings(rows))],
    unsupported: (await rows<{ line: string }>(unsupportedSql)).map(({ line }) => line),
  };
}

async function textSearch(rows: Rows): Promise<Draft[]> {
  const dictionaries = await rows<{ oid: number; id: string; statement: string }>(
    `select d.oid, ${identityOf('pg_ts_dict', 'd.oid')} as id, format('create text search dictionary %I.%I (template = %I.%I%s)', n.nspname, d.dictname, tn.nspname, t.tmplname,
    ', ' || nullif(d.dictinitoption, '')) as statement
from pg_catalog.pg_ts_dict d join pg_catalog.pg_namespace n on n.oid = d.dictnamespace join pg_catalog.pg_ts_template t on t.oid = d.dicttemplate
join pg_catalog.pg_namespace tn on tn.oid = t.tmplnamespace where ${isOurs('n')} and ${isFree('pg_ts_dict', 'd.oid')}`,
  );
  const configurations = await rows<{ oid: number; id: string; name: string; parser: string; mappings: string[] }>(
    `select c.oid, ${identityOf('pg_ts_config', 'c.oid')} as id, format('%I.%I', n.nspname, c.cfgname) as name, format('%I.%I', pn.nspname, p.prsname) as parser,
  array(select format('alter text search configuration %I.%I add mapping for %I with %s', n.nspname, c.cfgname, k.alias,
      string_agg(m.mapdict::regdictionary::text, ', ' order by m.mapseqno))
    from pg_catalog.pg_ts_config_map m join pg_catalog.ts_token_type(c.cfgparser) k on k.tokid = m.maptokentype
    where m.mapcfg = c.oid group by k.tokid, k.alias order by k.tokid) as mappings
from pg_catalog.pg_ts_config c join pg_catalog.pg_namespace n on n.oid = c.cfgnamespace join pg_catalog.pg_ts_parser p on p.oid = c.cfgparser
join pg_catalog.pg_namespace pn on pn.oid = p.prsnamespace where ${isOurs('n')} and ${isFree('pg_ts_config', 'c.oid')}`,
  );
  return [
    ...dictionaries.map(({ oid, id, statement }): Draft => ({ id, kind: 'text search', statements: [statement], makes: [addressOf('pg_ts_dict', oid)] })),
    ...configurations.map(
      ({ oid, id, name, parser, mappings }): Draft => ({
        id,
        kind: 'text search',
        statements: [`create text search configuration ${name} (parser = ${parser})`, ...mappings],
        makes: [addressOf('pg_ts_config', oid)],
      }),
    ),
  ];
}

async function publications(rows: Rows): Promise<Draft[]> {
  const found = await rows<{
    oid: number;
    id: string;
    name: string;
    allTables: boolean;
    viaRoot: boolean;
    whole: Record<string, unknown>;
    parts: string[];
    tables: number[];
  }>(
    `select p.oid, ${identityOf('pg_publication', 'p.oid')} as id, quote_ident(p.pubname) as name, p.puballtables as "allTables", p.pubviaroot as "viaRoot", to_jsonb(p) as whole,
  array(select concat(format('table only %s', r.prrelid::regclass),
      (select ' (' || string_agg(quote_ident(a.attname), ', ' order by a.attnum) || ')' from pg_catalog.pg_attribute a
        where a.attrelid = r.prrelid and a.attnum = any (r.prattrs)), ' where (' || pg_catalog.pg_get_expr(r.prqual, r.prrelid) || ')')
    from pg_catalog.pg_publication_rel r where r.prpubid = p.oid order by r.prrelid::regclass::text)
  || array(select format('tables in schema %I', n.nspname) from pg_catalog.pg_publication_namespace s join pg_catalog.pg_namespace n on n.oid = s.pnnspid
    where s.pnpubid = p.oid order by n.nspname) as parts,
  array(select r.prrelid from pg_catalog.pg_publication_rel r where r.prpubid = p.oid) as tables
from pg_catalog.pg_publication p`,
  );
  return found.map(({ oid, id, name, allTables, viaRoot, whole, parts, tables }) => {
    const published = ['insert', 'update', 'delete', 'truncate'].filter((operation) => whole[`pub${operation}`] === true);
    const options = [
      `publish = ${literal(published.join(', '))}`,
      ...(viaRoot ? ['publish_via_partition_root = true'] : []),
      ...(whole['pubgencols'] === 's' ? ['publish_generated_columns = stored'] : []),
    ];
    const what = allTables ? ' for all tables' : parts.length > 0 ? ` for ${parts.join(', ')}` : '';
    return {
      id,
      kind: 'publication',
      statements: [`create publication ${name}${what} with (${options.join(', ')})`],
      makes: [addressOf('pg_publication', oid)],
      needs: tables.map((table) => addressOf('pg_class', table)),
    };
  });
}

async function eventTriggers(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; definition: string; change: string | null }>(
    `select e.oid, ${identityOf('pg_event_trigger', 'e.oid')} as id,
  format('create event trigger %I on %s%s execute function %s', e.evtname, e.evtevent,
    (select ' when tag in (' || string_agg(quote_literal(t), ', ') || ')' from unnest(e.evttags) t), e.evtfoid::regproc || '()') as definition,
  case e.evtenabled when 'D' then 'disable' when 'R' then 'enable replica' when 'A' then 'enable always' end as change, quote_ident(e.evtname) as name
from pg_catalog.pg_event_trigger e where ${isFree('pg_event_trigger', 'e.oid')}`,
  );
  return found.map(({ oid, id, definition, change }) => ({
    id,
    kind: 'event trigger',
    statements: [definition, ...(change === null ? [] : [`alter ${id} ${change}`])],
    makes: [addressOf('pg_event_trigger', oid)],
  }));
}

/** Of the database, and of roles in it; the name of the database is that of the one they are given to. */
async function settings(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ role: string | null; name: string; value: string }>(
    `select pg_catalog.pg_get_userbyid(nullif(s.setrole, 0)) as role, split_part(c, '=', 1) as name, substr(c, strpos(c, '=') + 1) as value
from pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c
where s.setdatabase = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())`,
  );
  return found.map(({ role, name, value }) => {
    const who =
      role === null
        ? `format('alter database %I', pg_catalog.current_database())`
        : `format('alter role %I in database %I', ${literal(role)}, pg_catalog.current_database())`;
    // The value is written as it is kept: a list of names is kept quoted.
    const isList = /^(search_path|temp_tablespaces|session_preload_libraries|local_preload_libraries|shared_preload_libraries|unix_socket_directories)$/i.test(
      name,
    );
    const given = isList ? `${literal(value === '' ? "''" : value)}` : `pg_catalog.quote_literal(${literal(value)})`;
    const body = `begin execute ${who} || ${literal(` set ${name} to `)} || ${given}; end`;
    return { id: `setting ${name} of ${role ?? 'the database'}`, kind: 'setting', statements: [`do ${dollarQuote(body)}`], makes: [] };
  });
}

/** Everything else that a database can hold: objects that are ours, of catalogs that nothing above reads. */
const unsupportedSql = `select line from (
  select format('%s %s is not made', i.type, i.identity) as line from (
    select 'pg_opclass'::regclass as class, o.oid from pg_catalog.pg_opclass o
    union all select 'pg_opfamily'::regclass, o.oid from pg_catalog.pg_opfamily o
    union all select 'pg_conversion'::regclass, o.oid from pg_catalog.pg_conversion o
    union all select 'pg_language'::regclass, o.oid from pg_catalog.pg_language o
    union all select 'pg_am'::regclass, o.oid from pg_catalog.pg_am o
    union all select 'pg_transform'::regclass, o.oid from pg_catalog.pg_transform o
    union all select 'pg_ts_parser'::regclass, o.oid from pg_catalog.pg_ts_parser o
    union all select 'pg_ts_template'::regclass, o.oid from pg_catalog.pg_ts_template o
    union all select 'pg_foreign_data_wrapper'::regclass, o.oid from pg_catalog.pg_foreign_data_wrapper o
    union all select 'pg_foreign_server'::regclass, o.oid from pg_catalog.pg_foreign_server o
    union all select 'pg_class'::regclass, o.oid from pg_catalog.pg_class o where o.relkind = 'f'
    union all select 'pg_type'::regclass, o.oid from pg_catalog.pg_type o
      where o.typtype = 'b' and o.typelem = 0 or o.typtype = 'p' and o.oid >= 16384 or exists (select from pg_catalog.pg_range r where r.rngtypid = o.oid and r.rngcanonical <> 0)
  ) x, pg_catalog.pg_identify_object(x.class, x.oid, 0) i
  where x.oid >= 16384 and not exists (select from pg_catalog.pg_depend e where e.classid = x.class and e.objid = x.oid and e.deptype = 'e')
  union all
  select format('the security label of %s %s is not set', i.type, i.identity) from pg_catalog.pg_seclabel l, pg_catalog.pg_identify_object(l.classoid, l.objoid, l.objsubid) i
  union all
  select format('privileges of %s %s, which comes with an extension, were changed and are not', i.type, i.identity)
  from (select 'pg_class'::regclass as class, c.oid, c.relacl as acl from pg_catalog.pg_class c
    union all select 'pg_proc'::regclass, p.oid, p.proacl from pg_catalog.pg_proc p) x
  join pg_catalog.pg_depend e on e.classid = x.class and e.objid = x.oid and e.deptype = 'e'
  left join pg_catalog.pg_init_privs v on v.classoid = x.class and v.objoid = x.oid and v.objsubid = 0,
    pg_catalog.pg_identify_object(x.class, x.oid, 0) i
  where x.acl is distinct from v.initprivs
) lines order by line`;
