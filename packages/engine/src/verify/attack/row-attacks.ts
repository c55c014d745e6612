import { columnOf } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { AttackRuleId } from '../rules/rules.ts';
import { type AttackResult, type Attempt, broken, constraintStates, notApplicable, refused, stuck, verdict } from './attack-result.ts';
import { asDraft, columnValue, type Draft, insertText, typed, uniqueColumnsOf } from './plant.ts';
import { nameOf, type Scene, type TableAttack, tenantOf, tripped, tripwire } from './scene.ts';
import { become, type Probe } from './transaction.ts';

/** Reading and writing rows of another tenant, by key and blindly. */
export const rowAttacks: readonly TableAttack[] = [
  { rules: ['read.rows'], run: readRows },
  { rules: ['write.update'], run: (scene) => changeRows(scene, 'write.update') },
  { rules: ['write.delete'], run: (scene) => changeRows(scene, 'write.delete') },
  { rules: ['write.insert'], run: insertForAnother },
  { rules: ['write.null-tenant'], run: insertForNobody },
  { rules: ['write.move'], run: moveRow },
  { rules: ['write.upsert'], run: upsert },
];

const copyRefused = '0A000';
/** The client ends a COPY that the server would have taken. */
const copyAccepted = '57014';

async function readRows(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const target = table.relation.table;
  const name = nameOf(scene);
  const tenant = `${tenantOf(scene)} = ${typed(cast.victim, columnOf(table.relation, table.column))}`;
  await become(tx, cast.attacker);
  const attempts: Attempt[] = [
    { what: 'SELECT by key', probe: await tx.probe(`select 1 from ${name} where ${mine.where}`) },
    { what: 'SELECT by tenant', probe: await tx.probe(`select 1 from ${name} where ${tenant} limit 1`) },
    { what: 'SELECT FOR UPDATE', probe: await tx.probe(`select 1 from ${name} where ${mine.where} for update`) },
  ];
  await become(tx, cast.nobody);
  attempts.push(
    { what: 'SELECT count(*)', probe: await tx.probe(`select count(*)::text as n from ${name}`), reached: ({ rows }) => Number(rows[0]?.['n'] ?? 0) },
    { what: 'COPY TO', probe: await tx.probe(`copy (select 1 from ${name} limit 1) to stdout`) },
  );
  return [verdict('read.rows', target, attempts)];
}

async function changeRows(scene: Scene, rule: 'write.update' | 'write.delete'): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const target = table.relation.table;
  const name = nameOf(scene);
  const same = `${tenantOf(scene)} = ${tenantOf(scene)}`;
  const statement = rule === 'write.update' ? `update ${name} set ${same}` : `delete from ${name}`;
  // A column that is read, even to be written back, asks the policies of SELECT as well.
  const blind = rule === 'write.update' ? `update ${name} set ${tenantOf(scene)} = ${typed(cast.nobody, columnOf(table.relation, table.column))}` : statement;
  const verb = rule === 'write.update' ? 'UPDATE' : 'DELETE';
  if (scene.planted) {
    await become(tx, cast.victim);
    const control = await tx.probe(`${statement} where ${mine.where}`);
    if (!control.ok && control.state === refused && /permission denied/.test(control.message))
      return [notApplicable(rule, target, `the application may not ${verb} here`)];
    if (!control.ok) return [stuck(rule, target, `control, the tenant's own ${verb}: ${control.state} ${control.message}`)];
    if (control.count !== 1) return [stuck(rule, target, `control, the tenant's own ${verb}: it reached ${control.count} rows`)];
  }
  const before = await rowText(scene);
  if (before === undefined) return [stuck(rule, target, 'control: the tenant does not see its own row')];
  const unchanged = await tx.undone(async () => {
    await become(tx, cast.attacker);
    await tx.keep(`${statement} where ${mine.where}`);
    return (await rowText(scene)) === before;
  });
  if (!unchanged) return [broken(rule, target, `${verb} by key changed a row of another tenant`)];
  await become(tx, cast.attacker);
  const matched = rule === 'write.update' ? `update set ${same}` : 'delete';
  const attempts: Attempt[] = [
    { what: `${verb} by key`, probe: await tx.probe(`${statement} where ${mine.where}`) },
    {
      what: 'MERGE',
      probe: await tx.probe(`merge into ${name} using (select 1 as "pw one") "pw source" on ${mine.where} when matched then ${matched}`),
    },
  ];
  await become(tx, cast.nobody);
  attempts.push({ what: `blind ${verb}`, probe: await tx.probe(`${blind} returning ${tripwire}`), reachedBy: [tripped] });
  return [verdict(rule, target, attempts)];
}

