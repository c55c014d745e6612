import { columnOf } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { AttackRuleId } from '../rules/rules.ts';
import { type AttackResult, type Attempt, broken, constraintStates, notApplicable, refused, stuck, verdict } from './attack-result.ts';
import { asDraft, columnValue, type Draft, insertText, typed } from './plant.ts';
import { nameOf, type Scene, type TableAttack, tenantOf, tripped, tripwire } from './scene.ts';
import { become } from './transaction.ts';

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
  attempts.push({ what: `blind ${verb}`, probe: await tx.probe(`${statement} returning ${tripwire}`), reachedBy: [tripped] });
  return [verdict(rule, target, attempts)];
}

/** The victim's row as the victim sees it. */
async function rowText({ tx, cast, mine, table }: Scene): Promise<string | undefined> {
  await become(tx, cast.victim);
  const columns = table.relation.columns.map((column) => `${ident(column.name)}::text`).join(', ');
  const probe = await tx.probe(`select row(${columns})::text as body from ${quoted(table.relation.table)} where ${mine.where}`);
  return probe.ok ? (probe.rows[0]?.['body'] ?? undefined) : undefined;
}

async function insertForAnother(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, table } = scene;
  const target = table.relation.table;
  const rule: AttackRuleId = 'write.insert';
  await become(tx, cast.attacker);
  const insert = await tx.probe(`${insertText(table, await freshCopy(scene))} returning ${tenantOf(scene)}::text as tenant`);
  const columns = table.relation.columns.filter((column) => !column.generated).map((column) => ident(column.name));
  const copy = await tx.probe(`copy ${nameOf(scene)} (${columns.join(', ')}) from stdin`);
  return [
    verdict(rule, target, [
      {
        what: 'INSERT for another tenant',
        probe: insert,
        // A trigger of the application may have put the row where it belongs.
        reached: ({ rows }) => (rows[0]?.['tenant'] === cast.victim ? 1 : 0),
        reachedBy: ['23505', '23P01'],
      },
      { what: 'COPY FROM', probe: copy, refusedBy: [copyRefused], reachedBy: [copyAccepted] },
    ]),
  ];
}

async function insertForNobody(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, table } = scene;
  if (table.rule === undefined) return [];
  await become(tx, cast.victim);
  const row = (await freshCopy(scene)).set(table.column, 'null');
  const insert = await tx.probe(`${insertText(table, row)} returning ${tenantOf(scene)}::text as tenant`);
  return [
    verdict('write.null-tenant', table.relation.table, [
      { what: 'INSERT without a tenant', probe: insert, refusedBy: ['23502'], reached: ({ rows }) => (rows[0]?.['tenant'] === null ? 1 : 0) },
    ]),
  ];
}

async function moveRow(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const rule: AttackRuleId = 'write.move';
  if (table.rule === undefined) return [];
  await become(tx, cast.victim);
  const there = typed(cast.attacker, columnOf(table.relation, table.column));
  const probe = await tx.probe(`update ${nameOf(scene)} set ${tenantOf(scene)} = ${there} where ${mine.where}`);
  if (probe.ok && probe.count === 0) return [stuck(rule, table.relation.table, "control: the tenant's own row was not there to move")];
  // Keys and checks are asked after the policy has let the new row pass.
  return [verdict(rule, table.relation.table, [{ what: 'UPDATE of the tenant', probe, reachedBy: [...constraintStates] }])];
}

async function upsert(scene: Scene): Promise<AttackResult[]> {
  const { tx, cast, mine, table } = scene;
  const rule: AttackRuleId = 'write.upsert';
  const target = table.relation.table;
  const primary = table.relation.constraints.find((constraint) => constraint.kind === 'primary');
  if (!primary || primary.deferrable) return [notApplicable(rule, target, 'there is no key to conflict with')];
  const before = await rowText(scene);
  if (before === undefined) return [stuck(rule, target, 'control: the tenant does not see its own row')];
  return tx.undone(async () => {
    await become(tx, cast.attacker);
    const row = asDraft(mine).set(table.column, typed(cast.attacker, columnOf(table.relation, table.column)));
    const column = tenantOf(scene);
    const probe = await tx.keep(
      `${insertText(table, row)} on conflict (${primary.columns.map(ident).join(', ')}) do update set ${column} = excluded.${column}`,
    );
    const after = await rowText(scene);
    if (after !== before) return [broken(rule, target, "ON CONFLICT DO UPDATE changed another tenant's row")];
    // A key with the tenant in it conflicts with nothing: what happens then is the attacker's own row, and no row of the victim.
    return [verdict(rule, target, [{ what: 'ON CONFLICT DO UPDATE', probe, refusedBy: [...constraintStates], reached: () => 0 }])];
  });
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
  for (const name of new Set(relation.indexes.filter((index) => index.unique).flatMap((index) => index.columns))) {
    const column = name === undefined || kept.has(name) ? undefined : columnOf(relation, name);
    const value = column && (await columnValue(bed, relation, column, true));
    if (column && value !== undefined) row.set(column.name, typed(value, column));
  }
  return row;
}
