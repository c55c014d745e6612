import { ident, literal } from '../../db/sql.ts';
import { contextOf, plainSetting, protectedSetting } from '../../wall/context-sql.ts';
import { entering } from '../../wall/entering.ts';
import { type AttackResult, broken, held, notApplicable, stuck } from './attack-result.ts';
import type { Cast } from './scene.ts';
import { become, enter, type Means, type Transaction } from './transaction.ts';

/** What names another tenant, if it can: statements that follow each other, whatever becomes of each. */
interface Way {
  readonly what: string;
  readonly statements: readonly { readonly text: string; readonly values?: readonly unknown[] }[];
}

/** Sets the context past entering. Where anybody may set it that is no news: verify names the residual. */
export async function setContextByHand(tx: Transaction, { cast, means, app }: { cast: Cast; means: Means; app: string }): Promise<AttackResult> {
  const target = `setting ${protectedSetting}`;
  if (!means.form.isProtected) return notApplicable('escape.context', target, 'the context is in a setting that any role may set');
  const context = literal(contextOf(means.form, cast.victim));
  const set = `pg_catalog.set_config('${protectedSetting}', ${context}, true)`;
  const texts = {
    'set_config()': `select ${set}`,
    'set_config() for the session': `select pg_catalog.set_config('${protectedSetting}', ${context}, false)`,
    'SET LOCAL': `set local ${protectedSetting} = ${context}`,
    SET: `set ${protectedSetting} = ${context}`,
    'a DO block': `do ${literal(`begin perform ${set}; end`)}`,
    'a function with a setting': `create function pg_temp.pw_context() returns text language sql set ${protectedSetting} = ${context} as 'select partywall.tenant_id()::text'`,
    'an update of pg_settings': `update pg_catalog.pg_settings set setting = ${context} where name = '${protectedSetting}'`,
    'a default of the role': `alter role ${ident(app)} set ${protectedSetting} = ${context}`,
    'a default of the database': `do ${literal(`begin execute format('alter database %I set ${protectedSetting} = %L', current_database(), ${context}); end`)}`,
    'the plain setting': `select pg_catalog.set_config('${plainSetting}', ${context}, true), pg_catalog.set_config('${plainSetting}', ${literal(cast.victim)}, true)`,
    'the owner’s function': `select partywall.set_context(${context})`,
    'a stand-in of its own': `select partywall.stand_in(${context}, extract(epoch from now())::bigint + 30, sha256(''))`,
  };
  const ways = Object.entries(texts).map(([what, text]): Way => ({ what, statements: [{ text }] }));
  return firstThatNames(tx, { rule: 'escape.context', target, cast, ways: [...ways, ...ways.map(afterReset)] });
}

/** Enters the victim without its seal, or with one that is not good. The control is that the genuine one is taken. */
export async function enterWithoutSeal(tx: Transaction, { cast, means }: { cast: Cast; means: Means }): Promise<AttackResult> {
  const target = 'the seal';
  if (!means.sealed) return notApplicable('escape.seal', target, 'the database is not sealed');
  const control = await tx.undone(() => enter(tx, cast.victim));
  if (!control.ok) return stuck('escape.seal', target, `control, entering with a seal: ${control.state} ${control.message}`);
  const own = await entering(means.admin, cast.attacker);
  const genuine = await entering(means.admin, cast.victim);
  const mac = genuine.values.at(-1);
  const flipped = mac instanceof Buffer ? Buffer.from(mac.map((byte, at) => (at === 31 ? byte ^ 1 : byte))) : mac;
  const [, unit, key, expires] = genuine.values;
  const sealed = (values: readonly unknown[]): Way['statements'] => [{ text: genuine.text, values }];
  const victim = literal(cast.victim);
  const ways: Way[] = [
    { what: 'partywall.enter', statements: [{ text: `select partywall.enter(${victim})` }] },
    { what: 'partywall.enter_since', statements: [{ text: `select partywall.enter_since(${victim}, null)` }] },
    { what: 'partywall.enter_unit', statements: [{ text: `select partywall.enter_unit(${victim}, null, null)` }] },
    { what: 'a seal of another tenant', statements: sealed([cast.victim, ...own.values.slice(1)]) },
    { what: 'a seal with a flipped bit', statements: sealed([cast.victim, unit, key, expires, flipped]) },
    { what: 'a seal made to last longer', statements: sealed([cast.victim, unit, key, String(Number(expires) + 30), mac]) },
    { what: 'a seal with a unit put in', statements: sealed([cast.victim, 'x', key, expires, mac]) },
    { what: 'a seal of nothing', statements: sealed([cast.victim, unit, key, expires, null]) },
    { what: 'a seal of no key', statements: sealed([cast.victim, unit, null, expires, mac]) },
    { what: 'a seal of an unknown key', statements: sealed([cast.victim, unit, 2_147_483_647, expires, mac]) },
    { what: 'a seal of its own making', statements: [{ text: `select partywall.make_seal(${victim})` }] },
    {
      what: 'a DO block',
      statements: [
        { text: `do ${literal(`begin perform partywall.enter(${victim}); exception when others then perform partywall.enter_since(${victim}, 0); end`)}` },
      ],
    },
  ];
  return firstThatNames(tx, { rule: 'escape.seal', target, cast, ways: [...ways, ...ways.map(afterReset)] });
}

/** The same once the session is in no tenant any more, which anybody can bring about. */
function afterReset({ what, statements }: Way): Way {
  return { what: `${what}, after RESET ALL`, statements: [{ text: 'reset all' }, ...statements] };
}

async function firstThatNames(
  tx: Transaction,
  { rule, target, cast, ways }: { rule: 'escape.context' | 'escape.seal'; target: string; cast: Cast; ways: readonly Way[] },
): Promise<AttackResult> {
  // A standing context is a finding of its own; here it would only be in the way.
  await become(tx, '');
  const entered = await enter(tx, cast.attacker);
  if (!entered.ok) return stuck(rule, target, `control, entering the attacker’s own tenant: ${entered.state} ${entered.message}`);
  for (const { what, statements } of ways) {
    const now = await tx.undone(async () => {
      for (const { text, values } of statements) await tx.keep(text, values);
      // What was made may be the way in by itself.
      const made = await tx.probe('select pg_temp.pw_context() as tenant');
      const probe = await tx.probe('select partywall.tenant_id()::text as tenant');
      return [made, probe].map((one) => (one.ok ? one.rows[0]?.['tenant'] : undefined));
    });
    if (now.includes(cast.victim)) return broken(rule, target, `by ${what} the application named another tenant`);
  }
  return held(rule, target);
}
