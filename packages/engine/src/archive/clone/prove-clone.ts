import type pg from 'pg';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import type { ErasurePlan, ErasureTable } from '../../tenants/erase/erasure-plan.ts';
import { type ChangesByTable, difference, readChanges } from '../../tenants/erase/row-changes.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { only } from '../../tenants/transfer/tables.ts';
import { type IdMap, mapOf } from './id-maps.ts';
import type { CloneTable, ColumnFill } from './plan-clone.ts';

/** What the server counts of a transaction, from where the work begins. */
export interface Baseline {
  readonly tables: readonly ErasureTable[];
  readonly before: ChangesByTable;
}

/** @throws PartywallError restore_conflict where the server does not count */
export async function takeBaseline(client: pg.ClientBase, plan: ErasurePlan): Promise<Baseline> {
  const { rows } = await client.query<{ counts: boolean }>("select pg_catalog.current_setting('track_counts')::bool as counts");
  if (!rows[0]?.counts) throw new PartywallError('restore_conflict', 'proving that no neighbour is touched: track_counts is off');
  const tables = plan.groups.flatMap((group) => group.tables);
  return { tables, before: await readChanges(client, tables) };
}

/**
 * Holds the transaction to having written rows of this tenant alone, cascades and triggers included: tables whose counters show more than the
 * rows that were meant are searched for rows of others that this transaction has written, and none may have lost rows.
 *
 * @param meant rows that came, and how often rows were updated, by table
 * @throws PartywallError restore_conflict
 */
export async function holdNeighbours(
  client: pg.ClientBase,
  baseline: Baseline,
  { tenant, meant }: { readonly tenant: string; readonly meant: ReadonlyMap<string, { readonly rows: number; readonly updated: number }> },
): Promise<void> {
  const strange: string[] = [];
  for (const [table, { inserted, updated, deleted }] of difference(baseline.before, await readChanges(client, baseline.tables))) {
    const own = meant.get(table) ?? { rows: 0, updated: 0 };
    if (inserted === own.rows && updated === own.updated && deleted === 0) continue;
    const column = baseline.tables.find((each) => each.table === table)?.column ?? '';
    const { rowCount } = await client.query(
      `select from ${quoted(table)} t where t.xmin = pg_catalog.pg_current_xact_id()::xid and t.${ident(column)} is distinct from $1 limit 1`,
      [tenant],
    );
    if (rowCount !== 0 || inserted - deleted !== own.rows) strange.push(table);
  }
  if (strange.length === 0) return;
  throw new PartywallError('restore_conflict', `writing tenant ${tenant}: a trigger or cascade reaches rows of another tenant in ${strange[0]}`, {
    details: strange,
    hint: 'nothing was kept; `partywall verify` names references that lead from one tenant to another',
  });
}

/**
 * Compares what was written with what was read: rows of the clone, with every new value taken back to the old one, hash to what the source's rows
 * do. Left out are columns whose values a rule has made.
 *
 * @throws PartywallError restore_conflict
 */
export async function holdEqual(
  client: pg.ClientBase,
  tables: readonly CloneTable[],
  { staged, maps, source, key }: { staged: readonly StagedTable[]; maps: readonly IdMap[]; source: string; key: string },
): Promise<void> {
  const differing: string[] = [];
  for (const stage of staged) {
    const plan = tables.find(({ table }) => table.relation.table === stage.relation.table);
    if (!plan) continue;
    const compared = plan.columns.filter(({ fill }) => ['kept', 'tenant', 'tenant reference', 'new', 'reference'].includes(fill.kind));
    const columns = compared.map(({ name }) => `s.${ident(name)}`).join(', ');
    const back = compared.map((column, at) => takenBack(plan, column, { at, maps, source, key }));
    const live = `(select ${back.map(({ expression }, at) => `${expression} as ${ident(`c${at}`)}`).join(', ')} from ${only(stage.relation)} t ${back.map(({ join }) => join).join(' ')}
where t.${ident(stage.tenantColumn)} = ${literal(key)})`;
    const read = await sumOf(client, `select row(${columns})::text as line from ${stage.stage} s`);
    const written = await sumOf(client, `select row(s.*)::text as line from ${live} s`);
    if (read !== written) differing.push(stage.relation.table);
  }
  if (differing.length === 0) return;
  throw new PartywallError(
    'restore_conflict',
    `comparing what was written with its source: ${differing[0]} differs, because a trigger changes what is written`,
    {
      details: differing,
      hint: 'let the trigger mind `partywall.restoring`',
    },
  );
}

function takenBack(
  { table }: CloneTable,
  { name, type, fill }: ColumnFill,
  { at, maps, source, key }: { at: number; maps: readonly IdMap[]; source: string; key: string },
): { expression: string; join: string } {
  const now = `t.${ident(name)}`;
  if (fill.kind === 'tenant') return { expression: `${literal(source)}::${type}`, join: '' };
  if (fill.kind === 'tenant reference')
    return { expression: `case when ${now}::text = ${literal(key)} then ${literal(source)}::${type} else ${now} end`, join: '' };
  const map = fill.kind === 'reference' ? mapOf(maps, fill.table, fill.column) : fill.kind === 'new' ? mapOf(maps, table.relation.table, name) : undefined;
  return map ? { expression: `coalesce(m${at}.old, ${now})`, join: `left join ${map.name} m${at} on m${at}.new = ${now}` } : { expression: now, join: '' };
}

/** Rows in any order: count and two sums of 64-bit hashes. A guard against mistakes, not against forgery. */
async function sumOf(client: pg.ClientBase, lines: string): Promise<string> {
  const { rows } = await client.query<{ sum: string }>(
    `select pg_catalog.concat_ws(' ', count(*), sum(pg_catalog.hashtextextended(l.line, 0)::numeric), sum(pg_catalog.hashtextextended(l.line, 1)::numeric)) as sum from (${lines}) l`,
  );
  return rows[0]?.sum ?? '';
}
