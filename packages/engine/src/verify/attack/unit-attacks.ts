import { columnOf } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { AttackRuleId } from '../rules/rules.ts';
import { type AttackResult, type Attempt, broken, constraintStates, held, notApplicable, stuck, verdict } from './attack-result.ts';
import { insertText, plant, provenDraft, typed } from './plant.ts';
import { nameOf, type Scene, type TableAttack, tripped, tripwire } from './scene.ts';
import { become, enter } from './transaction.ts';

const rules = ['unit.read', 'unit.update', 'unit.delete', 'unit.insert', 'unit.move', 'unit.garbage'] as const satisfies readonly AttackRuleId[];

/** One unit of a tenant against another: the victim's row is in one, the attacker in the other, in no unit that there is, or in another tenant's. */
export const unitAttacks: TableAttack = { rules, run: attackUnits };

/** Keys of units: where the row is, another one of the tenant, one of another tenant, one of nobody. */
interface Units {
  readonly own: string;
  readonly other: string;
  readonly foreign: string | undefined;
  readonly nobody: string;
}

/** A scene in which the victim's row has a unit. */
interface UnitScene extends Scene {
  readonly units: Units;
  readonly column: string;
  readonly nullable: boolean;
}

async function attackUnits(scene: Scene): Promise<AttackResult[]> {
  const { table } = scene;
  const { unit } = table;
  if (!unit) return [];
  const units = await settle(scene, unit.column);
  if ('failed' in units) return rules.map((rule) => stuck(rule, table.relation.table, units.failed));
  const inUnit: UnitScene = { ...scene, units, column: unit.column, nullable: unit.nullable };
  const results: AttackResult[] = [];
  for (const attack of [read, update, remove, insert, move, garbage]) results.push(await scene.tx.undone(() => attack(inUnit)));
  return results;
}

/** Gives the victim's row a unit where it has none, and finds the others. */
async function settle({ tx, bed, cast, mine, table }: Scene, column: string): Promise<Units | { failed: string }> {
  const { wanted } = bed.garden;
  const unitTable = wanted.unitTable === undefined ? undefined : wanted.tables.get(wanted.unitTable);
  if (!unitTable?.unit) return { failed: 'the table of the units is not there' };
  const key = unitTable.unit.column;
  const anotherOf = async (tenant: string, besides: string | undefined): Promise<string | { failed: string }> => {
    const planted = await plant(bed, unitTable, tenant);
    if (!('failed' in planted)) return planted.row.get(key) ?? { failed: 'a planted unit has no key' };
    await become(tx, tenant);
    const isOther = besides === undefined ? '' : ` where ${ident(key)}::text <> ${literal(besides)}`;
    const found = await tx.probe(`select ${ident(key)}::text as key from ${quoted(unitTable.relation.table)}${isOther} limit 1`);
    return (found.ok ? found.rows[0]?.['key'] : undefined) ?? { failed: `planting a unit: ${planted.failed}` };
  };
  const isUnit = table.relation.table === unitTable.relation.table;
  const foreign = await anotherOf(cast.attacker, undefined);
  const given = mine.row.get(column);
  const own = given ?? (isUnit ? { failed: 'the unit has no key' } : await anotherOf(cast.victim, undefined));
  if (typeof own !== 'string') return own;
  const other = await anotherOf(cast.victim, own);
  if (typeof other !== 'string') return other;
  await become(tx, cast.victim);
  if (given === null || given === undefined) {
    const put = await tx.keep(
      `update ${quoted(table.relation.table)} set ${ident(column)} = ${typed(own, columnOf(table.relation, column))} where ${mine.where}`,
    );
    if (!put.ok || put.count !== 1)
      return { failed: `putting the row into a unit: ${put.ok ? `it reached ${put.count} rows` : `${put.state} ${put.message}`}` };
  }
  return { own, other, foreign: typeof foreign === 'string' ? foreign : undefined, nobody: nobodyLike(own) };
}

