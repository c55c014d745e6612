import { createHash, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { setApplicationPath } from '../db/application-path.ts';
import { sqlState } from '../db/connect.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import { keyFamily } from '../model/key-types.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';
import { type FirstAdmin, insertFirstAdmin } from './first-admin.ts';
import { provisionKey, slugOf } from './provision-names.ts';
import { readTenant, type Tenant, type TenantRow, tenantColumns, tenantOf } from './tenant.ts';

export interface ProvisionInput extends FirstAdmin {
  readonly name: string;
  readonly contactEmail: string;
  readonly plan: string;
}

export interface Provisioned {
  readonly tenant: Tenant;
  /** False where the same request had made the tenant before. */
  readonly created: boolean;
}

/**
 * Makes a tenant with its plan and its first admin, all or nothing: its row in the root, registry and directory, the admin's sign-in,
 * membership and row among the application's own people. The same request again finds the tenant that the first one made.
 *
 * @throws PartywallError tenant_exists (the name with other content, or a tenant that was cancelled or deleted), plan_unknown, input_invalid,
 * model_invalid (a column of the root or of the people has no default and the model does not say what fills it)
 */
export async function provisionTenant(operation: Operation, input: ProvisionInput): Promise<Provisioned> {
  const { pool } = operation.database;
  const key = provisionKey(input.name);
  if (key === '') throw new PartywallError('input_invalid', 'reading the name: it is empty');
  const hash = contentHash(input);
  // Without a lock first: of a thousand requests for one name all but the first few end here.
  const known = await findProvisioned(pool, key, hash);
  if (known) return { tenant: known, created: false };
  try {
    return await attempt(operation, input, { key, hash, taken: false });
  } catch (error) {
    // Another tenant has taken the slug, or the name itself, between the look and the insert.
    if (sqlState(error) !== '23505') throw error;
    return attempt(operation, input, { key, hash, taken: true });
  }
}

interface Attempt {
  readonly key: string;
  readonly hash: Buffer;
  readonly taken: boolean;
}

async function attempt(operation: Operation, input: ProvisionInput, { key, hash, taken }: Attempt): Promise<Provisioned> {
  const { model } = operation.database;
  try {
    return await transaction(operation.database.pool, async (client) => {
      await client.query(setApplicationPath(model));
      await client.query("select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('partywall:provision:' || $1, 0))", [key]);
      const known = await findProvisioned(client, key, hash);
      if (known) return { tenant: known, created: false };
      await refuseUnknownPlan(client, input.plan);
      const slug = await freeSlug(client, model, input.name, taken);
      const id = await insertRoot(client, model, input, slug);
      const tenant = await enlist(client, id, input, { key, hash });
      const admin = await insertFirstAdmin(client, model, { id, name: tenant.name, slug }, input);
      await appendAudit(client, operation, {
        tenant: id,
        action: 'tenant.provision',
        target: `user:${admin.user}`,
        details: { plan: tenant.plan, adminIsNew: admin.isNew },
      });
      return { tenant, created: true };
    });
  } catch (error) {
    if (sqlState(error) !== '23502') throw error;
    const { table, column } = whereMissing(error);
    throw new PartywallError('model_invalid', `provisioning a tenant: ${table}.${column} has no default and nothing fills it`, {
      cause: error,
      hint: 'give the column a default, or name it in tenant.profile or people of partywall.config.ts',
    });
  }
}

/** @throws PartywallError tenant_exists */
async function findProvisioned(client: pg.ClientBase | pg.Pool, key: string, hash: Buffer): Promise<Tenant | undefined> {
  const { rows } = await client.query<TenantRow & { same: boolean }>(
    `select ${tenantColumns}, d.provision_hash = $2 as same from partywall_control.directory d where d.provision_key = $1`,
    [key, hash],
  );
  const row = rows[0];
  if (!row) return undefined;
  const tenant = tenantOf(row);
  const usable = tenant.status === 'active' || tenant.status === 'suspended';
  if (row.same && usable) return tenant;
  const why = usable ? 'it was provisioned with other content' : `it is ${tenant.status}`;
  throw new PartywallError('tenant_exists', `provisioning ${JSON.stringify(tenant.name)}: there is a tenant of that name and ${why}`, {
    extra: { tenant: tenant.id, tenantStatus: tenant.status },
  });
}

/** All that was asked for but the password, which is not kept. */
function contentHash({ name, contactEmail, adminName, adminEmail, plan }: ProvisionInput): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([provisionKey(name), contactEmail.toLowerCase(), adminName, adminEmail.toLowerCase(), plan]))
    .digest();
}

