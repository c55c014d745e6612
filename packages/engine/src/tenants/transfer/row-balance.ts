import type pg from 'pg';
import { PartywallError } from '../../errors.ts';
import type { TransferTable } from './tables.ts';

/** Rows inserted less rows deleted in this transaction, by table: by whatever statement, cascade or trigger, of whatever tenant. */
export type RowBalance = ReadonlyMap<number, bigint>;

/** The server counts for each partition, and goes on counting what a rolled-back savepoint did: compare two balances that have none in between. */
const balanceSql = `select t.oid::int8::text::float8 as oid, sum(pg_catalog.pg_stat_get_xact_tuples_inserted(p.relid) - pg_catalog.pg_stat_get_xact_tuples_deleted(p.relid))::text as balance
from unnest($1::oid[]) t (oid) cross join lateral (select relid::oid from pg_catalog.pg_partition_tree(t.oid) union select t.oid) p (relid) group by t.oid`;

/** @throws PartywallError import_conflict where the server does not count */
export async function readBalance(client: pg.ClientBase, tables: readonly TransferTable[]): Promise<RowBalance> {
  const { rows: settings } = await client.query<{ counts: string }>("select current_setting('track_counts') as counts");
  if (settings[0]?.counts !== 'on')
    throw new PartywallError('import_conflict', 'restoring a tenant: track_counts is off, so nothing tells that no neighbour is touched');
  const { rows } = await client.query<{ oid: number; balance: string }>(balanceSql, [tables.map(({ relation }) => relation.oid)]);
  return new Map(rows.map(({ oid, balance }) => [oid, BigInt(balance)]));
}

/**
 * Holds what came and went in each table since `before` to what the tenant's own rows account for: a row more or less is a neighbour's.
 *
 * @throws PartywallError import_conflict
 */
export async function holdBalance(
  client: pg.ClientBase,
  tables: readonly TransferTable[],
  before: RowBalance,
  own: ReadonlyMap<string, number>,
): Promise<void> {
  const after = await readBalance(client, tables);
  const strange = tables.filter(({ relation: { oid, table } }) => (after.get(oid) ?? 0n) - (before.get(oid) ?? 0n) !== BigInt(own.get(table) ?? 0));
  if (strange.length === 0) return;
  const names = strange.map(({ relation }) => relation.table);
  throw new PartywallError('import_conflict', `restoring a tenant: a trigger or cascade takes rows of another tenant along in ${names[0]}`, { details: names });
}
