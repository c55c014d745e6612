import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import { tenantLockPrefix } from '../../wall/runtime.ts';
import { countsSql, type StagedTable } from './difference-sql.ts';

/** Whoever is inside the tenant may finish for so long; then the restore gives up and nothing has changed. */
const fenceTimeoutMs = 15_000;

/** Rows of a table by what a restore does with them. */
export interface TableChange {
  readonly table: string;
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
  readonly unchanged: number;
}

/** Rows that a restore inserts, updates and deletes. */
export function changedRows(changes: readonly TableChange[]): number {
  return changes.reduce((sum, { inserted, updated, deleted }) => sum + inserted + updated + deleted, 0);
}

/** Rows that the tenant gains in each table. */
export function netOf(changes: readonly TableChange[]): ReadonlyMap<string, number> {
  return new Map(changes.map(({ table, inserted, deleted }) => [table, inserted - deleted]));
}

/** Keeps everybody out of the tenant until the transaction ends, whatever becomes of this process. Entering takes the same lock shared. */
export async function keepOut(client: pg.ClientBase, tenant: string): Promise<void> {
  await client.query(`set local lock_timeout = ${fenceTimeoutMs}`);
  await client.query('select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))', [`${tenantLockPrefix}${tenant}`]);
}

/** What the staged rows change, table by table. */
export async function countChanges(client: pg.ClientBase, tenant: string, tables: readonly StagedTable[]): Promise<TableChange[]> {
  const changes: TableChange[] = [];
  for (const table of tables) {
    const { rows } = await client.query<Record<'inserted' | 'updated' | 'deleted' | 'unchanged', string>>(countsSql(table), [tenant]);
    const count = (kind: 'inserted' | 'updated' | 'deleted' | 'unchanged'): number => Number(rows[0]?.[kind] ?? 0);
    changes.push({
      table: table.relation.table,
      inserted: count('inserted'),
      updated: count('updated'),
      deleted: count('deleted'),
      unchanged: count('unchanged'),
    });
  }
  return changes;
}

/** Triggers of the application that fire when the table's rows change: `schema.table: name (function)`. */
export function triggersOf({ relation }: StagedTable): string[] {
  return relation.triggers
    .filter((trigger) => trigger.enabled !== 'disabled' && trigger.enabled !== 'replica' && !/^partywall(?:_control)?\./.test(trigger.function))
    .map((trigger) => `${relation.table}: ${trigger.name} (${trigger.function})`);
}

/** What the rows themselves cause: constraints, quotas, triggers that raise. The server's own troubles stay what they are. */
export function refusedByDatabase(error: unknown, tenant: string): unknown {
  const state = sqlState(error);
  if (!(error instanceof Error) || state === undefined || !/^(?:22|23|27|44|P0|PW|0A|42)/.test(state)) return error;
  const named = ['table', 'column', 'constraint'].flatMap((part) => {
    const name: unknown = Reflect.get(error, part);
    return typeof name === 'string' ? [`${part} ${name}`] : [];
  });
  // The words of a trigger and of a quota are made to be read; those of a constraint may hold values.
  const what = /^P[0W]/.test(state) ? error.message.slice(0, 200) : [...named, `SQLSTATE ${state}`].join(', ');
  return new PartywallError('import_conflict', `restoring tenant ${tenant}: the database refuses: ${what}`, { cause: error });
}