/** The victim's row as the victim sees it, and where it lies: a row that was written in any way lies elsewhere. */
async function rowText({ tx, cast, mine, table }: Scene): Promise<string | undefined> {
  await become(tx, cast.victim);
  const columns = ['ctid', ...table.relation.columns.map((column) => `${ident(column.name)}::text`)].join(', ');
  const probe = await tx.probe(`select row(${columns})::text as body from ${quoted(table.relation.table)} where ${mine.where}`);
  return probe.ok ? (probe.rows[0]?.['body'] ?? undefined) : undefined;
}

/** Without RETURNING, which would ask the policies of SELECT too and so hide a weak WITH CHECK. */
async function insertForAnother(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, table } = scene;
  const rule: AttackRuleId = 'write.insert';
  const row = await freshCopy(scene);
  const insert = await insertAs(scene, cast.attacker, row);
  await become(tx, cast.attacker);
  const columns = table.relation.columns.filter((column) => !column.generated).map((column) => ident(column.name));
  const copy = await tx.probe(`copy ${nameOf(scene)} (${columns.join(', ')}) from stdin`);
  return [
    verdict(rule, table.relation.table, [
      // A trigger of the application may have put the row where it belongs: then the victim does not have it.
      { what: 'INSERT for another tenant', probe: insert.probe, reached: () => (insert.victimHasIt ? 1 : 0), reachedBy: ['23505', '23P01'] },
      { what: 'COPY FROM', probe: copy, refusedBy: [copyRefused], reachedBy: [copyAccepted] },
    ]),
  ];
}

async function insertForNobody(scene: Scene): Promise<AttackResult[]> {
  const { cast, table } = scene;
  if (table.rule === undefined) return [];
  const row = (await freshCopy(scene)).set(table.column, 'null');
  const { probe, victimHasIt } = await insertAs(scene, cast.victim, row);
  return [
    verdict('write.null-tenant', table.relation.table, [
      // Filled in by a default or trigger it is the tenant's own row; otherwise it is nobody's.
      { what: 'INSERT without a tenant', probe, refusedBy: ['23502'], reached: () => (victimHasIt ? 0 : 1) },
    ]),
  ];
}

/** Inserts in one tenant's context, in place of the victim's row, and asks the victim whether it has it. */
async function insertAs(scene: Scene, tenant: string, row: Draft): Promise<{ probe: Probe; victimHasIt: boolean }> {
  const { tx, table, cast } = scene;
  const primary = table.relation.constraints.find((constraint) => constraint.kind === 'primary');
  const keyed = primary?.columns.map((column) => `${ident(column)} = ${row.get(column) ?? 'null'}`).join(' and ');
  const victims = async (): Promise<number> => {
    await become(tx, cast.victim);
    const counted = await tx.probe(`select count(*)::text as n from ${quoted(table.relation.table)}${keyed === undefined ? '' : ` where ${keyed}`}`);
    return counted.ok ? Number(counted.rows[0]?.['n']) : Number.NaN;
  };
  return tx.undone(async () => {
    await makeRoom(scene);
    const before = await victims();
    await become(tx, tenant);
    const probe = await tx.keep(insertText(table, row));
    return { probe, victimHasIt: probe.ok && (await victims()) > before };
  });
}

