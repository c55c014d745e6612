import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { ident, identList, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import { digestRows } from './copy-lines.ts';
import type { RecoveryPlan, RecoveryTable, RecoveryTier } from './plan-recovery.ts';
import { progressSchema } from './target.ts';

/**
 * Compares the rows of every table with what was loaded, and with the manifest where nothing was left out.
 *
 * @throws PartywallError archive_damaged
 */
export async function checkTotals(client: pg.ClientBase, plan: RecoveryPlan): Promise<number> {
  const { rows } = await client.query<{ name: string; rows: string }>(
    `select c.key as name, sum(c.value::bigint)::text as rows from ${progressSchema}.done d, jsonb_each_text(d.counts) c group by 1`,
  );
  const loaded = new Map(rows.map((row) => [row.name, Number(row.rows)]));
  const isWhole = plan.erased === 0 && plan.leftOut.length === 0;
  let total = 0;
  for (const { name, stored } of plan.tables) {
    const found = await client.query<{ rows: string }>(`select count(*) as rows from ${sourceOf(plan, name)}`);
    const there = Number(found.rows[0]?.rows ?? 0);
    const expected = loaded.get(name) ?? 0;
    if (there !== expected) throw damaged(name, `${there} rows are there, and ${expected} were loaded`);
    if (isWhole && stored.rows !== expected) throw damaged(name, `${expected} rows were loaded, and the manifest promises ${stored.rows}`);
    total += there;
  }
  return total;
}

/** Rows of each table of each tenant of a tier against their pages. @throws PartywallError archive_damaged */
export async function checkCounts(client: pg.ClientBase, plan: RecoveryPlan, { subjects }: RecoveryTier): Promise<number> {
  const counts = new Map<string, ReadonlyMap<string, number>>();
  for (const { name, stored } of ofTenants(plan)) {
    const { rows } = await client.query<{ tenant: string; rows: string }>(
      `select t.${ident(stored.tenantColumn ?? '')}::text as tenant, count(*) as rows from ${sourceOf(plan, name)} t group by 1`,
    );
    counts.set(name, new Map(rows.map((row) => [row.tenant, Number(row.rows)])));
  }
  let checked = 0;
  for (const { ref, tenant } of subjects) {
    const page = await plan.backup.page(ref);
    for (const { name, stored } of ofTenants(plan)) {
      const expected = page.tables.find(({ table }) => table === stored.name)?.rows ?? 0;
      const there = counts.get(name)?.get(tenant ?? '') ?? 0;
      if (there !== expected) throw damaged(name, `tenant ${tenant} has ${there} rows there, and its page promises ${expected}`);
      checked += there;
    }
  }
  return checked;
}

/** Every row of each tenant of a tier against the backup. @throws PartywallError archive_damaged */
export async function checkContent(client: pg.Client, plan: RecoveryPlan, { subjects }: RecoveryTier): Promise<number> {
  let checked = 0;
  for (const { ref, tenant } of subjects) {
    const page = await plan.backup.page(ref);
    await client.query('begin isolation level repeatable read, read only');
    await pinTexts(client);
    for (const { name, stored } of ofTenants(plan)) {
      const segments = page.tables.find(({ table }) => table === stored.name)?.segments ?? [];
      const kept = await digestRows(plan.backup.segments(ref, stored.name, segments));
      const columns = identList(stored.columns.map((column) => column.name));
      const live = await digestRows(
        client.query(
          copyTo(
            `copy (select ${columns} from ${sourceOf(plan, name)} t where ${ident(stored.tenantColumn ?? '')}::text = ${literal(tenant ?? '')}) to stdout`,
          ),
        ),
      );
      if (live.rows !== kept.rows || live.digest !== kept.digest) throw damaged(name, `the rows of tenant ${tenant} are not those of the backup`);
      checked += live.rows;
    }
    await client.query('commit');
  }
  return checked;
}

/** Tables of the application whose rows are a tenant's. */
function ofTenants({ tables }: RecoveryPlan): readonly RecoveryTable[] {
  return tables.filter(({ stored }) => stored.tenantColumn !== null && stored.class === 'database');
}

/** A partitioned table by its partitions, any other without those that inherit from it: so a backup reads them. */
export function sourceOf({ schema }: Pick<RecoveryPlan, 'schema'>, name: RecoveryTable['name']): string {
  const partitioned = schema.items.some(({ kind, table, statements }) => kind === 'table' && table === name && / partition by /.test(statements[0] ?? ''));
  return partitioned ? quoted(name) : `only ${quoted(name)}`;
}

function damaged(table: string, what: string): PartywallError {
  return new PartywallError('archive_damaged', `comparing ${table} with the backup: ${what}`);
}
