import { createHash } from 'node:crypto';
import type pg from 'pg';
import { dollarQuote, ident, literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';

/** What the rows of one table add to the quotas. */
interface CountedTable {
  readonly table: TableName;
  /** The table's tenant column, quoted. */
  readonly tenant: string;
  readonly amounts: readonly { readonly quota: string; readonly kind: 'rows' | 'bytes' /** SQL over a row `r`. */; readonly amount: string }[];
}

/** Prefix of the triggers, and of their functions in `partywall_control`. */
const countPrefix = 'partywall_count';

/**
 * Settings that the text of a row depends on. A row whose size is that of its text must weigh the same when it goes as when it came,
 * whoever sends the statement.
 */
const textSettings = [
  "set datestyle = 'ISO, YMD'",
  "set intervalstyle = 'postgres'",
  "set timezone = 'UTC'",
  'set extra_float_digits = 1',
  "set bytea_output = 'hex'",
  "set xmlbinary = 'base64'",
  "set lc_monetary = 'C'",
];

/**
 * The triggers that count, as the model's quotas have it: on each counted table, and on each partition and child of it, because a statement
 * that names one of those fires its triggers alone. They leave what a statement changed, summed by tenant, in `usage_moves`; the commit
 * settles it. Statement-level with transition tables, so that a thousand rows cost one look and a row that changes its partition or
 * tenant is seen on both sides.
 *
 * A function's name carries a hash of its body, so a table whose quotas changed gets new triggers, and creating one waits for the writers
 * who were counted by the old ones. Triggers that are right are left alone.
 */
export function countingSql(model: TenancyModel): string[] {
  const tables = countedTables(model);
  const functions = tables.map((table) => countFunction(table, rootKey(model)));
  return [
    ...quotaRows(tables),
    countUsageSql(model, tables),
    ...functions.map(({ create }) => create),
    triggersSql(functions),
    dropFunctionsSql(functions.map(({ name }) => name)),
  ];
}

/**
 * Refuses a table that counts by its text and has virtual columns (PostgreSQL 18): what a statement changed does not show them, what is
 * there does, so that the two would never agree.
 *
 * @throws PartywallError model_invalid
 */
export async function refuseVirtualColumns(client: pg.ClientBase, model: TenancyModel): Promise<void> {
  const weighed = [...model.quotas.values()].flatMap((quota) => (quota.kind === 'bytes' ? [...quota.tables].filter(([, column]) => column === '*') : []));
  const { rows } = await client.query<{ name: string }>(
    "select distinct a.attrelid::regclass::text || '.' || quote_ident(a.attname) as name from pg_catalog.pg_attribute a where a.attgenerated = 'v' and a.attrelid = any (select to_regclass(t) from unnest($1::text[]) t) order by 1",
    [weighed.map(([table]) => quoted(table))],
  );
  if (rows.length === 0) return;
  throw new PartywallError('model_invalid', `counting the bytes of rows as text: ${rows.map(({ name }) => name).join(', ')} is virtual`, {
    hint: 'name a column that holds the size instead of *',
  });
}

function countedTables(model: TenancyModel): CountedTable[] {
  const amounts = new Map<TableName, CountedTable['amounts']>();
  const add = (table: TableName, one: CountedTable['amounts'][number]): void => {
    amounts.set(table, [...(amounts.get(table) ?? []), one]);
  };
  for (const [name, quota] of model.quotas) {
    if (quota.kind === 'rows') add(quota.table, { quota: name, kind: 'rows', amount: '1' });
    else for (const [table, column] of quota.tables) add(table, { quota: name, kind: 'bytes', amount: bytes(column) });
  }
  return [...amounts].map(([table, each]) => {
    const rule = model.tables.get(table);
    // parseModel refuses a quota of a table that is not scoped.
    if (rule?.scope !== 'scoped') throw new TypeError(`${table} is counted and not scoped`);
    return { table, tenant: ident(rule.column), amounts: each };
  });
}

/** A size below nothing would make room for others; one that is unknown weighs nothing. */
function bytes(column: string): string {
  return column === '*' ? 'octet_length(r::text)' : `greatest(r.${ident(column)}, 0)::bigint`;
}

/** A quota that is new, or adds up something else than before, is not counted yet. */
function quotaRows(tables: readonly CountedTable[]): string[] {
  const definitions = new Map<string, { kind: string; parts: string[] }>();
  for (const { table, tenant, amounts } of tables) {
    for (const { quota, kind, amount } of amounts) {
      const { parts } = definitions.get(quota) ?? { parts: [] };
      definitions.set(quota, { kind, parts: [...parts, `${table} ${tenant} ${amount}`] });
    }
  }
  const names = ['api_calls', ...definitions.keys()].map(literal);
  return [
    `delete from partywall_control.quotas where name not in (${names.join(', ')})`,
    ...[...definitions].map(
      ([name, { kind, parts }]) => `insert into partywall_control.quotas as q (name, kind, definition)
values (${literal(name)}, ${literal(kind)}, ${literal(parts.join('; '))})
on conflict (name) do update set kind = excluded.kind, definition = excluded.definition, counted = false where q.definition <> excluded.definition`,
    ),
  ];
}

/**
 * What the rows of a tenant add up to now. In the tenant's own context, so that it counts the same where the policies of the tables bind whoever it
 * runs as.
 */
function countUsageSql(model: TenancyModel, tables: readonly CountedTable[]): string {
  const sums = tables.flatMap(({ table, tenant, amounts }) =>
    amounts.map(
      ({ quota, amount }) =>
        `  if quota = ${literal(quota)} then\n    total := total + (select coalesce(sum(${amount}), 0) from ${quoted(table)} r where r.${tenant} = wanted);\n  end if;`,
    ),
  );
  const body = `declare
  wanted ${rootKey(model)}%type := tenant;
  inside text := partywall.set_context(partywall.context_of(wanted));
  total bigint := 0;
begin
${sums.join('\n')}
  perform partywall.set_context(inside);
  return total;
end`;
  return `create or replace function partywall_control.count_usage(tenant text, quota text) returns bigint language plpgsql stable
set search_path = pg_catalog, pg_temp ${textSettings.join(' ')} as ${dollarQuote(body)}`;
}

function rootKey(model: TenancyModel): string {
  return `${quoted(model.tenant.table)}.${ident(model.tenant.key)}`;
}

interface CountFunction {
  readonly table: TableName;
  readonly name: string;
  readonly create: string;
}

/** SECURITY DEFINER: whoever writes a row may not write the moves. The rows are those of the statement, so no policy hides any. */
function countFunction({ table, tenant, amounts }: CountedTable, key: string): CountFunction {
  const columns = (sign: '' | '-'): string => amounts.map(({ amount }, at) => `${sign}(${amount}) as d${at}`).join(', ');
  const side = (rows: string, sign: '' | '-'): string => `select r.${tenant} as tenant, ${columns(sign)} from ${rows} r`;
  const pairs = amounts.map(({ quota }, at) => `(${literal(quota)}, s.d${at})`).join(', ');
  const sums = amounts.map((_, at) => `sum(c.d${at}) as d${at}`).join(', ');
  const leave = (changed: string): string => `insert into partywall_control.usage_moves (tenant_id, quota, delta)
    select s.tenant::text, v.quota, v.delta from (select c.tenant, ${sums} from (${changed}) c where c.tenant is not null group by c.tenant) s
      cross join lateral (values ${pairs}) v (quota, delta) where v.delta <> 0`;
  const truncated = leave(`${side('only \0', '-')} where r.${tenant} = $1`).split('\0');
  const body = `declare
  one text;
  wanted ${key}%type;
  inside text;
begin
  if tg_op = 'INSERT' then
    ${leave(side('came', ''))};
  elsif tg_op = 'DELETE' then
    ${leave(side('gone', '-'))};
  elsif tg_op = 'UPDATE' then
    ${leave(`${side('gone', '-')} union all ${side('came', '')}`)};
  else
    -- TRUNCATE shows no rows. It holds the table against all writers, so that what is there now is what goes; a snapshot from before may
    -- not have it all. It fires for each partition too.
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
      raise exception 'a table that a quota counts is truncated in READ COMMITTED only' using errcode = '0A000';
    end if;
    inside := partywall.set_context('');
    for one in select d.tenant_id from partywall_control.directory d loop
      wanted := one;
      perform partywall.set_context(partywall.context_of(wanted));
      execute ${truncated.map(dollarQuote).join(' || tg_relid::regclass || ')} using wanted;
    end loop;
    perform partywall.set_context(inside);
  end if;
  return null;
end`;
  const settings = amounts.some(({ kind }) => kind === 'bytes') ? textSettings : [];
  const hash = createHash('sha256').update(table).update(body).digest('hex').slice(0, 12);
  const name = `${countPrefix}_${hash}`;
  return {
    table,
    name,
    create: `create or replace function partywall_control.${name}() returns trigger language plpgsql security definer
${['set search_path = pg_catalog, pg_temp', ...settings].join(' ')} as ${dollarQuote(body)}`,
  };
}

/** Drops the triggers that are not wanted any more and creates those that are missing. */
function triggersSql(functions: readonly CountFunction[]): string {
  const wanted = functions.map(({ table, name }) => `(${literal(quoted(table))}, ${literal(name)})`);
  const list = wanted.length === 0 ? 'select null::text, null::text where false' : `values ${wanted.join(', ')}`;
  return `do ${dollarQuote(`declare
  change text;
begin
  for change in
    with recursive wanted (root, function) as (${list}),
    member (relation, function) as (
      select root::regclass::oid, function from wanted
      union
      select i.inhrelid, m.function from member m join pg_inherits i on i.inhparent = m.relation
    ),
    event (name, spec) as (values
      ('insert', 'after insert on %s referencing new table as came'),
      ('delete', 'after delete on %s referencing old table as gone'),
      ('update', 'after update on %s referencing old table as gone new table as came'),
      ('truncate', 'before truncate on %s')
    ),
    live as (
      select t.tgname as name, t.tgrelid as relation, p.proname as function
      from pg_trigger t join pg_proc p on p.oid = t.tgfoid
      where p.pronamespace = 'partywall_control'::regnamespace and starts_with(p.proname, '${countPrefix}_')
    )
    select format('drop trigger %I on %s', l.name, l.relation::regclass) from live l
    where not exists (select from member m where m.relation = l.relation and m.function = l.function)
    union all
    select format('create trigger %I %s for each statement execute function partywall_control.%I()',
      'zz_${countPrefix}_' || e.name || '_' || right(m.function, 12), format(e.spec, m.relation::regclass), m.function)
    from member m cross join event e
    where not exists (select from live l where l.relation = m.relation and l.function = m.function and l.name like '%\\_' || e.name || '\\_%')
  loop
    execute change;
  end loop;
end`)}`;
}

function dropFunctionsSql(kept: readonly string[]): string {
  return `do ${dollarQuote(`declare
  gone regprocedure;
begin
  for gone in select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'partywall_control'::regnamespace and starts_with(p.proname, '${countPrefix}_')
      and p.proname <> all (array[${kept.map(literal).join(', ')}]::text[])
  loop
    execute format('drop function %s', gone);
  end loop;
end`)}`;
}