/** A well-formed key that no unit has. */
function nobodyLike(key: string): string {
  if (/^[0-9a-f-]{36}$/.test(key)) return 'ffffffff-ffff-4fff-bfff-fffffffffff1';
  return /^-?\d+$/.test(key) ? '-31999' : 'no unit has this key';
}

const whose = 'another unit';

function target({ table }: Scene): string {
  return table.relation.table;
}

function columnValueOf({ table, column }: UnitScene, key: string): string {
  return typed(key, columnOf(table.relation, column));
}

async function read(scene: UnitScene): Promise<AttackResult> {
  const { tx, cast, mine, units } = scene;
  const name = nameOf(scene);
  const byKey = `select 1 from ${name} where ${mine.where}`;
  await become(tx, cast.victim, units.own);
  const control = await tx.probe(byKey);
  if (!control.ok || control.count !== 1) return stuck('unit.read', target(scene), 'control: the unit does not see its own row');
  const ofUnit = `${ident(scene.column)} = ${columnValueOf(scene, units.own)}`;
  const attempts: Attempt[] = [];
  const places = [
    ['in another unit', cast.victim, units.other],
    ['in a unit of nobody', cast.victim, units.nobody],
    ...(units.foreign === undefined ? [] : [['in another tenant’s unit', cast.victim, units.foreign] as const]),
    ['in another tenant with the unit', cast.attacker, units.own],
  ] as const;
  for (const [where, tenant, unit] of places) {
    await become(tx, tenant, unit);
    attempts.push(
      { what: `SELECT by key ${where}`, whose, probe: await tx.probe(byKey) },
      { what: `SELECT by unit ${where}`, whose, probe: await tx.probe(`select 1 from ${name} where ${ofUnit} limit 1`) },
      { what: `SELECT FOR UPDATE ${where}`, whose, probe: await tx.probe(`${byKey} for update`) },
    );
  }
  await become(tx, cast.victim, units.nobody);
  const ofAny = `select 1 from ${name} where ${ident(scene.column)} is not null limit 1`;
  attempts.push({ what: 'SELECT of any unit’s rows', whose, probe: await tx.probe(ofAny) });
  return verdict('unit.read', target(scene), attempts);
}

function update(scene: UnitScene): Promise<AttackResult> {
  const same = `${ident(scene.column)} = ${ident(scene.column)}`;
  const blind = `update ${nameOf(scene)} set ${ident(scene.column)} = ${columnValueOf(scene, scene.units.nobody)}`;
  return change(scene, 'unit.update', { verb: 'UPDATE', statement: `update ${nameOf(scene)} set ${same}`, blind });
}

function remove(scene: UnitScene): Promise<AttackResult> {
  const statement = `delete from ${nameOf(scene)}`;
  return change(scene, 'unit.delete', { verb: 'DELETE', statement, blind: statement });
}

async function change(
  scene: UnitScene,
  rule: 'unit.update' | 'unit.delete',
  { verb, statement, blind }: { verb: string; statement: string; blind: string },
): Promise<AttackResult> {
  const { tx, cast, mine, units } = scene;
  await become(tx, cast.victim, units.own);
  const control = await tx.probe(`${statement} where ${mine.where}`);
  if (!control.ok && /permission denied/.test(control.message)) return notApplicable(rule, target(scene), `the application may not ${verb} here`);
  // A row that was there before the run may be held by others; the policies let it pass if a key refuses.
  const passed = control.ok ? control.count === 1 : !scene.planted && constraintStates.has(control.state);
  if (!passed)
    return stuck(
      rule,
      target(scene),
      `control, the unit’s own ${verb}: ${control.ok ? `it reached ${control.count} rows` : `${control.state} ${control.message}`}`,
    );
  const attempts: Attempt[] = [];
  for (const unit of [units.other, ...(units.foreign === undefined ? [] : [units.foreign])]) {
    await become(tx, cast.victim, unit);
    attempts.push({ what: `${verb} by key`, whose, probe: await tx.probe(`${statement} where ${mine.where}`), reachedBy: [...constraintStates] });
  }
  await become(tx, cast.victim, units.nobody);
  attempts.push({ what: `blind ${verb}`, whose, probe: await tx.probe(`${blind} returning ${tripwire}`), reachedBy: [tripped] });
  if (scene.nullable) {
    await become(tx, cast.victim);
    const whole = await tx.keep(`update ${nameOf(scene)} set ${ident(scene.column)} = null where ${mine.where}`);
    if (whole.ok && whole.count === 1) {
      await become(tx, cast.victim, units.own);
      attempts.push({ what: `${verb} of a row of no unit`, whose: 'no unit', probe: await tx.probe(`${statement} where ${mine.where}`) });
    }
  }
  return verdict(rule, target(scene), attempts);
}

