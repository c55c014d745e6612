import { type Constraint, columnOf, type Relation } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import { candidateValues } from './candidate-values.ts';
import { checkExpression } from './check-expression.ts';
import { type Bed, type Draft, typed } from './plant.ts';

/** Combinations of values that one check is tried with. */
const combinationsMax = 2_000;
const valuesMax = 8;

/**
 * Changes a draft so that a check over several columns accepts it (`(status = 'open') = (closed_at is null)`): the server tries every
 * combination of a few values for each column that may change and names the first that passes. References may only become empty, and
 * columns in `fixed` stay.
 */
export async function satisfyCheck(bed: Bed, relation: Relation, constraint: Constraint, row: Draft, fixed: ReadonlySet<string>): Promise<boolean> {
  const referring = new Set(relation.constraints.flatMap((one) => (one.foreign ? one.columns : [])));
  const options = constraint.columns.map((name) => optionsFor(bed, relation, name, { row, fixed: fixed.has(name), referring: referring.has(name) }));
  while (options.reduce((product, list) => product * list.length, 1) > combinationsMax) {
    const longest = options.reduce((left, right) => (right.length > left.length ? right : left));
    longest.pop();
  }
  const within = new Set(constraint.columns);
  const checks = relation.constraints.filter((one) => one.kind === 'check' && one.columns.every((name) => within.has(name)));
  const from = options.map((list, at) => `(${list.map((value, index) => `select ${index} as i, ${value} as v`).join(' union all ')}) as o${at}`);
  const columns = constraint.columns.map((name, at) => `o${at}.v as ${ident(name)}`).join(', ');
  const order = options.map((_list, at) => `o${at}.i`);
  const probe = await bed.tx.probe(
    `select ${order.map((one, at) => `${one}::text as c${at}`).join(', ')} from ${from.join(' cross join ')} cross join lateral (select ${columns}) as t
where ${checks.map((one) => `(${checkExpression(one.definition)}) is not false`).join(' and ')} order by ${order.join(' + ')} limit 1`,
  );
  const chosen = probe.ok ? probe.rows[0] : undefined;
  if (!chosen) return false;
  for (const [at, name] of constraint.columns.entries()) {
    const value = options[at]?.[Number(chosen[`c${at}`])];
    if (value !== undefined && !fixed.has(name)) row.set(name, value);
  }
  return true;
}

/** SQL values for one column, the drafted one first. */
function optionsFor(bed: Bed, relation: Relation, name: string, { row, fixed, referring }: { row: Draft; fixed: boolean; referring: boolean }): string[] {
  const column = columnOf(relation, name);
  const type = column?.type ?? 'text';
  const drafted = row.get(name) ?? `${column?.default === undefined ? 'null' : `(${column.default})`}::${type}`;
  if (fixed || column?.generated) return [drafted];
  const empty = column?.notNull ? [] : [`null::${type}`];
  if (referring) return [drafted, ...empty];
  const facts = bed.garden.columnFacts(relation.oid, name);
  const checks = relation.constraints.filter((one) => one.kind === 'check' && one.columns.includes(name)).map((one) => one.definition);
  // What the checks themselves name is likelier to pass them than what the type suggests.
  const candidates = facts ? candidateValues(facts, checks).sort((left, right) => mentions(checks, right) - mentions(checks, left)) : [];
  return [...new Set([drafted, ...empty, ...candidates.slice(0, valuesMax).map((value) => typed(value, column))])];
}

function mentions(checks: readonly string[], value: string): number {
  return checks.some((check) => check.includes(`'${value}'`)) ? 1 : 0;
}
