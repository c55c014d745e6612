import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { findMovedConflicts } from './conflicts.ts';
import { deleteMovedSql, deleteSql, insertSql, type StagedTable, unlinkSql, updateSql } from './difference-sql.ts';
import { restoringSetting } from './restoring-sql.ts';
import { holdBalance, readBalance } from './row-balance.ts';

/** A second round puts right what cascades and triggers of the first have changed; what needs more does not settle. */
const roundsMax = 4;

export interface Difference {
  readonly tenant: string;
  readonly catalog: Catalog;
  /** In the order of their references. */
  readonly tables: readonly StagedTable[];
  /** By table: rows to come less rows to go. */
  readonly net: ReadonlyMap<string, number>;
}

/**
 * Changes the tenant's rows in the transaction of `client` until they are the staged ones. Returns how
 * many rows that took.
 *
 * What is new is inserted before what is gone is deleted, so that nothing refers into the void at any time. Where unique values move between
 * rows that cannot be, and the gone and the moved are deleted first; what cascades take along comes back with the next round.
 *
 * @throws PartywallError import_conflict
 */
export async function applyDifference(client: pg.ClientBase, { tenant, catalog, tables, net }: Difference): Promise<number> {
  await client.query(`select set_config('${restoringSetting}', 'on', true)`);
  await client.query('set constraints all deferred');
  const run = async (statements: readonly (string | undefined)[]): Promise<number> => {
    let changed = 0;
    for (const statement of statements) if (statement !== undefined) changed += (await client.query(statement, [tenant])).rowCount ?? 0;
    return changed;
  };
  const backwards = tables.toReversed();
  const inserts = tables.filter(({ isRoot }) => !isRoot).map(insertSql);
  const deletes = [...backwards.map(unlinkSql), ...backwards.filter(({ isRoot }) => !isRoot).map(deleteSql)];
  const gently = [...inserts, ...tables.map(updateSql), ...deletes];
  const deletingFirst = [...deletes, ...backwards.map(deleteMovedSql), ...inserts, ...tables.map(updateSql)];

  let statements = gently;
  let balance = await readBalance(client, tables);
  let total = 0;
  for (let round = 1; round <= roundsMax; round += 1) {
    await client.query('savepoint round');
    let changed = 0;
    try {
      changed = await run(statements);
      await client.query('set constraints all immediate');
      await client.query('set constraints all deferred');
    } catch (error) {
      if (!wantsRoom(error) || statements === deletingFirst) throw error;
      await client.query('rollback to savepoint round');
      const conflicts = await findMovedConflicts(client, tenant, catalog, tables);
      if (conflicts.length > 0) throw new PartywallError('import_conflict', `restoring tenant ${tenant}: ${conflicts[0]}`, { details: conflicts });
      statements = deletingFirst;
      balance = await readBalance(client, tables);
      continue;
    }
    await client.query('release savepoint round');
    if (changed === 0) {
      await holdBalance(client, tables, balance, net);
      await client.query(`select set_config('${restoringSetting}', 'off', true)`);
      return total;
    }
    total += changed;
  }
  throw new PartywallError('import_conflict', `restoring tenant ${tenant}: its rows do not settle; a trigger of the application keeps changing them`);
}

/** unique_violation, exclusion_violation: another row still has the value. */
function wantsRoom(error: unknown): boolean {
  const state = sqlState(error);
  return state === '23505' || state === '23P01';
}
