import type { Catalog } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { modelBlockers } from './blockers.ts';
import { planContract } from './plan-contract.ts';
import { planExpand } from './plan-expand.ts';
import { roleBlockers } from './roles.ts';
import { type Note, wantedWall } from './shape.ts';

/**
 * The way from the live catalog to the wanted wall, in three phases. Expand adds and fills what the old application does not
 * notice; switch is the application's move to its own role and a walled pool; contract makes it hold. A plan is a function of the
 * model and the catalog alone: steps whose result is already there are not in it, so a killed run continues by planning again and
 * an applied phase plans to nothing.
 */
export interface WallPlan {
  readonly steps: readonly WallStep[];
  /** What must change before anything is done. */
  readonly blockers: readonly Note[];
  /** What stays open when all is done. */
  readonly residuals: readonly Note[];
}

export type Phase = 'expand' | 'switch' | 'contract';

export interface WallStep {
  /** Stable across runs: `expand/key/public.customers/pw_key_customers_1f2e3d4c`. */
  readonly id: string;
  readonly phase: Phase;
  readonly table?: TableName;
  readonly title: string;
  readonly reason: string;
  /** How the table is locked: not at all, for milliseconds under a lock timeout with retries, or long but beside writers. */
  readonly lock: 'none' | 'brief' | 'online';
  readonly action: StepAction;
}

export type StepAction =
  /** One transaction; whole or not at all. */
  | { readonly kind: 'transaction'; readonly statements: readonly string[] }
  /** Outside a transaction; `cleanup` removes what a failed attempt left. */
  | { readonly kind: 'concurrent'; readonly cleanup?: string; readonly statement: string }
  | Backfill
  /** Waits for the transactions that are older than the backfills, and fills what they wrote, in this order. */
  | { readonly kind: 'settle'; readonly backfills: readonly Backfill[] }
  /** Nothing for the database: the application moves. */
  | { readonly kind: 'gate' };

/** Fills a tenant column in batches; `table` is a storage relation (a leaf, never a partitioned parent). */
export interface Backfill {
  readonly kind: 'backfill';
  readonly table: TableName;
  readonly column: string;
  /** Expression over the row `row`. */
  readonly tenant: string;
}

/** The SQL of a step as `diff` shows it. */
export function stepSql(step: WallStep): string[] {
  switch (step.action.kind) {
    case 'transaction':
      return ['begin', ...step.action.statements, 'commit'];
    case 'concurrent':
      return [...(step.action.cleanup ? [step.action.cleanup] : []), step.action.statement];
    case 'backfill':
      return [`-- in batches of blocks, skipping locked rows, resumable\n${backfillSql(step.action)}`];
    case 'settle':
      return ['-- when no transaction is open that is older than the backfills: each of them once more, where it finds rows'];
    case 'gate':
      return [];
  }
}

/**
 * One batch of a backfill: $1 and $2 bound the blocks. Rows that a writer holds are skipped and visited in a later pass, so the
 * backfill never waits for a writer and no deadlock can make one its victim.
 */
export function backfillSql(action: Backfill): string {
  const table = quoted(action.table);
  return `with batch as materialized (
  select row.ctid as at, ${action.tenant} as tenant from only ${table} row
  where row.ctid >= $1::tid and row.ctid < $2::tid and row.${ident(action.column)} is null
  for no key update of row skip locked)
update only ${table} target set ${ident(action.column)} = batch.tenant from batch where target.ctid = batch.at and batch.tenant is not null`;
}

export function planWall(model: TenancyModel, catalog: Catalog): WallPlan {
  const wanted = wantedWall(model, catalog);
  const blockers = [...modelBlockers(model, catalog, wanted), ...wanted.blockers, ...roleBlockers(model, catalog)];
  if (blockers.length > 0) return { steps: [], blockers, residuals: wanted.residuals };
  const expand = planExpand(model, catalog, wanted);
  const contract = planContract(model, catalog, wanted);
  const phase = catalog.runtime?.facts?.['phase'];
  const gate: WallStep = {
    id: 'switch/connections',
    phase: 'switch',
    title: `connect the application as ${model.roles.app} through a walled pool`,
    reason: 'contract binds every role but the system and service ones: an application on the old connection would be refused',
    lock: 'none',
    action: { kind: 'gate' },
  };
  return { steps: [...expand, ...(phase === 'contract' ? [] : [gate]), ...contract], blockers: [], residuals: wanted.residuals };
}
