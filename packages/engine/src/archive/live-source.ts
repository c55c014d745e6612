import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { readCatalog } from '../catalog/read-catalog.ts';
import type { Operation } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';
import { directoryEntry, openTransfer, pinTexts } from '../tenants/transfer/session.ts';
import { only, rowsQuery, scopedRelations, type TransferTable, transferTables } from '../tenants/transfer/tables.ts';
import { wholeLines } from './export/whole-lines.ts';
import type { SourceTable, TenantSource } from './tenant-source.ts';

/** A table that is being rebuilt is waited for this long. */
const lockTimeoutMs = 10_000;

/** The rows that a tenant has in the live database, as of one snapshot, on a connection of its own. */
export interface LiveSource extends TenantSource {
  readonly tables: readonly (SourceTable & { readonly transfer: TransferTable })[];
  /** Gives the connection back. Further calls do nothing. */
  close(): void;
}

/**
 * Opens one snapshot of a tenant. Every table is locked against TRUNCATE and rebuilding before the snapshot is taken: either would leave it
 * nothing to read. Writers are not kept from anything. Rows come in the order of their keys, the same in every database, and whoever stops
 * reading a table before its end can read no other.
 *
 * @throws PartywallError tenant_unknown, transfers_busy
 */
export async function liveSource({ database, signal }: Operation, tenant: string): Promise<LiveSource> {
  const { model, clock, pool } = database;
  await directoryEntry(pool, tenant);
  const { client, close } = await openTransfer(database);
  let reading = false;
  try {
    const tables = await openSnapshot(client, model, tenant);
    return {
      tenant,
      at: clock(),
      description: 'the live database',
      tables,
      rows: async function* (table) {
        const found = tables.find(({ name }) => name === table.name);
        if (!found) throw new TypeError(`${table.name} is no table of this source`);
        if (reading) throw new Error('a live source gives one table at a time');
        reading = true;
        for await (const lines of wholeLines(client.query(copyTo(`copy (${rowsQuery(found.transfer, tenant)}) to stdout`)))) {
          signal?.throwIfAborted();
          yield lines;
        }
        reading = false;
      },
      close: () => {
        // In the middle of a COPY only the end of the connection stops the server.
        if (reading) close(false);
        else
          client.query('rollback').then(
            () => close(true),
            () => close(false),
          );
      },
    };
  } catch (error) {
    close(false);
    throw error;
  }
}

/** The tables of tenants with every column, also those that the lifecycle alone may change. */
export function sourceTables(client: pg.ClientBase, model: TenancyModel, catalog: Awaited<ReturnType<typeof readCatalog>>): Promise<TransferTable[]> {
  const { status: _status, profile, ...tenant } = model.tenant;
  const { plan: _plan, ...others } = profile;
  return transferTables(client, { ...model, tenant: { ...tenant, status: undefined, profile: others } }, catalog);
}

async function openSnapshot(client: pg.ClientBase, model: TenancyModel, tenant: string): Promise<LiveSource['tables']> {
  const catalog = await readCatalog(client);
  await client.query('begin isolation level repeatable read, read only');
  await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
  const names = scopedRelations(model, catalog).map(({ table }) => quoted(table));
  await client.query(`lock table ${names.join(', ')} in access share mode`);
  await pinTexts(client);
  const transfers = await sourceTables(client, model, catalog);
  const tables: (SourceTable & { transfer: TransferTable })[] = [];
  for (const transfer of transfers) {
    const { relation, columns, key, tenantColumn } = transfer;
    const { rows } = await client.query<{ count: string }>(`select count(*) from ${only(relation)} t where t.${ident(tenantColumn)} = $1`, [tenant]);
    tables.push({
      name: relation.table,
      columns: columns.map(({ name, type }) => ({ name, type })),
      key,
      tenantColumn,
      count: Number(rows[0]?.count ?? 0),
      transfer,
    });
  }
  return tables;
}