async function moveRow(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const rule: AttackRuleId = 'write.move';
  if (table.rule === undefined) return [];
  await become(tx, cast.victim);
  const control = await tx.probe(`update ${nameOf(scene)} set ${tenantOf(scene)} = ${tenantOf(scene)} where ${mine.where}`);
  const refusedByCode = control.ok && control.count === 1;
  const move = `update ${nameOf(scene)} set ${tenantOf(scene)} = ${typed(cast.attacker, columnOf(table.relation, table.column))}`;
  const probe = await tx.probe(`${move} where ${mine.where}`);
  if (probe.ok && probe.count === 0) return [stuck(rule, table.relation.table, "control: the tenant's own row was not there to move")];
  // A condition on columns asks the policies of SELECT about the new row as well; without one WITH CHECK stands alone.
  const blind = await tx.probe(`${move} returning ${tripwire}`);
  // Keys and checks are asked after the policy has let the new row pass.
  return [
    verdict(rule, table.relation.table, [
      { what: 'UPDATE of the tenant', probe, reachedBy: [...constraintStates], refusedByCode },
      { what: 'blind UPDATE of the tenant', probe: blind, reachedBy: [...constraintStates, tripped], refusedByCode },
    ]),
  ];
}

async function upsert(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const rule: AttackRuleId = 'write.upsert';
  const target = table.relation.table;
  const primary = table.relation.constraints.find((constraint) => constraint.kind === 'primary');
  if (!primary || primary.deferrable) return [notApplicable(rule, target, 'there is no key to conflict with')];
  const before = await rowText(scene);
  if (before === undefined) return [stuck(rule, target, 'control: the tenant does not see its own row')];
  const column = tenantOf(scene);
  const row = asDraft(mine).set(table.column, typed(cast.attacker, columnOf(table.relation, table.column)));
  const insert = `${insertText(table, row)} on conflict (${primary.columns.map(ident).join(', ')}) do update set ${column} =`;
  const attempts: Attempt[] = [];
  for (const [what, value] of [
    ['ON CONFLICT DO UPDATE that takes the row over', `excluded.${column}`],
    ['ON CONFLICT DO UPDATE that touches the row', `${nameOf(scene)}.${column}`],
  ] as const) {
    const { probe, after } = await tx.undone(async () => {
      await become(tx, cast.attacker);
      return { probe: await tx.keep(`${insert} ${value}`), after: await rowText(scene) };
    });
    // A key with the tenant in it conflicts with nothing: what happens then is the attacker's own row, and no row of the victim.
    attempts.push({ what, probe, refusedBy: [...constraintStates], reached: () => (after === before ? 0 : 1) });
  }
  return [verdict(rule, target, attempts)];
}

/** Takes the planted row away, so that a copy of it breaks no rule of the application (one custody for each asset). */
export async function makeRoom({ tx, table, cast, mine, planted }: Scene): Promise<void> {
  if (!planted) return;
  await become(tx, cast.victim);
  await tx.keep(`delete from ${quoted(table.relation.table)} where ${mine.where}`);
}

/** The victim's row once more, with other values where they must be unique. */
export async function freshCopy({ mine, table, bed }: Scene): Promise<Draft> {
  const { relation } = table;
  const row = asDraft(mine);
  const kept = new Set<string | undefined>([
    table.column,
    ...relation.partitionKey,
    ...relation.constraints.flatMap((constraint) => (constraint.foreign ? constraint.columns : [])),
  ]);
  for (const name of uniqueColumnsOf(relation)) {
    const column = kept.has(name) || columnOf(relation, name)?.generated ? undefined : columnOf(relation, name);
    const value = column && (await columnValue(bed, relation, column, true));
    if (column && value !== undefined) row.set(column.name, typed(value, column));
  }
  return row;
}
