import type { Catalog, Relation } from '../../catalog/catalog.ts';
import { literal } from '../../db/sql.ts';
import { quoted, type TableName, tableName } from '../../model/table-name.ts';
import { plainSetting, protectedSetting } from '../../wall/context-sql.ts';
import type { WantedTable } from '../../wall/shape.ts';
import { type AttackResult, broken, held, notApplicable, refused, stuck } from './attack-result.ts';
import { type Bed, plantParent } from './plant.ts';
import type { Cast } from './scene.ts';
import { become, type Transaction } from './transaction.ts';

/**
 * What a view shows the attacker must not depend on the victim's rows: it is read, the victim plants rows in every table behind it,
 * and it is read again. Where the planted rows do not show up for the victim either (a view that joins or filters them away), the
 * plan is asked instead: every scan of a walled table must carry the tenant.
 */
export async function attackView(view: Relation, around: { tx: Transaction; bed: Bed; cast: Cast; catalog: Catalog }): Promise<AttackResult> {
  const { tx, bed, cast, catalog } = around;
  const behind = [...baseTables(view, catalog)].flatMap((table) => bed.garden.wanted.tables.get(table) ?? []);
  await become(tx, cast.attacker);
  const first = await contents(tx, view);
  if ('state' in first) {
    return first.state === refused && /permission denied for (table|view|materialized view)/.test(first.message)
      ? notApplicable('read.view', view.table, 'the application may not read it')
      : byPlan(view, around);
  }
  const again = await contents(tx, view);
  if ('state' in again || again.hash !== first.hash) return byPlan(view, around);
  await become(tx, cast.victim);
  const before = await contents(tx, view);
  for (const table of behind) await plantBehind(bed, table, cast.victim);
  await become(tx, cast.attacker);
  const after = await contents(tx, view);
  if (!('state' in after) && after.hash !== first.hash)
    return broken('read.view', view.table, `rows that another tenant made changed what ${view.table} shows`);
  await become(tx, cast.victim);
  const seen = await contents(tx, view);
  const showed = !('state' in before) && !('state' in seen) && before.hash !== seen.hash;
  return showed && !('state' in after) ? held('read.view', view.table) : byPlan(view, around);
}

async function plantBehind(bed: Bed, table: WantedTable, tenant: string): Promise<void> {
  if (table.rule !== undefined) await plantParent(bed, table, tenant);
}

async function contents(tx: Transaction, view: Relation): Promise<{ hash: string } | { state: string; message: string }> {
  const probe = await tx.probe(`select count(*)::text || coalesce(md5(string_agg(v::text, e'\\n' order by v::text)), '') as hash from ${quoted(view.table)} v`);
  return probe.ok ? { hash: probe.rows[0]?.['hash'] ?? '' } : { state: probe.state, message: probe.message };
}

interface PlanNode {
  readonly Schema?: string;
  readonly 'Relation Name'?: string;
  readonly Plans?: readonly PlanNode[];
}

const conditionNames = ['Filter', 'Index Cond', 'Recheck Cond', 'TID Cond', 'One-Time Filter'];

async function byPlan(view: Relation, { tx, bed, cast }: { tx: Transaction; bed: Bed; cast: Cast }): Promise<AttackResult> {
  await become(tx, cast.attacker);
  const probe = await tx.probe(`explain (verbose, format json) select * from ${quoted(view.table)}`);
  if (!probe.ok) return stuck('read.view', view.table, `reading its plan: ${probe.state} ${probe.message}`);
  // EXPLAIN's JSON arrives parsed; its shape is PostgreSQL's own.
  const plans = (probe.rows[0] as { 'QUERY PLAN'?: readonly { Plan: PlanNode }[] } | undefined)?.['QUERY PLAN'] ?? [];
  const open = plans.flatMap(({ Plan }) => openScans(Plan, bed, cast.attacker));
  const [first] = open;
  return first === undefined
    ? held('read.view', view.table)
    : broken('read.view', view.table, `${view.table} scans ${first} without the tenant`, 'from its plan');
}

function openScans(node: PlanNode, bed: Bed, tenant: string): TableName[] {
  const below = (node.Plans ?? []).flatMap((child) => openScans(child, bed, tenant));
  const relation = node['Relation Name'];
  if (relation === undefined || node.Schema === undefined) return below;
  const table = tableName(node.Schema, relation);
  if (!bed.garden.wanted.tables.has(table)) return below;
  const fields: Readonly<Record<string, unknown>> = { ...node };
  const conditions = conditionNames.map((name) => fields[name]).filter((text) => typeof text === 'string');
  // A helper that is wrongly IMMUTABLE stands in the plan as the tenant itself.
  const byTenant = (text: string): boolean =>
    [`'${plainSetting}'`, `'${protectedSetting}'`, 'partywall.tenant_id()', literal(tenant)].some((mark) => text.includes(mark));
  return conditions.some(byTenant) ? below : [table, ...below];
}

function baseTables(view: Relation, catalog: Catalog, seen = new Set<TableName>()): ReadonlySet<TableName> {
  for (const table of view.reads) {
    if (seen.has(table)) continue;
    seen.add(table);
    const next = catalog.relations.get(table);
    if (next) baseTables(next, catalog, seen);
  }
  return seen;
}
