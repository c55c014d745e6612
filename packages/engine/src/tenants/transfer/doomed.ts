import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { openStages } from './bound.ts';
import { gone, mine, moved, type StagedTable } from './difference-sql.ts';
import { foreignKeys, only } from './tables.ts';

/** A table with the keys of its rows that have to go before others come. */
export interface DoomedTable {
  readonly table: StagedTable;
  /** SQL name of the temporary table with their keys. */
  readonly doomed: string;
}

/** Rows of one table that must refer to each other, one after the other. */
const depthMax = 1_000;

/**
 * Writes down which rows have to make room: those that are gone or moved, and those that must refer to one of them and would keep it from going. All
 * but the gone are inserted again.
 */
export async function markDoomed(
  client: pg.ClientBase,
  { tenant, model, tables }: { tenant: string; model: TenancyModel; tables: readonly StagedTable[] },
): Promise<DoomedTable[]> {
  const found: DoomedTable[] = [];
  for (const [at, table] of tables.entries()) {
    const doomed = `pg_temp.partywall_doomed_${at}`;
    const keys = table.key.map((name) => `t.${ident(name)}`).join(', ');
    await client.query(`create temporary table partywall_doomed_${at} on commit drop as select ${keys} from ${only(table.relation)} t with no data`);
    found.push({ table, doomed });
    // The root's own row stays whatever happens.
    if (table.isRoot) continue;
    const why = [gone(table), moved(table)].flatMap((condition) => (condition === undefined ? [] : [`(${condition})`]));
    await client.query(`insert into ${doomed} select ${keys} from ${only(table.relation)} t where ${why.join(' or ')}`, [tenant]);
    for (let depth = 0; depth < depthMax; depth += 1) if ((await followReferences(client, tenant, { table, doomed }, found)) === 0) break;
  }
  await openStages(
    client,
    model,
    found.map(({ doomed }) => doomed),
  );
  return found;
}

/** Lets rows that stay let go of doomed ones, where they may refer to nothing; what they refer to in the end comes with their update. */
export function loosenSql({ table }: DoomedTable, found: readonly DoomedTable[]): string | undefined {
  const loose = references(table, found).flatMap(({ columns, held }) => {
    const free = columns.filter((name) => name !== table.tenantColumn && isNullable(table, name));
    return free.length === 0 ? [] : [{ free, held }];
  });
  if (loose.length === 0) return undefined;
  const set = [...new Set(loose.flatMap(({ free }) => free))].map((name) => `${ident(name)} = null`).join(', ');
  return `update ${only(table.relation)} t set ${set} where ${mine(table)} and (${loose.map(({ held }) => held).join(' or ')})`;
}

export function deleteDoomedSql({ table, doomed }: DoomedTable): string | undefined {
  return table.isRoot ? undefined : `delete from ${only(table.relation)} t where ${mine(table)} and ${isDoomed(table, doomed)}`;
}

async function followReferences(client: pg.ClientBase, tenant: string, own: DoomedTable, found: readonly DoomedTable[]): Promise<number> {
  const { table, doomed } = own;
  const bound = references(table, found).filter(({ columns }) => !columns.some((name) => isNullable(table, name)));
  if (bound.length === 0) return 0;
  const keys = table.key.map((name) => `t.${ident(name)}`).join(', ');
  const { rowCount } = await client.query(
    `insert into ${doomed} select ${keys} from ${only(table.relation)} t where ${mine(table)} and (${bound.map(({ held }) => held).join(' or ')}) and not ${isDoomed(table, doomed)}`,
    [tenant],
  );
  return rowCount ?? 0;
}

/** Foreign keys to a row that may be doomed, with the condition that the one of `t` is. */
function references(table: StagedTable, found: readonly DoomedTable[]): { columns: readonly string[]; held: string }[] {
  return foreignKeys(table.relation).flatMap(({ columns, foreign }) => {
    const parent = found.find(({ table: { relation } }) => relation.table === foreign.table);
    // Cascades and SET NULL make room by themselves.
    if (!parent || (foreign.onDelete !== 'no action' && foreign.onDelete !== 'restrict')) return [];
    const on = columns.map((name, at) => `p.${ident(foreign.columns[at] ?? '')} = t.${ident(name)}`).join(' and ');
    const match = parent.table.key.map((name) => `d.${ident(name)} = p.${ident(name)}`).join(' and ');
    return [{ columns, held: `exists (select from ${only(parent.table.relation)} p join ${parent.doomed} d on ${match} where ${on})` }];
  });
}

function isDoomed({ key }: StagedTable, doomed: string): string {
  return `exists (select from ${doomed} d where ${key.map((name) => `d.${ident(name)} = t.${ident(name)}`).join(' and ')})`;
}

function isNullable({ relation }: StagedTable, name: string): boolean {
  return relation.columns.some((column) => column.name === name && !column.notNull);
}
