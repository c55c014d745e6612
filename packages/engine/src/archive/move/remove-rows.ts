import { type Operation, transaction } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import { deleteGroup } from '../../tenants/erase/delete-rows.ts';
import { readErasurePlan } from '../../tenants/erase/erase.ts';
import type { ErasureGroup, ErasurePlan } from '../../tenants/erase/erasure-plan.ts';
import { countTenant } from '../../tenants/erase/row-changes.ts';

/** A trigger that keeps history may add rows while others go; more rounds than this mean that something writes on. */
const passesMax = 5;

/**
 * Deletes the rows of a tenant that lives elsewhere, in batches that prove that no neighbour's row went along. The root's row stays: it is the
 * tenant's entry in this database, by which it is known where it is. Running it again goes on.
 *
 * @param id the operation that progress is reported to
 * @throws PartywallError erasure_refused
 */
export async function removeRows({ database }: Operation, tenant: string, id: string): Promise<void> {
  const { pool, model } = database;
  for (let pass = 1; pass <= passesMax; pass += 1) {
    const plan = await readErasurePlan(database);
    const groups = withoutRoot(plan, model.tenant.table);
    const counts = await countTenant(
      pool,
      groups.flatMap((group) => group.tables),
      tenant,
    );
    if ([...counts.values()].every((count) => count === 0)) return;
    await letGo(database, tenant);
    for (const group of groups) await deleteGroup({ pool, tenant, plan, id }, group);
  }
  throw new PartywallError('erasure_refused', `removing the rows of tenant ${JSON.stringify(tenant)}: they keep coming back`);
}

/** Rows that the tenant has in the database beside its root's. */
export async function countRowsLeft({ database }: Operation, tenant: string): Promise<number> {
  const groups = withoutRoot(await readErasurePlan(database), database.model.tenant.table);
  const counts = await countTenant(
    database.pool,
    groups.flatMap((group) => group.tables),
    tenant,
  );
  return [...counts.values()].reduce((sum, count) => sum + count, 0);
}

function withoutRoot(plan: ErasurePlan, root: string): ErasureGroup[] {
  return plan.groups.map(({ tables, whole }) => ({ tables: tables.filter(({ table }) => table !== root), whole })).filter(({ tables }) => tables.length > 0);
}

/** The root's own references to rows of the tenant would keep these from going. */
async function letGo({ pool, model }: Operation['database'], tenant: string): Promise<void> {
  const { table, key } = model.tenant;
  const scoped = [...model.tables].flatMap(([name, rule]) => (rule.scope === 'scoped' ? [quoted(name)] : []));
  await transaction(pool, async (client) => {
    const { rows } = await client.query<{ name: string }>(
      `select distinct a.attname as name from pg_catalog.pg_constraint c join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and a.attnum = any (c.conkey)
where c.contype = 'f' and c.conrelid = $1::regclass and c.confrelid in (select r::regclass from unnest($2::text[]) r where pg_catalog.to_regclass(r) is not null) and not a.attnotnull and a.attname <> $3`,
      [quoted(table), scoped, key],
    );
    if (rows.length === 0) return;
    const set = rows.map(({ name }) => `${ident(name)} = null`).join(', ');
    await client.query(`update ${quoted(table)} set ${set} where ${ident(key)} = $1`, [tenant]);
  });
}
