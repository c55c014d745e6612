import { dollarQuote, literal } from '../../db/sql.ts';
import { type ContextForm, contextUnit } from '../context-sql.ts';

/** `partywall.unit_id()`: the context's unit, NULL where it has none. Inlined, as the tenant is. */
export function unitSql(form: ContextForm): string[] {
  const type = form.unitType ?? 'text';
  return [
    // A function whose type changes has to go first. Its policies went before, with the units of the model.
    `do ${dollarQuote(`begin
  if (select p.prorettype <> ${literal(type)}::pg_catalog.regtype from pg_catalog.pg_proc p where p.oid = pg_catalog.to_regprocedure('partywall.unit_id()')) then
    drop function partywall.unit_id();
  end if;
end`)}`,
    `create or replace function partywall.unit_id() returns ${type} language sql stable parallel safe
return ${contextUnit(form)}`,
  ];
}

/** Policies run with the rights of whoever asks: who may read the tenant may read the unit, also after the function was made anew. */
export const shareUnitSql = `do ${dollarQuote(`declare
  grantee pg_catalog.oid;
begin
  for grantee in
    select a.grantee from pg_catalog.pg_proc p cross join lateral pg_catalog.aclexplode(p.proacl) a
    where p.oid = 'partywall.tenant_id()'::pg_catalog.regprocedure and a.grantee not in (0, p.proowner)
  loop
    execute pg_catalog.format('grant execute on function partywall.unit_id() to %s', grantee::pg_catalog.regrole);
  end loop;
end`)}`;
