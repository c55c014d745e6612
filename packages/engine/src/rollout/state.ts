import type { RolloutMode } from '@partywall/wall';
import type pg from 'pg';

/** One mode, as an operator has set it. Specific goes before general: tenant, percent, all; a table is open beside any of them. */
export interface ModeRow {
  readonly scope: 'all' | 'percent' | 'tenant' | 'table';
  /** Empty for all; the percentage; the tenant's key; `schema.table`. */
  readonly target: string;
  readonly mode: RolloutMode;
  readonly changedAt: Date;
  readonly changedBy: string | null;
  readonly reason: string | null;
}

/** All modes that are set; nothing set means enforce. */
export async function readModes(client: pg.ClientBase | pg.Pool): Promise<ModeRow[]> {
  const { rows } = await client.query<ModeRow>(
    `select scope, target, mode, changed_at as "changedAt", changed_by as "changedBy", reason from partywall.rollout order by scope, target`,
  );
  return rows;
}

/** Whether anybody or anything is observed. */
export function observes(rows: readonly Pick<ModeRow, 'mode'>[]): boolean {
  return rows.some(({ mode }) => mode === 'observe');
}
