import { randomInt } from 'node:crypto';
import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { only, type TransferTable } from '../../tenants/transfer/tables.ts';
import { effectiveRule } from '../../wall/shape.ts';

/**
 * Hashes of rows, added up in the database so that nothing but sums leaves it. The seed is drawn for each restore: nobody can prepare rows whose
 * hashes meet. Order does not matter, how often a row is there does.
 */
const seedMax = 2 ** 47;

export function drawSeed(): number {
  return randomInt(seedMax);
}

/** What `--prove hash` compared. */
export interface NeighbourProof {
  /** Other tenants with rows. */
  readonly tenants: number;
  /** Tables of the application, all of them. */
  readonly tables: number;
}

const listedMax = 20;

/**
 * Writes down a hash of what each other tenant, and nobody, has in each table of the application. In a transaction with one snapshot: what others commit
 * meanwhile is not seen, so that what differs later was this transaction.
 */
export async function hashNeighbours(
  client: pg.ClientBase,
  {
    tenant,
    model,
    catalog,
    seed,
    as,
  }: { readonly tenant: string; readonly model: TenancyModel; readonly catalog: Catalog; readonly seed: number; readonly as: 'before' | 'after' },
): Promise<NeighbourProof> {
  await client.query(`create temporary table partywall_${as} (name text, tenant text not null, rows bigint, sum numeric) on commit drop`);
  const relations = [...catalog.relations.values()].filter(
    ({ kind, isPartition, extension }) => (kind === 'table' || kind === 'partitioned') && !isPartition && !extension,
  );
  for (const relation of relations) {
    const rule = effectiveRule(model, catalog, relation);
    const column = rule === 'root' ? model.tenant.key : rule?.scope === 'scoped' ? rule.column : undefined;
    const owner = column === undefined ? 'null::text' : `t.${ident(column)}::text`;
    await client.query(
      `insert into pg_temp.partywall_${as} select ${literal(relation.table)}, coalesce(${owner}, ''), count(*), sum(pg_catalog.hashtextextended(t::text, ${seed}))
from ${only(relation)} t where ${owner} is distinct from $1 group by 2`,
      [tenant],
    );
  }
  const { rows } = await client.query<{ tenants: string }>(`select count(distinct tenant) as tenants from pg_temp.partywall_${as} where tenant <> ''`);
  return { tenants: Number(rows[0]?.tenants ?? 0), tables: relations.length };
}

/** @throws PartywallError restore_conflict, naming tables and tenants that are not as they were */
export async function compareNeighbours(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ name: string; tenant: string }>(
    `select name, tenant from pg_temp.partywall_before b full join pg_temp.partywall_after a using (name, tenant)
where (a.rows, a.sum) is distinct from (b.rows, b.sum) order by 1, 2 limit ${listedMax}`,
  );
  if (rows.length === 0) return;
  const details = rows.map(({ name, tenant }) => `${name}: rows of ${tenant === '' ? 'no tenant' : `tenant ${tenant}`} changed`);
  throw new PartywallError('restore_conflict', `proving that no neighbour changed: ${details[0]}`, { details });
}

/** Whether the tenant's live rows are the staged ones, read anew and with the rights of the service. @throws PartywallError restore_conflict */
export async function compareOwn(client: pg.ClientBase, tenant: string, tables: readonly StagedTable[]): Promise<void> {
  const seed = drawSeed();
  for (const table of tables) {
    const live = await hashOf(client, table, { from: `${only(table.relation)} r where r.${ident(table.tenantColumn)} = ${literal(tenant)}`, seed });
    const staged = await hashOf(client, table, { from: `${table.stage} r`, seed });
    if (live !== staged) throw new PartywallError('restore_conflict', `comparing ${table.relation.table} with what was restored: its rows are others`);
  }
}

async function hashOf(client: pg.ClientBase, { columns }: TransferTable, { from, seed }: { readonly from: string; readonly seed: number }): Promise<string> {
  const row = `row(${columns.map(({ name }) => `r.${ident(name)}`).join(', ')})::text`;
  const { rows } = await client.query<{ hash: string }>(
    `select count(*) || ' ' || coalesce(sum(pg_catalog.hashtextextended(${row}, ${seed})), 0) as hash from ${from}`,
  );
  return rows[0]?.hash ?? '';
}
