import { columnOf } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { wallStates } from '../../wall/runtime.ts';
import { type AttackResult, broken, held, stuck } from './attack-result.ts';
import { typed } from './plant.ts';
import { nameOf, type Scene, type TableAttack } from './scene.ts';
import { become, enter } from './transaction.ts';

/** Attacks by what a session keeps or makes for itself. One table stands for all: they are about the helper, not about a policy. */
export const shadowAttacks: readonly TableAttack[] = [
  { rules: ['session.prepared'], run: preparedAcrossTenants },
  { rules: ['escape.shadow'], run: shadowNames },
];

/** A plan that was made for one tenant, without values in it, run for another. */
async function preparedAcrossTenants(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const target = table.relation.table;
  const name = ident(`pw verify ${cast.nobody.slice(0, 8)}`);
  await become(tx, cast.victim);
  await tx.keep('set local plan_cache_mode = force_generic_plan');
  const prepared = await tx.keep(`prepare ${name} as select 1 from ${nameOf(scene)} where ${mine.where}`);
  if (!prepared.ok) return [stuck('session.prepared', target, `preparing: ${prepared.state} ${prepared.message}`)];
  try {
    const control = await tx.probe(`execute ${name}`);
    if (!control.ok || control.rows.length !== 1)
      return [stuck('session.prepared', target, 'control: the prepared statement does not find the tenant’s own row')];
    await become(tx, cast.attacker);
    const probe = await tx.probe(`execute ${name}`);
    if (!probe.ok) return [stuck('session.prepared', target, `executing as another tenant: ${probe.state} ${probe.message}`)];
    return [
      probe.rows.length === 0 ? held('session.prepared', target) : broken('session.prepared', target, 'a plan prepared as one tenant gave its rows to another'),
    ];
  } finally {
    // Prepared statements are not undone by a rollback.
    await tx.keep(`deallocate ${name}`);
  }
}

/** Temporary tables, functions and operators under the names that policies and `enter` use, first in the search path. */
async function shadowNames(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const { relation } = table;
  const target = relation.table;
  const keyType = columnOf(relation, table.column)?.type ?? 'text';
  await become(tx, cast.attacker);
  const statements = [
    `create temporary table ${ident(relation.name)} as select ${typed(cast.victim, columnOf(relation, table.column))} as ${ident(table.column)}`,
    `create temporary table registry as select ${literal(cast.nobody)}::${keyType} as tenant_id, 'active'::text as state, null::text as placement`,
    `create function pg_temp.tenant_id() returns ${keyType} language sql stable as ${literal(`select ${literal(cast.victim)}::${keyType}`)}`,
    `create function pg_temp.current_setting(text, boolean) returns text language sql stable as ${literal(`select ${literal(cast.victim)}::text`)}`,
    `create function pg_temp.always(${keyType}, ${keyType}) returns boolean language sql immutable as 'select true'`,
    `create operator pg_temp.= (leftarg = ${keyType}, rightarg = ${keyType}, function = pg_temp.always)`,
    `create function pg_temp.differs(text, text) returns boolean language sql immutable as 'select false'`,
    'create operator pg_temp.<> (leftarg = text, rightarg = text, function = pg_temp.differs)',
  ];
  let made = 0;
  for (const statement of statements) if ((await tx.keep(statement)).ok) made += 1;
  // Without the right to make any of them there is nothing to be fooled by.
  if (made === 0) return [held('escape.shadow', target)];
  await tx.keep('set local search_path = pg_temp, public, pg_catalog');
  const read = await tx.probe(`select 1 from ${nameOf(scene)} where ${mine.where}`);
  if (!read.ok) return [stuck('escape.shadow', target, `reading under other names: ${read.state} ${read.message}`)];
  const all = await tx.probe(
    `select 1 from ${nameOf(scene)} t where t.${ident(table.column)} operator(pg_catalog.=) ${typed(cast.victim, columnOf(relation, table.column))} limit 1`,
  );
  if (read.rows.length > 0 || (all.ok && all.rows.length > 0))
    return [broken('escape.shadow', target, 'under temporary names rows of another tenant were shown')];
  await become(tx, '');
  const entered = await tx.undone(() => enter(tx, cast.nobody));
  if (entered.ok) return [broken('escape.shadow', 'partywall.enter', 'under temporary names an unknown tenant was admitted')];
  return [
    entered.state === wallStates.unknownTenant
      ? held('escape.shadow', target)
      : stuck('escape.shadow', target, `entering an unknown tenant under other names: ${entered.state} ${entered.message}`),
  ];
}
