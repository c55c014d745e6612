import { dollarQuote, ident, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';

/** Plan of a tenant that came by itself and whose root row names none that exists. */
const defaultPlan = 'free';

/**
 * Triggers that keep the directory with the registry: whoever registers a tenant, Partywall or the application, it is listed; a state that
 * the application's own status column sets is the directory's too. `read_only` and `fenced` are of the wall alone.
 *
 * The application cannot let in again what the lifecycle deleted, nor delete what is under a legal hold. A tenant that it deletes by itself
 * takes its memberships and API keys along: another tenant of the same key must not inherit them.
 */
export function directorySql(model: TenancyModel): string[] {
  const { table, key, profile } = model.tenant;
  const column = (name: string | undefined): string => (name === undefined ? 'null' : `r.${ident(name)}::text`);
  const body = `begin
  if tg_op = 'DELETE' then
    if exists (select from partywall_control.directory d where d.tenant_id = old.tenant_id::text and d.hold_reason is not null) then
      raise exception 'the tenant is under a legal hold' using errcode = 'restrict_violation', hint = 'lift the hold first: partywall tenants unhold';
    end if;
    delete from partywall_people."organization" o where o."id" = old.tenant_id::text;
    delete from partywall_people."apikey" k where k."referenceId" = old.tenant_id::text;
    delete from partywall_control.directory d where d.tenant_id = old.tenant_id::text and d.status <> 'erasing';
    return null;
  end if;
  if tg_op = 'INSERT' then
    insert into partywall_control.directory (tenant_id, name, contact_email, plan, status)
    select new.tenant_id::text, coalesce(${column(profile.name)}, new.tenant_id::text), ${column(profile.contactEmail)},
      coalesce((select p.name from partywall_control.plans p where p.name = ${column(profile.plan)}), ${literal(defaultPlan)}),
      case new.state when 'suspended' then 'suspended' when 'cancelled' then 'cancelled' else 'active' end
    from ${quoted(table)} r where r.${ident(key)} = new.tenant_id
    on conflict (tenant_id) do nothing;
    return null;
  end if;
  if new.state in ('active', 'read_only') and exists (
    select from partywall_control.directory d where d.tenant_id = new.tenant_id::text and d.status in ('deleted', 'erasing')
  ) then
    raise exception 'the tenant is deleted' using errcode = 'restrict_violation', hint = 'restore it first: partywall tenants restore';
  end if;
  update partywall_control.directory d set status = new.state, status_changed_at = now()
  where d.tenant_id = new.tenant_id::text and new.state in ('active', 'suspended', 'cancelled') and new.state <> old.state
    and d.status in ('active', 'suspended', 'cancelled') and d.status <> new.state;
  return null;
end`;
  return [
    `create or replace function partywall_control.list_tenant() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as ${dollarQuote(body)}`,
    'create or replace trigger list_tenant after insert or update or delete on partywall.registry for each row execute function partywall_control.list_tenant()',
    `insert into partywall_control.directory (tenant_id, name, contact_email, plan, status)
select g.tenant_id::text, coalesce(${column(profile.name)}, g.tenant_id::text), ${column(profile.contactEmail)},
  coalesce((select p.name from partywall_control.plans p where p.name = ${column(profile.plan)}), ${literal(defaultPlan)}),
  case g.state when 'suspended' then 'suspended' when 'cancelled' then 'cancelled' else 'active' end
from partywall.registry g left join ${quoted(table)} r on r.${ident(key)} = g.tenant_id
on conflict (tenant_id) do nothing`,
  ];
}
