import type { TransferTable } from '../../tenants/transfer/tables.ts';
import { type CloneTable, problemsOf, waiting } from '../clone/plan-clone.ts';
import type { Alignment } from '../restore/align.ts';

export interface CopyPlan {
  readonly tables: readonly CloneTable[];
  /** What stands in the way, a line each. */
  readonly problems: readonly string[];
}

/** How a tenant is written with the ids it has: the form of a clone in which every column is kept. */
export function planCopy(live: readonly TransferTable[], alignment: Alignment): CopyPlan {
  const problems = problemsOf(alignment, live);
  const aligned = new Map(alignment.tables.map((table) => [table.live.relation.table, table]));
  const tables = live.map((table, at): CloneTable => {
    const from = aligned.get(table.relation.table);
    const rows = from?.source.count ?? 0;
    const { deferred, whole, stuck } = waiting(table, live.slice(at), rows);
    problems.push(...stuck);
    return { table, rows, columns: (from?.live.columns ?? []).map(({ name, type }) => ({ name, type, fill: { kind: 'kept' } })), deferred, whole };
  });
  return { tables, problems };
}
