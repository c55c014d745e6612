import type { Catalog } from '../../catalog/catalog.ts';
import { ident } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted } from '../../model/table-name.ts';
import type { WantedTable } from '../../wall/shape.ts';
import type { AttackRuleId } from '../rules/rules.ts';
import type { AttackResult } from './attack-result.ts';
import type { Bed, Planted } from './plant.ts';
import type { Transaction } from './transaction.ts';

/** The tenants of a run. `nobody` is a well-formed id that no tenant has: whatever it reaches is somebody else's. */
export interface Cast {
  readonly victim: string;
  readonly attacker: string;
  readonly nobody: string;
}

/** One walled table under attack: the victim's row is there, and every attack starts from this state. */
export interface Scene {
  readonly tx: Transaction;
  readonly bed: Bed;
  readonly table: WantedTable;
  readonly cast: Cast;
  /** The victim's row. */
  readonly mine: Planted;
  /** Planted for this run, so the victim itself may change and delete it as a control. */
  readonly planted: boolean;
  readonly model: TenancyModel;
  readonly catalog: Catalog;
}

/** An attack on one table. It runs in a savepoint that is undone. */
export interface TableAttack {
  readonly rules: readonly AttackRuleId[];
  run(scene: Scene): Promise<AttackResult[]>;
}

export function nameOf(scene: Scene): string {
  return quoted(scene.table.relation.table);
}

export function tenantOf(scene: Scene): string {
  return ident(scene.table.column);
}

/**
 * A RETURNING list that reads no column, so that the policies of SELECT are not asked, and fails on the first row that the statement's
 * own policies let pass: nothing is changed, locked or scanned further. It is no WHERE clause: one that reads no column tells nothing
 * of a row, so PostgreSQL evaluates it before the policy, on every row of the table.
 */
export const tripwire = '1 / (case when pg_catalog.random() < 2 then 0 else 1 end)';
export const tripped = '22012';
