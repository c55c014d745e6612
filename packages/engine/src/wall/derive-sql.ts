import type { Catalog } from '../catalog/catalog.ts';
import { dollarQuote, ident } from '../db/sql.ts';
import type { Path, ScopedRule, TenancyModel, TenantRoot } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { wallName } from './names.ts';
import type { WantedTable, WantedWall } from './shape.ts';

/**
 * How rows that do not name their tenant get one while the old application still writes: a BEFORE trigger reads it from the
 * parent. SECURITY DEFINER, because the writer of a child need not be able to read the parent; contract drops them all.
 */
export function deriveTrigger(table: WantedTable, rule: ScopedRule, wanted: WantedWall): { name: string; statements: string[] } {
  const name = wallName('derive', table.relation.name, table.relation.schema);
  const column = ident(table.column);
  const keys = [...new Set(rule.paths.flatMap((path) => path.columns))];
  const moved = keys.map((key) => `old.${ident(key)} is distinct from new.${ident(key)}`).join(' or ');
  const body = `begin
  if tg_op = 'UPDATE' and new.${column} is not distinct from old.${column} and (${moved}) then
    new.${column} := null;
  end if;
  if new.${column} is null then
    new.${column} := ${tenantByPaths(rule.paths, 'new', wanted)};
  end if;
  return new;
end`;
  return {
    name,
    statements: [
      `create or replace function partywall.${ident(name)}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(body)}`,
      `revoke all on function partywall.${ident(name)}() from public`,
      `create or replace trigger ${ident(name)} before insert or update of ${[table.column, ...keys].map(ident).join(', ')} on ${quoted(table.relation.table)}
  for each row execute function partywall.${ident(name)}()`,
    ],
  };
}

/** The tenant of a row by the first path that leads to one; `row` is the SQL name of the row. */
export function tenantByPaths(paths: readonly Path[], row: string, wanted: WantedWall): string {
  const each = paths.map((path) => {
    const target = wanted.tables.get(path.table);
    const on = path.columns.map((column, at) => `p.${ident(path.references[at] ?? '')} = ${row}.${ident(column)}`).join(' and ');
    return `(select p.${ident(target?.column ?? '')} from ${quoted(path.table)} p where ${on} limit 1)`;
  });
  return each.length === 1 ? (each[0] ?? 'null') : `coalesce(${each.join(', ')})`;
}

/**
 * For a table that owns nothing but is owned through a reference to it (order.settings_id → settings): the row exists before the
 * one that owns it, so the owner hands its tenant down when it refers to it.
 */
export function adoptTriggers(
  table: WantedTable,
  rule: ScopedRule,
  catalog: Catalog,
  wanted: WantedWall,
): { name: string; on: TableName; statements: string[] }[] {
  return rule.paths.flatMap((path) => {
    const owner = wanted.tables.get(path.table);
    const isReverse = catalog.relations
      .get(path.table)
      ?.constraints.some(({ foreign, columns }) => foreign?.table === table.relation.table && columns.join() === path.references.join());
    if (!owner || !isReverse) return [];
    const name = wallName('adopt', owner.relation.name, owner.relation.schema, table.relation.table, ...path.references);
    const on = path.columns.map((column, at) => `t.${ident(column)} = new.${ident(path.references[at] ?? '')}`).join(' and ');
    const body = `begin
  update ${quoted(table.relation.table)} t set ${ident(table.column)} = new.${ident(owner.column)} where ${on} and t.${ident(table.column)} is null;
  return null;
end`;
    return {
      name,
      on: path.table,
      statements: [
        `create or replace function partywall.${ident(name)}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(body)}`,
        `revoke all on function partywall.${ident(name)}() from public`,
        `create or replace trigger ${ident(name)} after insert or update of ${path.references.map(ident).join(', ')} on ${quoted(path.table)}
  for each row execute function partywall.${ident(name)}()`,
      ],
    };
  });
}

export const registerTriggerName = 'partywall_register';

