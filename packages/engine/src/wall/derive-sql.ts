import type { Catalog, EventTrigger } from '../catalog/catalog.ts';
import { dollarQuote, ident, literal } from '../db/sql.ts';
import type { Path, ScopedRule, TenancyModel, TenantRoot } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { contextTenant } from './context-sql.ts';
import { lastTriggerName, wallName } from './names.ts';
import type { WantedTable, WantedWall } from './shape.ts';
import { sameSet } from './shape-keys.ts';

/** A trigger of expand, as it must be found in the catalog. */
export interface WantedTrigger {
  /** Of the trigger, and of its function in schema `partywall`. */
  readonly name: string;
  readonly function: string;
  readonly on: TableName;
  readonly body: string;
  readonly statements: readonly string[];
}

/** Whether the trigger is there, enabled, and does what it must. */
export function isInstalled(trigger: WantedTrigger, catalog: Catalog): boolean {
  const live = catalog.relations.get(trigger.on)?.triggers.find(({ name }) => name === trigger.name);
  const routine = catalog.runtime?.functions.find(({ name }) => name === trigger.function);
  return live !== undefined && live.enabled !== 'disabled' && routine?.source === trigger.body;
}

/**
 * How rows that do not name their tenant get one while the old application still writes: a BEFORE trigger reads it from the
 * parent, and where no parent says it, from the context, in which the application already is between switch and contract. A row
 * that loses its parent (SET NULL) keeps its tenant. SECURITY DEFINER, because the writer of a child need not be able to read
 * the parent. It fires after the application's own triggers and on every update, because these may set the columns it reads.
 * Contract drops it.
 */
export function deriveTrigger(table: WantedTable, rule: ScopedRule, wanted: WantedWall, bootstrap: string | undefined): WantedTrigger {
  const parts = [table.relation.name, table.relation.schema];
  const column = ident(table.column);
  const keys = [...new Set(rule.paths.flatMap((path) => path.columns))];
  const moved = keys.map((key) => `old.${ident(key)} is distinct from new.${ident(key)}`).join(' or ');
  const parents = tenantByPaths(rule.paths, 'new', wanted);
  const body = `begin
  if tg_op = 'UPDATE' and new.${column} is not distinct from old.${column} and (${moved}) then
    new.${column} := coalesce(${parents}, old.${column});
  end if;
  if new.${column} is null then
    new.${column} := coalesce(${[parents, contextTenant(wanted.context), ...(bootstrap === undefined ? [] : [bootstrap])].join(', ')});
  end if;
  return new;
end`;
  return trigger({
    name: lastTriggerName('derive', ...parts),
    function: wallName('derive', ...parts),
    on: table.relation.table,
    body,
    event: 'before insert or update',
  });
}

/** The tenant of a row by the first path that leads to one, NULL where none does; `row` is the SQL name of the row. */
export function tenantByPaths(paths: readonly Path[], row: string, wanted: WantedWall): string {
  const each = paths.map((path) => {
    const column = `p.${ident(wanted.tables.get(path.table)?.column ?? '')}`;
    const on = path.columns.map((column, at) => `p.${ident(path.references[at] ?? '')} = ${row}.${ident(column)}`).join(' and ');
    return `(select ${column} from ${quoted(path.table)} p where ${on} and ${column} is not null limit 1)`;
  });
  return each.length === 0 ? 'null' : each.join(', ');
}

/**
 * For a table that owns nothing but is owned through a reference to it (order.settings_id → settings): the row exists before the
 * one that owns it, so the owner hands its tenant down when it refers to it.
 */
export function adoptTriggers(table: WantedTable, rule: ScopedRule, wanted: WantedWall): WantedTrigger[] {
  return rule.paths.flatMap((path) => {
    const owner = wanted.tables.get(path.table);
    // The reference is the same with the tenant in it, which contract adds.
    const isReverse = owner?.relation.constraints.some(
      ({ foreign, columns }) =>
        foreign?.table === table.relation.table && sameSet([...new Set([owner.column, ...columns])], [owner.column, ...path.references]),
    );
    if (!owner || !isReverse) return [];
    const name = wallName('adopt', owner.relation.name, owner.relation.schema, table.relation.table, ...path.references);
    const on = path.columns.map((column, at) => `t.${ident(column)} = new.${ident(path.references[at] ?? '')}`).join(' and ');
    const body = `begin
  update ${quoted(table.relation.table)} t set ${ident(table.column)} = new.${ident(owner.column)} where ${on} and t.${ident(table.column)} is null;
  return null;
end`;
    return trigger({ name, function: name, on: path.table, body, event: 'after insert or update' });
  });
}

function trigger({ event, ...wanted }: Omit<WantedTrigger, 'statements'> & { event: string }): WantedTrigger {
  const routine = `partywall.${ident(wanted.function)}()`;
  return {
    ...wanted,
    statements: [
      `create or replace function ${routine} returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(wanted.body)}`,
      `revoke all on function ${routine} from public`,
      `create or replace trigger ${ident(wanted.name)} ${event} on ${quoted(wanted.on)} for each row execute function ${routine}`,
    ],
  };
}

