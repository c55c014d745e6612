import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted } from '../../model/table-name.ts';

/** Outlive their tenant: the audit chain is evidence, and so are the certificate and the operation that it names. */
const kept = /^(audit_\w+|certificates|operations)$/;

/**
 * What the control plane itself holds of a tenant: every table of its schema that has the column `tenant_id`, found in the catalog, so that no
 * list can be forgotten. One statement, so that foreign keys among them are asked for at its end. Returns how many rows went.
 */
export async function deleteControlRows(client: pg.ClientBase, tenant: string): Promise<number> {
  const tables = await controlTables(client);
  const deletions = tables.map((table, at) => `d${at} as (delete from partywall_control.${ident(table)} t where t.tenant_id = $1 returning 1)`);
  const sum = tables.map((_, at) => `(select count(*) from d${at})`).join(' + ');
  const { rows } = await client.query<{ gone: string }>(`with ${deletions.join(', ')} select ${sum} as gone`, [tenant]);
  return Number(rows[0]?.gone ?? 0);
}

/** Tables of the control plane that still hold rows of the tenant, but for those that stay. */
export async function leftControlRows(client: pg.ClientBase, tenant: string): Promise<string[]> {
  const left: string[] = [];
  for (const table of await controlTables(client)) {
    const { rowCount } = await client.query(`select from partywall_control.${ident(table)} t where t.tenant_id = $1 limit 1`, [tenant]);
    if (rowCount) left.push(`partywall_control.${table}`);
  }
  return left;
}

/**
 * Alerts of the system as a whole name tenants, people and routes in their details: of attempts, and of jobs that left tenants out. The alert stays, and its
 * deliveries, without them. Returns how many rows named it.
 */
export async function forgetInAlerts(client: pg.ClientBase, tenant: string): Promise<number> {
  const names = (details: string): string =>
    `(${details} -> 'tenants' ? $1 or ${details} -> 'alerts' @> jsonb_build_array(jsonb_build_object('tenants', jsonb_build_array($1::text))))`;
  const without = (details: string): string => `${details} - '{tenants,actors,routes,alerts}'::text[]`;
  const alerts = await client.query(
    `update partywall_control.alerts a set details = ${without('a.details')} where a.tenant_id = '' and ${names('a.details')}`,
    [tenant],
  );
  const told = await client.query(
    `update partywall_control.deliveries d set payload = jsonb_set(d.payload, '{details}', ${without("(d.payload -> 'details')")})
where ${names("(d.payload -> 'details')")}`,
    [tenant],
  );
  return (alerts.rowCount ?? 0) + (told.rowCount ?? 0);
}

async function controlTables(client: pg.ClientBase): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select c.relname as name from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
where c.relnamespace = 'partywall_control'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition order by c.relname`,
  );
  return rows.map(({ name }) => name).filter((name) => !kept.test(name));
}

/**
 * Memberships, invitations and API keys of the tenant, and the people who belong nowhere else: their sign-in, sessions and password. Whoever is
 * a member of another tenant, or a super-admin, stays. Returns how many people went.
 */
export async function deletePeople(client: pg.ClientBase, tenant: string): Promise<number> {
  const { rows } = await client.query<{ id: string }>(
    `select m."userId" as id from partywall_people."member" m join partywall_people."user" u on u."id" = m."userId"
where m."organizationId" = $1 and not u."superAdmin"
  and not exists (select from partywall_people."member" o where o."userId" = m."userId" and o."organizationId" <> $1)
for update of u`,
    [tenant],
  );
  const people = rows.map(({ id }) => id);
  await client.query('update partywall_people."session" set "activeOrganizationId" = null where "activeOrganizationId" = $1', [tenant]);
  await client.query('delete from partywall_people."apikey" where "referenceId" = $1 or "referenceId" = any ($2)', [tenant, people]);
  await client.query('delete from partywall_people."organization" where "id" = $1', [tenant]);
  await client.query('delete from partywall_people."verification" where "value" = any ($1)', [people]);
  await client.query('delete from partywall_people."user" where "id" = any ($1)', [people]);
  return people.length;
}

/** Rows of the tenant that apply took aside: images of rows, told by the tenant column of the table they came from. */
export async function deleteQuarantined(client: pg.ClientBase, model: TenancyModel, tenant: string): Promise<number> {
  const { rows } = await client.query<{ there: boolean }>("select pg_catalog.to_regclass('partywall.quarantine') is not null as there");
  if (!rows[0]?.there) return 0;
  let gone = 0;
  for (const [table, rule] of model.tables) {
    if (rule.scope !== 'scoped') continue;
    const { rowCount } = await client.query(
      `delete from partywall.quarantine q where pg_catalog.to_regclass(q.relation) = pg_catalog.to_regclass($1) and q."row" ->> $2 = $3`,
      [quoted(table), rule.column, tenant],
    );
    gone += rowCount ?? 0;
  }
  return gone;
}