/** Tenants register themselves in the transaction that creates them; the root's own status column moves their state. */
export function registerTrigger(root: TenantRoot): string[] {
  const key = ident(root.key);
  const table = quoted(root.table);
  const status = root.status;
  const stateOf = (row: string) => (status ? stateCase(`${row}.${ident(status.column)}`, status.values) : "'active'");
  const body = `begin
  if tg_op = 'DELETE' then
    delete from partywall.tenants where tenant_id = old.${key};
    return null;
  end if;
  if tg_op = 'INSERT' then
    insert into partywall.tenants (tenant_id, state) values (new.${key}, ${stateOf('new')}) on conflict (tenant_id) do nothing;
    return null;
  end if;
  if new.${key} is distinct from old.${key} then
    update partywall.tenants set tenant_id = new.${key} where tenant_id = old.${key};
  end if;
  if ${stateOf('new')} is distinct from ${stateOf('old')} then
    update partywall.tenants set state = ${stateOf('new')} where tenant_id = new.${key};
  end if;
  return null;
end`;
  return [
    `create or replace function partywall.register_tenant() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(body)}`,
    'revoke all on function partywall.register_tenant() from public',
    `create or replace trigger ${registerTriggerName} after insert or delete or update of ${[root.key, ...(status ? [status.column] : [])].map(ident).join(', ')} on ${table}
  for each row execute function partywall.register_tenant()`,
    `insert into partywall.tenants (tenant_id, state) select r.${key}, ${stateOf('r')} from ${table} r where r.${key} is not null on conflict (tenant_id) do nothing`,
  ];
}

function stateCase(value: string, values: Readonly<Record<string, string>>): string {
  const cases = Object.entries(values).map(([from, to]) => `when ${quoteText(from)} then ${quoteText(to)}`);
  return cases.length === 0 ? "'active'" : `(case ${value}::text ${cases.join(' ')} else 'active' end)`;
}

function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

export const eventTriggerName = 'partywall_new_tables';

/**
 * Tomorrow's tables: a table made after contract is closed to the application until the model knows it, and a new partition of a
 * walled table gets its parent's policy in the statement that creates it.
 */
export function eventTrigger(model: TenancyModel): string[] {
  const closed = `public, ${ident(model.roles.app)}`;
  const schemas = model.schemas.map(quoteText).join(', ');
  const body = `declare
  made record;
  wall record;
begin
  for made in select c.objid, c.object_identity, c.command_tag from pg_event_trigger_ddl_commands() c
    where c.command_tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE FOREIGN TABLE', 'CREATE MATERIALIZED VIEW')
      and c.object_type in ('table', 'foreign table', 'materialized view') and c.schema_name in (${schemas}) and not c.in_extension
  loop
    execute format('revoke all on table %s from ${closed.replaceAll("'", "''").replaceAll('%', '%%')}', made.object_identity);
    continue when made.command_tag in ('CREATE FOREIGN TABLE', 'CREATE MATERIALIZED VIEW');
    execute format('alter table %s enable row level security', made.object_identity);
    select p.polname, pg_get_expr(p.polqual, p.polrelid) as body into wall from pg_inherits i join pg_policy p on p.polrelid = i.inhparent
      where i.inhrelid = made.objid and p.polname like 'partywall\\_%' limit 1;
    if found then
      execute format('create policy %I on %s using (%s) with check (%s)', wall.polname, made.object_identity, wall.body, wall.body);
      execute format('alter table %s force row level security', made.object_identity);
    else
      raise notice 'partywall: % is not in the tenancy model yet, so the application cannot use it', made.object_identity
        using hint = 'run partywall init --update, then partywall apply';
    end if;
  end loop;
end`;
  return [
    `create or replace function partywall.new_tables() returns event_trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(body)}`,
    'revoke all on function partywall.new_tables() from public',
    `drop event trigger if exists ${eventTriggerName}`,
    `create event trigger ${eventTriggerName} on ddl_command_end when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE FOREIGN TABLE', 'CREATE MATERIALIZED VIEW') execute function partywall.new_tables()`,
  ];
}