export const registerTriggerName = 'partywall_register';
/** TRUNCATE fires no row trigger, and a tenant that is gone must not stay admitted. */
export const truncateTriggerName = 'partywall_register_truncate';

/**
 * Tenants register themselves in the transaction that creates them; the root's own status column moves their state. The trigger
 * fires on every update, because a trigger of the application may change the status in an update of something else.
 */
export function registerTrigger(root: TenantRoot): string[] {
  const key = ident(root.key);
  const table = quoted(root.table);
  const status = root.status;
  const stateOf = (row: string) => (status ? stateCase(`${row}.${ident(status.column)}`, status.values) : "'active'");
  const body = `begin
  if tg_op = 'TRUNCATE' then
    delete from partywall.registry;
    return null;
  end if;
  if tg_op = 'DELETE' then
    delete from partywall.registry where tenant_id = old.${key};
    return null;
  end if;
  if tg_op = 'INSERT' then
    insert into partywall.registry (tenant_id, state) values (new.${key}, ${stateOf('new')}) on conflict (tenant_id) do nothing;
    return null;
  end if;
  if new.${key} is distinct from old.${key} then
    update partywall.registry set tenant_id = new.${key} where tenant_id = old.${key};
  end if;
  if ${stateOf('new')} is distinct from ${stateOf('old')} then
    update partywall.registry set state = ${stateOf('new')} where tenant_id = new.${key};
  end if;
  return null;
end`;
  return [
    `create or replace function partywall.register_tenant() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(body)}`,
    'revoke all on function partywall.register_tenant() from public',
    `create or replace trigger ${registerTriggerName} after insert or delete or update on ${table} for each row execute function partywall.register_tenant()`,
    `create or replace trigger ${truncateTriggerName} after truncate on ${table} for each statement execute function partywall.register_tenant()`,
    // A tenant that the application's status keeps out is not let in because the registry is installed again.
    `insert into partywall.registry as t (tenant_id, state) select r.${key}, ${stateOf('r')} from ${table} r where r.${key} is not null
on conflict (tenant_id) do update set state = excluded.state where t.state = 'active' and excluded.state <> 'active'`,
  ];
}

function stateCase(value: string, values: Readonly<Record<string, string>>): string {
  const cases = Object.entries(values).map(([from, to]) => `when ${literal(from)} then ${literal(to)}`);
  return cases.length === 0 ? "'active'" : `(case ${value}::text ${cases.join(' ')} else 'active' end)`;
}

export const eventTriggerName = 'partywall_new_tables';

const newTableEvent = 'ddl_command_end';
const newTableTags = ['CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE FOREIGN TABLE', 'IMPORT FOREIGN SCHEMA', 'CREATE MATERIALIZED VIEW'];

/** Source of the function behind the event trigger; another one in the catalog was installed for another model. */
function eventTriggerBody(model: TenancyModel): string {
  return `declare
  made record;
  wall record;
begin
  for made in select c.objid, c.object_identity, c.schema_name, r.relkind from pg_event_trigger_ddl_commands() c join pg_class r on r.oid = c.objid
    where c.classid = 'pg_class'::regclass and r.relkind in ('r', 'p', 'f', 'm') and not c.in_extension
      and c.command_tag in (${newTableTags.map(literal).join(', ')})
  loop
    select p.polname, pg_get_expr(p.polqual, p.polrelid) as body into wall from pg_inherits i join pg_policy p on p.polrelid = i.inhparent
      where i.inhrelid = made.objid and p.polname like 'partywall\\_%' limit 1;
    continue when not found and made.schema_name not in (${model.schemas.map(literal).join(', ')});
    execute format('revoke all on table %s from public, %I', made.object_identity, ${literal(model.roles.app)});
    continue when made.relkind in ('f', 'm');
    execute format('alter table %s enable row level security', made.object_identity);
    if wall.polname is not null then
      execute format('create policy %I on %s using (%s) with check (%s)', wall.polname, made.object_identity, wall.body, wall.body);
      execute format('alter table %s force row level security', made.object_identity);
    else
      raise notice 'partywall: % is not in the tenancy model yet, so the application cannot use it', made.object_identity
        using hint = 'run partywall init --update, then partywall apply';
    end if;
  end loop;
end`;
}

/** Whether the trigger closes new tables, as far as its own definition says. */
export function closesNewTables({ name, function: routine, event, enabled, tags }: EventTrigger): boolean {
  const fires = enabled === 'origin' || enabled === 'always';
  return name === eventTriggerName && routine === 'partywall.new_tables' && event === newTableEvent && fires && sameSet(tags, newTableTags);
}

/**
 * Tomorrow's tables: a table made after contract is closed to the application until the model knows it, and a new partition of a
 * walled table, in whatever schema, gets its parent's policy in the statement that creates it.
 */
export function eventTrigger(model: TenancyModel): string[] {
  return [
    `create or replace function partywall.new_tables() returns event_trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(eventTriggerBody(model))}`,
    'revoke all on function partywall.new_tables() from public',
    `drop event trigger if exists ${eventTriggerName}`,
    `create event trigger ${eventTriggerName} on ${newTableEvent} when tag in (${newTableTags.map(literal).join(', ')}) execute function partywall.new_tables()`,
  ];
}
