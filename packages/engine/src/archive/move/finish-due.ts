import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { finishMove } from './move-tenant.ts';
import { dueMoves } from './moves.ts';
import type { Placements } from './placements.ts';

/** Tenants of one run; the next run takes the next ones. */
const dueMax = 100;

/** What became of every tenant whose old rows were due. */
export interface FinishedMoves {
  readonly due: number;
  readonly visited: number;
  readonly finished: readonly { readonly tenant: string; readonly rows: number }[];
  readonly failed: readonly { readonly tenant: string; readonly problem: string }[];
}

/** Removes the old rows of tenants whose grace has ended, longest over first, at most a hundred. One that is refused keeps no other from being finished. */
export async function finishDueMoves(operation: Operation, placements: Placements): Promise<FinishedMoves> {
  const due = await dueMoves(operation.database.pool, operation.database.clock(), dueMax);
  const finished: { tenant: string; rows: number }[] = [];
  const failed: { tenant: string; problem: string }[] = [];
  for (const { tenant } of due) {
    operation.signal?.throwIfAborted();
    try {
      finished.push({ tenant, rows: (await finishMove(operation, placements, { tenant })).rows });
    } catch (error) {
      if (!(error instanceof PartywallError)) throw error;
      failed.push({ tenant, problem: error.message });
    }
  }
  return { due: due.length, visited: finished.length + failed.length, finished, failed };
}
