import type { Relation } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import { wallStates } from '../../wall/runtime.ts';
import { type AttackResult, type Attempt, broken, held, refused, stuck, verdict } from './attack-result.ts';
import { referenceAttacks } from './reference-attacks.ts';
import { rowAttacks } from './row-attacks.ts';
import { nameOf, type Scene, type TableAttack, tripped, tripwire } from './scene.ts';
import { become, canHold, takeOn } from './transaction.ts';
import { unitAttacks } from './unit-attacks.ts';

/** Every attack on one walled table, in the order of the report. */
export const tableAttacks: readonly TableAttack[] = [
  ...rowAttacks,
  ...referenceAttacks,
  unitAttacks,
  { rules: ['context.none'], run: emptyContext },
  { rules: ['context.garbage'], run: garbageContext },
  { rules: ['context.row-security'], run: rowSecurityOff },
  { rules: ['read.child'], run: readChildren },
  { rules: ['escape.truncate'], run: truncate },
  { rules: ['escape.ddl'], run: changeTable },
];

const lockTimeout = '55P03';
/** TRUNCATE of a table that keys refer to: said after the right to truncate was found. */
const referencedByKeys = '0A000';

/** After any context an unset parameter reads '', so this is what a pooled session without context looks like. */
async function emptyContext(scene: Scene): Promise<AttackResult[]> {
  await become(scene.tx, '');
  const probe = await scene.tx.probe(`select 1 from ${nameOf(scene)} limit 1`);
  return [judgeNoContext(scene.table.relation, probe, 'with an empty context')];
}

/** A row is a hole; silence is one too: jobs that see nothing report success. */
export function judgeNoContext(relation: Relation, probe: Attempt['probe'], how: string): AttackResult {
  const target = relation.table;
  if (probe.ok) {
    return probe.rows.length > 0
      ? broken('context.none', target, `${how} a query shows rows`)
      : broken('context.none', target, `${how} a query shows nothing instead of failing`);
  }
  if (probe.state === wallStates.noContext || probe.state === refused) return held('context.none', target);
  return stuck('context.none', target, `${how}: ${probe.state} ${probe.message}`);
}

async function garbageContext(scene: Scene): Promise<AttackResult[]> {
  const attempts: Attempt[] = [];
  for (const context of ['not a tenant', "' or true --", '%', '0', '-1', 'null']) {
    if (!canHold(scene.tx, context)) continue;
    await takeOn(scene.tx, context);
    // invalid_text_representation, numeric_value_out_of_range, no hexadecimal digits, no UTF-8: no key of the type
    attempts.push({
      what: `context ${JSON.stringify(context)}`,
      probe: await scene.tx.probe(`select 1 from ${nameOf(scene)} limit 1`),
      refusedBy: ['22P02', '22003', '22023', '22021'],
    });
  }
  return [verdict('context.garbage', scene.table.relation.table, attempts)];
}

async function rowSecurityOff(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, table } = scene;
  await become(tx, cast.attacker);
  const set = await tx.keep('set local row_security = off');
  if (!set.ok) return [stuck('context.row-security', table.relation.table, `setting row_security: ${set.state} ${set.message}`)];
  const probe = await tx.probe(`select 1 from ${nameOf(scene)} limit 1`);
  if (probe.ok) return [broken('context.row-security', table.relation.table, 'with row_security off a query succeeds: no policy binds this role here')];
  return [verdict('context.row-security', table.relation.table, [{ what: 'SELECT with row_security off', probe }])];
}

async function readChildren(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, bed, table } = scene;
  const below = (relation: Relation): Relation[] =>
    [...bed.garden.relations.values()].filter((child) => child.parents.includes(relation.table)).flatMap((child) => [child, ...below(child)]);
  await become(tx, cast.nobody);
  const results: AttackResult[] = [];
  for (const child of below(table.relation)) {
    const name = quoted(child.table);
    results.push(
      verdict('read.child', child.table, [
        { what: `SELECT from ${child.table}`, probe: await tx.probe(`select 1 from ${name} limit 1`) },
        {
          what: `blind DELETE from ${child.table}`,
          probe: await tx.probe(`delete from ${name} returning ${tripwire}`),
          reachedBy: [tripped],
        },
      ]),
    );
  }
  return results;
}

async function truncate(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, table } = scene;
  await become(tx, cast.attacker);
  const probe = await tx.probe(`truncate ${nameOf(scene)}`);
  if (probe.ok || probe.state === lockTimeout || probe.state === referencedByKeys) {
    return [broken('escape.truncate', table.relation.table, 'TRUNCATE was not refused', probe.ok ? undefined : `SQLSTATE ${probe.state}`)];
  }
  return [verdict('escape.truncate', table.relation.table, [{ what: 'TRUNCATE', probe }])];
}

async function changeTable(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, table } = scene;
  const target = table.relation.table;
  const name = nameOf(scene);
  await become(tx, cast.attacker);
  const policy = ident(table.policy.name);
  const changes: readonly (readonly [what: string, statement: string])[] = [
    ['DISABLE ROW LEVEL SECURITY', `alter table ${name} disable row level security`],
    ['NO FORCE ROW LEVEL SECURITY', `alter table ${name} no force row level security`],
    ['DROP POLICY', `drop policy ${policy} on ${name}`],
    ['ALTER POLICY', `alter policy ${policy} on ${name} using (true)`],
    ['CREATE POLICY', `create policy "pw probe" on ${name} using (true)`],
    ['DISABLE TRIGGER', `alter table ${name} disable trigger all`],
    ['CREATE TRIGGER', `create trigger "pw probe" before update on ${name} for each row execute function pg_catalog.suppress_redundant_updates_trigger()`],
    ['CREATE RULE', `create rule "pw probe" as on delete to ${name} do also nothing`],
    ['OWNER TO', `alter table ${name} owner to current_user`],
  ];
  for (const [what, statement] of changes) {
    const probe = await tx.probe(statement);
    // Rights are asked before the lock.
    if (probe.ok || probe.state === lockTimeout) return [broken('escape.ddl', target, `${what} was not refused`)];
    if (probe.state !== refused && probe.state !== '42704') return [stuck('escape.ddl', target, `${what}: ${probe.state} ${probe.message}`)];
  }
  return [held('escape.ddl', target)];
}
