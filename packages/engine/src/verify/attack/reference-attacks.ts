import { type Constraint, columnOf } from '../../catalog/catalog.ts';
import { literal } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { WantedTable } from '../../wall/shape.ts';
import { type AttackResult, broken, held, notApplicable, refused, stuck } from './attack-result.ts';
import { type Draft, insertDraft, insertText, plantParent, provenDraft, typed, undone } from './plant.ts';
import { makeRoom } from './row-attacks.ts';
import { nameOf, type Scene, type TableAttack } from './scene.ts';
import { become, type Probe } from './transaction.ts';

/** Attacks through keys, which are checked without policies. */
export const referenceAttacks: readonly TableAttack[] = [
  { rules: ['reference.attach', 'reference.cascade'], run: attachToEach },
  { rules: ['unique.oracle'], run: uniqueOracle },
];

const missingParent = '23503';
const taken = '23505';

async function attachToEach(scene: Scene): Promise<AttackResult[]> {
  const { table, bed } = scene;
  const results: AttackResult[] = [];
  for (const constraint of table.relation.constraints) {
    const parent = constraint.foreign && bed.garden.wanted.tables.get(constraint.foreign.table);
    // A reference to the tenant root is the policy's own column, or a residual.
    if (!parent?.rule || !table.rule || constraint.inherited) continue;
    results.push(...(await undone(bed, () => attach(scene, constraint, parent))));
  }
  return results;
}

/** The attacker's row, complete and its own but for one reference: that one points at the victim's row. */
async function attach(scene: Scene, constraint: Constraint, parent: WantedTable): Promise<AttackResult[]> {
  const { tx, bed, table, cast } = scene;
  const name = `${constraint.name} on ${table.relation.table}`;
  const cannot = (why: string): AttackResult[] => [stuck('reference.attach', name, why)];
  const theirs = parent === table ? scene.mine : await plantParent(bed, parent, cast.victim);
  if ('failed' in theirs) return cannot(`planting the row to attach to: ${theirs.failed}`);
  const own = await plantParent(bed, parent, cast.attacker);
  if ('failed' in own) return cannot(`planting the attacker's own parent: ${own.failed}`);
  const control = await provenDraft(bed, table, cast.attacker, pointing(table, constraint, own.row));
  if ('failed' in control) return cannot(`control, a row that refers to the attacker's own parent: ${control.failed}`);

  // Unless it is the row to attach to: a unique over references would refuse the attempt before the key is asked.
  if (parent !== table) await makeRoom(scene);
  await become(tx, cast.attacker);
  const made = await insertDraft(tx, table, new Map([...control.row, ...pointing(table, constraint, theirs.row)]));
  if (!made.ok)
    return made.state === missingParent || made.state === refused
      ? [held('reference.attach', name), held('reference.cascade', name)]
      : cannot(`${made.state} ${made.message}`);
  const attached = broken('reference.attach', name, `a row of one tenant was attached to a row of another by ${constraint.name}`, constraint.definition);
  return [attached, await cascade(scene, constraint, { parent, where: theirs.where, made })];
}

/** The columns of a reference as they point at a parent; the tenant's own column stays the child's. */
function pointing(table: WantedTable, constraint: Constraint, parent: ReadonlyMap<string, string | null>): Draft {
  return new Map(
    constraint.columns.flatMap((column, at) => {
      const value = parent.get(constraint.foreign?.columns[at] ?? '');
      return column === table.column || value === undefined || value === null ? [] : [[column, typed(value, columnOf(table.relation, column))]];
    }),
  );
}

/** The row is attached: does deleting the victim's parent reach it? */
async function cascade(
  scene: Scene,
  constraint: Constraint,
  attached: { parent: WantedTable; where: string; made: Extract<Probe, { ok: true }> },
): Promise<AttackResult> {
  const { tx, cast, table } = scene;
  const name = `${constraint.name} on ${table.relation.table}`;
  const action = constraint.foreign?.onDelete ?? 'no action';
  if (action === 'no action' || action === 'restrict') return notApplicable('reference.cascade', name, `it has no cascade: ON DELETE ${action.toUpperCase()}`);
  const [row] = attached.made.rows;
  const where = `tableoid = ${literal(row?.['pw tableoid'] ?? '')}::oid and ctid = ${literal(row?.['pw ctid'] ?? '')}::tid`;
  const isThere = async (): Promise<boolean> => {
    await become(tx, cast.attacker);
    const seen = await tx.probe(`select 1 from ${nameOf(scene)} where ${where}`);
    return seen.ok && seen.rows.length === 1;
  };
  if (!(await isThere())) return stuck('reference.cascade', name, 'control: the attached row is not there');
  await become(tx, cast.victim);
  const gone = await tx.keep(`delete from ${quoted(attached.parent.relation.table)} where ${attached.where}`);
  if (!gone.ok) return stuck('reference.cascade', name, `deleting the parent: ${gone.state} ${gone.message}`);
  // A row that was changed has another ctid, one that was deleted has none.
  return (await isThere())
    ? held('reference.cascade', name)
    : broken('reference.cascade', name, `deleting one tenant's row reached a row of another by ${constraint.name}`);
}

/** What the model calls unique per tenant must be free for each tenant. */
async function uniqueOracle(scene: Scene): Promise<AttackResult[]> {
  const { tx, bed, table, cast, mine } = scene;
  const { relation, rule } = table;
  const results: AttackResult[] = [];
  const referring = new Set(relation.constraints.flatMap((constraint) => (constraint.foreign ? constraint.columns : [])));
  for (const [name, meaning] of rule?.uniques ?? []) {
    const index = relation.indexes.find((candidate) => candidate.unique && (candidate.name === name || candidate.constraint === name));
    if (meaning !== 'per tenant' || !index) continue;
    const target = `${index.name} on ${relation.table}`;
    const columns = index.columns.flatMap((column) => (column === undefined || column === table.column || referring.has(column) ? [] : [column]));
    if (columns.length < index.columns.filter((column) => column !== table.column).length) {
      results.push(notApplicable('unique.oracle', target, 'it is over expressions or references; the static rule judges it'));
      continue;
    }
    const theirs: Draft = new Map(
      columns.flatMap((column) => {
        const value = mine.row.get(column);
        return value === undefined || value === null ? [] : [[column, typed(value, columnOf(relation, column))]];
      }),
    );
    const free = await provenDraft(bed, table, cast.attacker);
    if ('failed' in free) {
      results.push(stuck('unique.oracle', target, `control, a row of the attacker's own: ${free.failed}`));
      continue;
    }
    const same = await tx.probe(insertText(table, new Map([...free.row, ...theirs])));
    if (same.ok) results.push(held('unique.oracle', target));
    else if (same.state === taken && same.constraint !== index.name) {
      results.push(notApplicable('unique.oracle', target, `${same.constraint} is over the same columns and spans tenants, which is a residual`));
    } else if (same.state === taken) results.push(broken('unique.oracle', target, `a value is refused because another tenant has it: ${index.name}`));
    else results.push(stuck('unique.oracle', target, `the same value for another tenant: ${same.state} ${same.message}`));
  }
  return results;
}
