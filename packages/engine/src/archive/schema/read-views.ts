import { addressOf, type Draft, identityOf, isFree, isOurs, type Reading, type Rows } from './draft.ts';

/** Views, rules, triggers, policies and row security. */
export async function readViews(rows: Rows): Promise<Reading> {
  const { drafts, unsupported = [] } = await views(rows);
  return { drafts: [...drafts, ...(await rules(rows)), ...(await triggers(rows)), ...(await policies(rows)), ...(await tableSettings(rows))], unsupported };
}

interface ViewRow {
  readonly oid: number;
  readonly type: number;
  readonly rule: number;
  readonly id: string;
  readonly name: string;
  readonly kind: 'v' | 'm';
  readonly options: readonly string[];
  readonly method: string | null;
  readonly columns: readonly string[];
  readonly empty: readonly string[];
  readonly definition: string;
  readonly populated: boolean;
  /** Materialised views whose rows it reads, through other views too. */
  readonly reads: readonly { readonly oid: number; readonly populated: boolean }[];
}

async function views(rows: Rows): Promise<Reading> {
  const found = await rows<ViewRow>(
    `select c.oid, c.reltype as type, r.oid as rule, ${identityOf('pg_class', 'c.oid')} as id, format('%I.%I', n.nspname, c.relname) as name, c.relkind as kind,
  coalesce(c.reloptions, '{}') as options, case when m.amname <> 'heap' then quote_ident(m.amname) end as method,
  array(select quote_ident(a.attname) from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum) as columns,
  array(select format('null::%s%s as %I', pg_catalog.format_type(a.atttypid, a.atttypmod),
      case when a.attcollation <> t.typcollation then ' collate ' || a.attcollation::regcollation else '' end, a.attname)
    from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid where a.attrelid = c.oid and a.attnum > 0 order by a.attnum) as empty,
  regexp_replace(pg_catalog.pg_get_viewdef(c.oid), ';\\s*$', '') as definition, c.relispopulated as populated,
  case when c.relkind = 'm' then (
    with recursive below as (
      select c.oid union select d.refobjid from below b join pg_catalog.pg_rewrite w on w.ev_class = b.oid
      join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_catalog.pg_class'::regclass)
    select coalesce(json_agg(json_build_object('oid', x.oid::bigint, 'populated', x.relispopulated) order by x.oid), '[]')
    from below b join pg_catalog.pg_class x on x.oid = b.oid and x.relkind = 'm' and x.oid <> c.oid) else '[]' end as reads
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_rewrite r on r.ev_class = c.oid and r.rulename = '_RETURN' left join pg_catalog.pg_am m on m.oid = c.relam
where c.relkind in ('v', 'm') and c.relpersistence <> 't' and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  const isStale = ({ populated, reads }: ViewRow): boolean => populated && reads.some((other) => !other.populated);
  const drafts = found.flatMap((view): Draft[] => {
    const { oid, type, rule, id, name, kind, options, method, columns, empty, definition, populated, reads } = view;
    const address = addressOf('pg_class', oid);
    const makes = [address, addressOf('pg_type', type), addressOf('pg_rewrite', rule)];
    const settings = options.length === 0 ? '' : ` with (${options.join(', ')})`;
    const head = `${name} (${columns.join(', ')})`;
    if (kind === 'v') {
      const stub = [`create view ${head} as select ${empty.join(', ')}`];
      return [{ id, kind: 'view', statements: [`create or replace view ${head}${settings} as\n${definition}`], makes, part: address, stub }];
    }
    const using = method === null ? '' : ` using ${method}`;
    const made: Draft = {
      id,
      kind: 'view',
      statements: [`create materialized view ${head}${using}${settings} as\n${definition}\nwith no data`],
      makes,
      part: address,
    };
    // Filled at the end, when whoever owns it may read what it reads.
    const filled: Draft = {
      id: `rows of ${id}`,
      kind: 'refresh',
      statements: [`refresh materialized view ${name}`],
      makes: [`filled ${oid}`],
      needs: [address, ...reads.map((other) => `filled ${other.oid}`)],
      part: address,
    };
    return populated && !isStale(view) ? [made, filled] : [made];
  });
  return { drafts, unsupported: found.filter(isStale).map(({ id }) => `${id} is left empty: it reads one that is empty`) };
}

const enabled = { O: 'enable', D: 'disable', R: 'enable replica', A: 'enable always' } as const;

async function rules(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; relation: number; id: string; table: string; name: string; definition: string; enabled: keyof typeof enabled }>(
    `select r.oid, r.ev_class as relation, ${identityOf('pg_rewrite', 'r.oid')} as id, r.ev_class::regclass::text as table, quote_ident(r.rulename) as name,
  pg_catalog.pg_get_ruledef(r.oid) as definition, r.ev_enabled as enabled
from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where r.rulename <> '_RETURN' and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  return found.map((rule) => ({
    id: rule.id,
    kind: 'rule',
    statements: [rule.definition.replace(/;$/, ''), ...(rule.enabled === 'O' ? [] : [`alter table ${rule.table} ${enabled[rule.enabled]} rule ${rule.name}`])],
    makes: [addressOf('pg_rewrite', rule.oid)],
    part: addressOf('pg_class', rule.relation),
  }));
}

async function triggers(rows: Rows): Promise<Draft[]> {
  const found = await rows<{
    oid: number;
    relation: number;
    parent: number;
    id: string;
    table: string;
    name: string;
    definition: string;
    enabled: keyof typeof enabled;
    differs: boolean;
  }>(
    `select t.oid, t.tgrelid as relation, t.tgparentid as parent, ${identityOf('pg_trigger', 't.oid')} as id, t.tgrelid::regclass::text as table,
  quote_ident(t.tgname) as name, pg_catalog.pg_get_triggerdef(t.oid) as definition, t.tgenabled as enabled,
  t.tgenabled <> coalesce(p.tgenabled, 'O') as differs
from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_trigger p on p.oid = t.tgparentid
where not t.tgisinternal and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  // A partition's copy comes with its parent's, and may be switched by itself.
  return found
    .filter(({ parent, differs }) => parent === 0 || differs)
    .map((trigger) => ({
      id: trigger.id,
      kind: 'trigger',
      statements: [
        ...(trigger.parent === 0 ? [trigger.definition] : []),
        // ONLY, because on a partitioned table it would reach the partitions too.
        ...(trigger.differs ? [`alter table only ${trigger.table} ${enabled[trigger.enabled]} trigger ${trigger.name}`] : []),
      ],
      makes: [addressOf('pg_trigger', trigger.oid)],
      needs: trigger.parent === 0 ? [] : [addressOf('pg_trigger', trigger.parent)],
      part: addressOf('pg_class', trigger.relation),
    }));
}

async function policies(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; relation: number; id: string; definition: string }>(
    `select p.oid, p.polrelid as relation, ${identityOf('pg_policy', 'p.oid')} as id,
  concat(format('create policy %I on %s as %s for %s to %s', p.polname, p.polrelid::regclass, case when p.polpermissive then 'permissive' else 'restrictive' end,
      case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
      (select string_agg(case when o = 0 then 'public' else quote_ident(pg_catalog.pg_get_userbyid(o)) end, ', ' order by o = 0 desc, pg_catalog.pg_get_userbyid(o))
        from unnest(p.polroles) o)),
    ' using (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', ' with check (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')') as definition
from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  return found.map(({ oid, relation, id, definition }) => ({
    id,
    kind: 'policy',
    statements: [definition],
    makes: [addressOf('pg_policy', oid)],
    part: addressOf('pg_class', relation),
  }));
}

/** Row security, and which columns tell a row apart to a replica. */
async function tableSettings(rows: Rows): Promise<Draft[]> {
  const found = await rows<{ oid: number; id: string; statements: string[]; index: number | null }>(
    `select c.oid, ${identityOf('pg_class', 'c.oid')} as id, i.indexrelid as index, array_remove(array[
    case when c.relrowsecurity then format('alter table %s enable row level security', c.oid::regclass) end,
    case when c.relforcerowsecurity then format('alter table only %s force row level security', c.oid::regclass) end,
    case c.relreplident when 'f' then format('alter table only %s replica identity full', c.oid::regclass)
      when 'n' then format('alter table only %s replica identity nothing', c.oid::regclass)
      when 'i' then (select format('alter table only %s replica identity using index %I', c.oid::regclass, x.relname) from pg_catalog.pg_class x where x.oid = i.indexrelid)
    end], null) as statements
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisreplident
where c.relkind in ('r', 'p') and (c.relrowsecurity or c.relforcerowsecurity or c.relreplident <> 'd') and c.relpersistence <> 't'
  and ${isOurs('n')} and ${isFree('pg_class', 'c.oid')}`,
  );
  return found
    .filter(({ statements }) => statements.length > 0)
    .map(({ oid, id, statements, index }) => ({
      id: `row security of ${id}`,
      kind: 'row security',
      statements,
      makes: [],
      needs: [addressOf('pg_class', oid), ...(index === null ? [] : [addressOf('pg_class', index)])],
      part: addressOf('pg_class', oid),
    }));
}