async function insert(scene: UnitScene): Promise<AttackResult> {
  const { tx, cast, bed, table, units, column } = scene;
  const isUnit = table.relation.table === bed.garden.wanted.unitTable;
  const proven = await tx.undone(async () => {
    // Room for a copy of the planted row, which a rule of the application may allow once.
    await become(tx, cast.victim);
    if (scene.planted) await tx.keep(`delete from ${nameOf(scene)} where ${scene.mine.where}`);
    const draft = await provenDraft(bed, table, cast.victim, new Map(isUnit ? [] : [[column, columnValueOf(scene, units.own)]]));
    if ('failed' in draft) return draft;
    const attempts: Attempt[] = [];
    const rows = [
      [isUnit ? 'INSERT of another unit' : 'INSERT for another unit', draft.row],
      ...(scene.nullable ? [['INSERT for no unit', new Map(draft.row).set(column, 'null')] as const] : []),
    ] as const;
    for (const [what, row] of rows) {
      await become(tx, cast.victim, units.other);
      attempts.push({ what, whose, probe: await tx.probe(insertText(table, row)), reached: () => 1, reachedBy: [...constraintStates] });
    }
    return attempts;
  });
  if ('failed' in proven) return stuck('unit.insert', target(scene), `control, a row of the unit: ${proven.failed}`);
  return verdict('unit.insert', target(scene), proven);
}

async function move(scene: UnitScene): Promise<AttackResult> {
  const { tx, cast, mine, units, bed, table } = scene;
  await become(tx, cast.victim, units.own);
  const to = table.relation.table === bed.garden.wanted.unitTable ? units.nobody : units.other;
  const attempts: Attempt[] = [];
  for (const [what, value] of [
    ['UPDATE of the unit', columnValueOf(scene, to)],
    ...(scene.nullable ? [['UPDATE to no unit', 'null'] as const] : []),
  ] as const) {
    const set = `update ${nameOf(scene)} set ${ident(scene.column)} = ${value}`;
    const probe = await tx.probe(`${set} where ${mine.where}`);
    if (probe.ok && probe.count === 0) return stuck('unit.move', target(scene), 'control: the unit’s own row was not there to move');
    attempts.push({ what, whose, probe, reachedBy: [...constraintStates] });
    attempts.push({ what: `blind ${what}`, whose, probe: await tx.probe(`${set} returning ${tripwire}`), reachedBy: [...constraintStates, tripped] });
  }
  return verdict('unit.move', target(scene), attempts);
}

async function garbage(scene: UnitScene): Promise<AttackResult> {
  const { tx, cast, units } = scene;
  // Any text is a key of a text column, and then a unit of nobody.
  if (!/^(?:[0-9a-f-]{36}|-?\d+)$/.test(units.own)) return held('unit.garbage', target(scene));
  for (const given of ['not a unit', "' or true --", ',', '1 2', '']) {
    await become(tx, '');
    const probe = await tx.undone(() => enter(tx, cast.victim, given));
    if (probe.ok) return broken('unit.garbage', target(scene), `entering with the unit ${JSON.stringify(given)} was accepted`);
    if (!probe.state.startsWith('22'))
      return stuck('unit.garbage', target(scene), `entering with the unit ${JSON.stringify(given)}: ${probe.state} ${probe.message}`);
  }
  return held('unit.garbage', target(scene));
}
