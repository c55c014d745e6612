import { dollarQuote, ident, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';

/**
 * Lets the functions of the control plane end the sessions that a fence finds inside a tenant. Where the installing role may not grant that,
 * the fence says so when it meets one.
 *
 * @param owner of the control plane's functions
 */
export function mayEndSessions(owner: string): string {
  const grant = `grant pg_signal_backend to ${ident(owner)}`;
  return `do ${dollarQuote(`begin
  if not exists (select from pg_catalog.pg_roles where rolname = ${literal(owner)} and rolsuper)
     and not pg_catalog.pg_has_role(${literal(owner)}, 'pg_signal_backend', 'usage') then
    ${grant};
  end if;
exception when insufficient_privilege then
  raise notice 'the owner of the control plane may not end sessions' using hint = ${literal(grant)};
end`)}`;
}

/** Rows that were taken aside belong to tenants too, so an erasure must reach them. */
export function lifecycleSql(model: TenancyModel): string[] {
  const grant = `grant select, delete on partywall.quarantine to ${ident(model.roles.service)}`;
  return [`do ${dollarQuote(`begin if pg_catalog.to_regclass('partywall.quarantine') is not null then ${grant}; end if; end`)}`];
}
