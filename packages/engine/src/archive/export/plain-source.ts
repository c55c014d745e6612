import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { type Catalog, columnOf, type Relation } from '../../catalog/catalog.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { sqlState } from '../../db/connect.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import { byReference, only, scopedRelations } from '../../tenants/transfer/tables.ts';
import { schemaDdl } from '../schema/schema-ddl.ts';
import { writeSchema } from '../schema/schema-document.ts';
import type { SourceTable, TenantSource } from '../tenant-source.ts';
import { refuseDrift } from './refuse-drift.ts';
import { rowOwner } from './row-owner-sql.ts';
import { wholeLines } from './whole-lines.ts';

/** A table that is being rebuilt is waited for this long. */
const lockTimeoutMs = 10_000;

export interface PlainSourceOptions {
  readonly clock: () => Date;
  /** For the description: where the client is connected to. */
  readonly target: string;
  /** The caller named the schema that is asked for: tables of others are left. Else a table elsewhere that looks like a tenant's is refused. */
  readonly schemaNamed?: boolean;
}

/** A source that holds a snapshot of its database open. */
export interface PlainSource extends TenantSource {
  readonly catalog: Catalog;
  /** Ends the snapshot and the connection. */
  close(): Promise<void>;
}

/**
 * One tenant's rows of a PostgreSQL database that Partywall has not touched: no wall, no control plane, the model alone. Rows are found by their tenant
 * column, or through their parents where only the wall would have added one. All is one snapshot, and tables are locked (ACCESS SHARE) before it is
 * taken, because a TRUNCATE that commits in between would leave it nothing to read. The client is the source's from here on, also where this fails.
 *
 * @throws PartywallError tenant_unknown, model_unclassified, model_drift, phase_refused, permission_missing (row level security binds this role)
 */
export async function plainSource(client: pg.Client, model: TenancyModel, tenant: string, options: PlainSourceOptions): Promise<PlainSource> {
  try {
    const catalog = await readCatalog(client);
    refuseDrift(model, catalog, { where: options.target, schemaNamed: options.schemaNamed });
    const relations = byReference(scopedRelations(model, catalog));
    await client.query('begin isolation level repeatable read, read only');
    await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
    await client.query(`lock table ${relations.map(({ table }) => quoted(table)).join(', ')} in access share mode`);
    await pinTexts(client);
    const at = options.clock();
    const missing = (): PartywallError =>
      new PartywallError('tenant_unknown', `looking for tenant ${tenant.slice(0, 100)} in ${options.target}: there is none`);
    if (tenant.includes('\0')) throw missing();
    const root = await client.query(`select from ${quoted(model.tenant.table)} where ${ident(model.tenant.key)}::text = $1`, [tenant]);
    if (root.rowCount === 0) throw missing();
    const owner = rowOwner(model, catalog, quoted);
    const where = new Map(relations.map(({ table }) => [table, owner.isOf(table, 't', literal(tenant))]));
    const byName = new Map(relations.map((relation) => [relation.table, relation]));
    const tables: SourceTable[] = [];
    for (const relation of relations) {
      const { rows } = await client.query<{ count: string }>(`select count(*) as count from ${only(relation)} t where ${where.get(relation.table)}`);
      tables.push(tableOf(model, relation, Number(rows[0]?.count)));
    }
    return {
      tenant,
      at,
      description: `database ${options.target}`,
      tables,
      catalog,
      schema: async () => writeSchema(await schemaDdl(client)),
      rows: (table) => copied(client, rowsQuery(byName, table, where.get(table.name) ?? 'false')),
      // Not a rollback: where rows were not read to their end the server is still sending them.
      close: () => client.end(),
    };
  } catch (error) {
    await client.end();
    throw explained(error, options.target);
  }
}

function tableOf(model: TenancyModel, relation: Relation, count: number): SourceTable {
  const rule = model.tables.get(relation.table);
  const key = relation.indexes.find(({ primary }) => primary)?.columns.flatMap((name) => name ?? []) ?? [];
  return {
    name: relation.table,
    columns: relation.columns.filter(({ generated }) => !generated).map(({ name, type }) => ({ name, type })),
    key,
    tenantColumn: rule?.scope === 'scoped' ? rule.column : model.tenant.key,
    count,
  };
}

function rowsQuery(relations: ReadonlyMap<TableName, Relation>, table: SourceTable, where: string): string {
  const relation = relations.get(table.name);
  if (!relation) throw new PartywallError('backup_refused', `reading ${table.name}: it is no table of the source`);
  const columns = table.columns.map(({ name }) => `t.${ident(name)}`).join(', ');
  const order = table.key.filter((name) => columnOf(relation, name)).map((name) => `t.${ident(name)}`);
  return `select ${columns} from ${only(relation)} t where ${where}${order.length > 0 ? ` order by ${order.join(', ')}` : ''}`;
}

function copied(client: pg.Client, query: string): AsyncIterable<Buffer> {
  return wholeLines(client.query(copyTo(`copy (${query}) to stdout`)));
}

function explained(error: unknown, target: string): unknown {
  if (sqlState(error) !== '42501') return error;
  return new PartywallError('permission_missing', `reading the tenant's rows in ${target}: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
    hint: 'connect as the owner of the tables, or as a role with BYPASSRLS: row level security would leave rows out',
  });
}
