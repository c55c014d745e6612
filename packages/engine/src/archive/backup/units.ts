import { createHash } from 'node:crypto';
import { ident, literal } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { MarksUnit, RowsUnit } from './reading/protocol.ts';
import { ownerSql, rowsOf, type Source } from './sources.ts';
import type { TableFacts } from './table-facts.ts';

/**
 * The statements that read a table. A large one is cut into ranges of blocks, at the same blocks every time, so that several threads read it, and
 * so that what did not change is the same part with the same content again.
 */
const rangeBlocks = 16_384;
/** Tenants that one statement asks for by index. */
const tenantsAtOnce = 50;

interface Range {
  readonly leaf: TableFacts;
  readonly from: number;
  /** Undefined: to the end. */
  readonly to: number | undefined;
  readonly share: number;
}

function rangesOf(leaf: TableFacts): Range[] {
  const ranges = Math.max(1, Math.ceil(leaf.blocks / rangeBlocks));
  return Array.from({ length: ranges }, (_, at) => ({
    leaf,
    from: at * rangeBlocks,
    to: at === ranges - 1 ? undefined : (at + 1) * rangeBlocks,
    share: leaf.bytes / ranges,
  }));
}

function wholeLeaf(leaf: TableFacts): Range {
  return { leaf, from: 0, to: undefined, share: leaf.bytes };
}

/** Which tenants' rows a backup is of, where it is not all: their keys. */
export type Scope = readonly string[] | undefined;

/**
 * A sum over the places of a tenant's rows and the transactions that wrote them, which any insert, update, delete or rewrite of a row changes and
 * no neighbour's does: 0.15 µs a row. A leaf's file is in it, so that a rebuilt table, whose rows may lie where others lay, is another; and the numbers
 * of its columns, because one that was dropped and made again gives every row another value and touches none.
 */
export function marksUnits(source: Source, number: number, scope: Scope): MarksUnit[] {
  const owner = ownerSql(source);
  // By index a range of blocks would only be a condition more.
  const ranges = scope && isIndexed(source) ? source.leaves.map(wholeLeaf) : source.leaves.flatMap(rangesOf);
  return ranges.map((range) => {
    // The age of a transaction is relative to the moment, but not to that of another: the number itself, modulo 2^32, without its text (0.04 µs a row).
    const transaction = "((pg_catalog.age(t.xmin) - (select pg_catalog.age('3'::pg_catalog.xid)::bigint)) & 4294967295)";
    const seed = `(${transaction} + (${seedOf(range.leaf)}))`;
    const conditions = [...rangeConditions(range), ...scopeConditions(source, scope)];
    return {
      kind: 'marks',
      source: number,
      sql: `select ${owner}, count(*)::text, sum(pg_catalog.hashtidextended(t.ctid, ${seed}))::text from ${rowsOf(range.leaf)}${where(conditions)} group by ${groupSql(source)}`,
    };
  });
}

/** Its lower half is free for the number of a transaction. */
function seedOf({ filenode, columnNumbers }: TableFacts): bigint {
  const columns = createHash('sha256').update(columnNumbers.join()).digest().readUInt32BE();
  return BigInt.asIntN(64, (BigInt(filenode) ^ BigInt(columns)) << 32n);
}

/** Types whose values are equal only where their texts are: grouped as they are, which takes three quarters of the time that texts take. */
const exactTypes: ReadonlySet<string> = new Set(['uuid', 'bigint', 'integer', 'smallint']);

function groupSql({ owner, columns }: Source): string {
  if (owner.kind !== 'column') return '1';
  const type = columns.find(({ name }) => name === owner.column)?.type ?? '';
  return exactTypes.has(type) ? `t.${ident(owner.column)}` : '1';
}

/** What the marks of a source are worth: whatever else decides the text of its rows. */
export function markPrefix(source: Source, textFacts: string): string {
  const facts = JSON.stringify([source.columns, source.owner, textFacts]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 16);
}

/** Everything of a source, range by range. */
export function wholeUnits(source: Source, number: number, wanted: Uint8Array): RowsUnit[] {
  return source.leaves.flatMap(rangesOf).map((range, part) => rowsUnit(source, number, { part, wanted, range, conditions: rangeConditions(range) }));
}

/**
 * The rows of some tenants, by index. Each part is a group of tenants, so that one has one part for each leaf.
 *
 * @param of.share of the table's rows, those of the tenants
 */
export function tenantUnits(
  source: Source,
  number: number,
  { wanted, tenants, share }: { readonly wanted: Uint8Array; readonly tenants: readonly string[]; readonly share: number },
): RowsUnit[] {
  const groups = Array.from({ length: Math.ceil(tenants.length / tenantsAtOnce) }, (_, at) => tenants.slice(at * tenantsAtOnce, (at + 1) * tenantsAtOnce));
  return source.leaves.flatMap((leaf, part) =>
    groups.map((group) => {
      const range = { ...wholeLeaf(leaf), share: (leaf.bytes * share * group.length) / tenants.length };
      return rowsUnit(source, number, { part, wanted, range, conditions: scopeConditions(source, group) });
    }),
  );
}

/** Whether the rows of single tenants can be had without reading all. */
export function isIndexed({ owner, leaves }: Source): boolean {
  return owner.kind === 'column' && leaves.every(({ leading }) => leading.includes(owner.column));
}

function rowsUnit(
  source: Source,
  number: number,
  { part, wanted, range, conditions }: { part: number; wanted: Uint8Array; range: Range; conditions: readonly string[] },
): RowsUnit {
  const { owner } = source;
  const columns = source.columns.map(({ name }) => ident(name)).join(', ');
  const list = `${owner.kind === 'found' ? `${owner.sql}, ` : ''}${source.columns.map(({ name }) => `t.${ident(name)}`).join(', ')}`;
  // A plain COPY does without the executor.
  const plain = conditions.length === 0 && owner.kind !== 'found';
  const sql = plain
    ? `copy ${quoted(range.leaf.table)} (${columns}) to stdout`
    : `copy (select ${list} from ${rowsOf(range.leaf)}${where(conditions)}) to stdout`;
  const begins = owner.kind === 'column' ? 'column' : owner.kind === 'found' ? 'prefix' : 'row';
  return { kind: 'rows', source: number, table: source.name, part, sql, begins, wanted, weight: range.share };
}

function rangeConditions({ from, to }: Range): string[] {
  return [...(from > 0 ? [`t.ctid >= '(${from},0)'`] : []), ...(to === undefined ? [] : [`t.ctid < '(${to},0)'`])];
}

function scopeConditions(source: Source, scope: Scope): string[] {
  if (!scope || source.owner.kind === 'platform') return [];
  const list = scope.map(literal).join(', ');
  return [source.owner.kind === 'column' ? `t.${ident(source.owner.column)} in (${list})` : `${source.owner.sql} in (${list})`];
}

function where(conditions: readonly string[]): string {
  return conditions.length === 0 ? '' : ` where ${conditions.join(' and ')}`;
}