export async function refuseUnknownPlan(client: pg.ClientBase, plan: string): Promise<void> {
  const { rows } = await client.query<{ name: string }>('select p.name from partywall_control.plans p order by p.name');
  if (rows.some(({ name }) => name === plan)) return;
  throw new PartywallError('plan_unknown', `provisioning a tenant: there is no plan ${JSON.stringify(plan)}`, { details: rows.map(({ name }) => name) });
}

/** The slug that no tenant has; another transaction may take it still, which its unique index tells. */
export async function freeSlug(client: pg.ClientBase, model: TenancyModel, name: string, taken: boolean): Promise<string> {
  const plain = slugOf(name, taken);
  if (taken) return plain;
  const { table, profile } = model.tenant;
  const inRoot = profile.slug === undefined ? '' : ` or exists (select from ${quoted(table)} r where r.${ident(profile.slug)} = $1)`;
  const { rows } = await client.query<{ taken: boolean }>(
    `select exists (select from partywall_people."organization" o where o."slug" = $1)
  or exists (select from partywall_control.directory d where d.tenant_id = $1)${inRoot} as taken`,
    [plain],
  );
  return slugOf(name, rows[0]?.taken ?? true);
}

/** Inserts the row of the root, whose trigger registers the tenant; returns its key as text. */
async function insertRoot(client: pg.ClientBase, model: TenancyModel, input: ProvisionInput, slug: string): Promise<string> {
  const { table, key, profile } = model.tenant;
  const values = new Map<string, string>();
  const fill = (column: string | undefined, value: string): void => {
    if (column !== undefined) values.set(column, value);
  };
  fill(profile.name, input.name.trim());
  fill(profile.slug, slug);
  fill(profile.plan, input.plan);
  fill(profile.contactEmail, input.contactEmail);
  const made = await madeKey(client, model, slug);
  if (made !== undefined) values.set(key, made);
  const columns = [...values.keys()].map(ident).join(', ');
  const parameters = [...values.keys()].map((_, at) => `$${at + 1}`).join(', ');
  const what = values.size === 0 ? 'default values' : `(${columns}) values (${parameters})`;
  const { rows } = await client.query<{ id: string }>(`insert into ${quoted(table)} ${what} returning ${ident(key)}::text as id`, [...values.values()]);
  return rows[0]?.id ?? '';
}

/** A key for a root that does not make its own: a UUID, or for textual keys the slug. */
async function madeKey(client: pg.ClientBase, model: TenancyModel, slug: string): Promise<string | undefined> {
  const { table, key } = model.tenant;
  const { rows } = await client.query<{ type: string; makes: boolean }>(
    `select pg_catalog.format_type(a.atttypid, null) as type, a.atthasdef or a.attidentity <> '' as makes
from pg_catalog.pg_attribute a where a.attrelid = pg_catalog.to_regclass($1) and a.attname = $2`,
    [quoted(table), key],
  );
  const column = rows[0];
  if (!column || column.makes) return undefined;
  const family = keyFamily(column.type);
  return family === 'uuid' ? randomUUID() : family === 'text' ? slug : undefined;
}

/** Completes the row that the registry's trigger put into the directory. */
async function enlist(client: pg.ClientBase, id: string, input: ProvisionInput, { key, hash }: Omit<Attempt, 'taken'>): Promise<Tenant> {
  await client.query(
    `update partywall_control.directory d set name = $2, contact_email = $3, plan = $4, provision_key = $5, provision_hash = $6 where d.tenant_id = $1`,
    [id, input.name.trim(), input.contactEmail, input.plan, key, hash],
  );
  return readTenant(client, id);
}

function whereMissing(error: unknown): { readonly table: string; readonly column: string } {
  const read = (name: string): string => {
    const value: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, name) : undefined;
    return typeof value === 'string' ? value : 'a table';
  };
  return { table: read('table'), column: read('column') };
}
