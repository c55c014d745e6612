import { dollarQuote, literal } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted } from '../../model/table-name.ts';

/**
 * On while a tenant is being restored, for the transaction. Triggers of the application fire as ever, so one that sends mail or writes an
 * outbox asks for it: `current_setting('partywall.restoring', true) = 'on'`.
 */
export const restoringSetting = 'partywall.restoring';

/** Triggers of one event fire in the order of their names: one before all others, one after them. */
const firstTrigger = '!partywall_keep_row';
const lastTrigger = '~partywall_keep_row';

/**
 * What a restore needs in the database.
 *
 * The two triggers keep a restored row as it was exported, whatever the application's BEFORE triggers make of it (`updated_at := now()`
 * foremost): the first remembers it, the last brings it back. For the service role alone, so that the application cannot get around its own
 * triggers by the setting, and for the restore's own statements alone: what a trigger writes goes by all rules. Other writers pay for
 * two conditions per row.
 *
 * `raise_sequence` makes a sequence go on beyond a number and never takes it back. It is the owner's, because `setval` needs more than
 * the right to draw numbers.
 */
export function restoringSql(model: TenancyModel): string[] {
  const scoped = [...model.tables].flatMap(([table, rule]) => (rule.scope === 'scoped' ? [table] : []));
  const when = `pg_catalog.current_setting('${restoringSetting}', true) = 'on' and pg_catalog.pg_trigger_depth() = 0 and pg_catalog.pg_has_role(session_user, ${literal(model.roles.service)}, 'member')`;
  return [
    `create or replace function partywall_control.keep_row() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as ${dollarQuote(keepRowBody)}`,
    `create or replace function partywall_control.raise_sequence(name regclass, minimum bigint) returns void language plpgsql security definer
set search_path = pg_catalog, pg_temp as ${dollarQuote(raiseSequenceBody)}`,
    ...[model.tenant.table, ...scoped].flatMap((table) =>
      [firstTrigger, lastTrigger].map(
        (name) =>
          `create or replace trigger "${name}" before insert or update on ${quoted(table)} for each row when (${when}) execute function partywall_control.keep_row('${name === firstTrigger ? 'first' : 'last'}')`,
      ),
    ),
  ];
}

const keepRowBody = `declare
  slot text := 'partywall.kept_' || tg_relid;
begin
  if tg_argv[0] = 'first' then
    perform set_config(slot, new::text, true);
  elsif new::text is distinct from current_setting(slot) then
    execute format('select ($1::%s).*', tg_relid::regclass) using current_setting(slot) into new;
  end if;
  return new;
end`;

/** Near the number it draws one by one: between reading the last number and setting another nobody can draw a thousand. */
const raiseSequenceBody = `declare
  step bigint := (select s.seqincrement from pg_sequence s where s.seqrelid = name);
  reached bigint;
  drawn boolean;
begin
  if step is null or step < 0 then
    return;
  end if;
  execute format('select s.last_value, s.is_called from %s s', name) into reached, drawn;
  if reached < minimum and (minimum - reached) / step > 1000 then
    reached := setval(name, minimum);
    drawn := true;
  end if;
  while reached < minimum or (reached = minimum and not drawn) loop
    reached := nextval(name);
    drawn := true;
  end loop;
end`;
