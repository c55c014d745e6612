import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { connect } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { entering } from './entering.ts';
import { passwordStatements } from './roles.ts';
import { wallStates } from './runtime.ts';

/** A login of the wall whose password can be changed. */
export type RotatedRole = 'app' | 'system' | 'service';

const passwordBytes = 24;

/** A new password, as the wall's logins have them. */
export function newPassword(): string {
  return randomBytes(passwordBytes).toString('base64url');
}

/** Sets a login's password in the caller's transaction, as a verifier: neither the log nor other sessions see it. With `endSessions` those that are open end. */
export async function setRolePassword(
  client: pg.ClientBase,
  model: TenancyModel,
  change: { readonly role: RotatedRole; readonly password: string; readonly endSessions: boolean },
): Promise<{ readonly ended: number }> {
  const { role, password, endSessions } = change;
  for (const statement of passwordStatements(model, { [role]: password })) await client.query(statement);
  if (!endSessions) return { ended: 0 };
  const { rows } = await client.query<{ ended: number }>(
    'select count(*) filter (where pg_catalog.pg_terminate_backend(a.pid))::integer as ended from pg_catalog.pg_stat_activity a where a.usename = $1 and a.pid <> pg_catalog.pg_backend_pid()',
    [model.roles[role]],
  );
  return { ended: rows[0]?.ended ?? 0 };
}

export interface CredentialProof {
  readonly claim: string;
  /** False where it does not hold; undefined where it could not be asked. */
  readonly holds: boolean | undefined;
}

/**
 * What has to hold after a rotation: the old credential is refused, the new one accepted, and the application's is still bound by the wall.
 *
 * @param admin knows which tenants there are, which the application's role does not
 */
export async function proveCredential(
  model: TenancyModel,
  role: RotatedRole,
  urls: { readonly before: string | undefined; readonly after: string },
  admin: pg.ClientBase | pg.Pool,
): Promise<CredentialProof[]> {
  const refused = urls.before === undefined ? undefined : await isRefused(urls.before);
  const client = await connect(urls.after, { purpose: 'credentials' });
  try {
    const { rows } = await client.query<{ is: boolean }>('select session_user = $1 as is', [model.roles[role]]);
    return [
      { claim: 'the old credential is refused', holds: refused },
      { claim: 'the new credential is accepted', holds: rows[0]?.is ?? false },
      ...(role === 'app' ? [...(await proveScope(client, model)), ...(await proveRows(client, model, admin))] : []),
    ];
  } finally {
    await client.end();
  }
}

/** `row_security = off` is an error exactly where the policies bind the role. */
async function proveScope(client: pg.Client, model: TenancyModel): Promise<CredentialProof[]> {
  const [scoped] = [...model.tables].flatMap(([table, { scope }]) => (scope === 'scoped' ? [table] : []));
  if (scoped === undefined) return [];
  const read = `select 1 from ${quoted(scoped)} limit 1`;
  return [
    { claim: 'without a tenant there is no context', holds: (await stateOf(client, [`select partywall.tenant_id()`])) === wallStates.noContext },
    {
      claim: `row level security binds ${ident(model.roles.app)} on ${scoped}`,
      holds: (await stateOf(client, ['set local row_security = off', read])) === '42501',
    },
  ];
}

/** Inside a tenant that has rows, every scoped table shows rows of that tenant and of no other. Nothing is claimed where no tenant has any. */
async function proveRows(client: pg.Client, model: TenancyModel, admin: pg.ClientBase | pg.Pool): Promise<CredentialProof[]> {
  const scoped = [...model.tables].flatMap(([table, rule]) => (rule.scope === 'scoped' ? [{ table, column: rule.column }] : []));
  for (const { table, column } of scoped) {
    const { rows } = await admin.query<{ tenant: string }>(
      `select t.${ident(column)}::text as tenant from ${quoted(table)} t join partywall.registry r on r.tenant_id = t.${ident(column)}
where r.state = 'active' and r.placement is null limit 1`,
    );
    if (rows[0])
      return [{ claim: `inside a tenant every row of ${scoped.length} tables is its own`, holds: await seesOnly({ client, admin }, rows[0].tenant, scoped) }];
  }
  return [];
}

async function seesOnly(
  { client, admin }: { readonly client: pg.Client; readonly admin: pg.ClientBase | pg.Pool },
  tenant: string,
  scoped: readonly { readonly table: TableName; readonly column: string }[],
): Promise<boolean> {
  await client.query('begin read only');
  try {
    const { text, values } = await entering(admin, tenant);
    await client.query(text, [...values]);
    let own = 0;
    for (const { table, column } of scoped) {
      const { rows } = await client.query<{ own: boolean; foreign: boolean }>(
        `select exists (select from ${quoted(table)} t where t.${ident(column)}::text = $1) as own, exists (select from ${quoted(table)} t where t.${ident(column)}::text <> $1) as foreign`,
        [tenant],
      );
      if (rows[0]?.foreign !== false) return false;
      if (rows[0].own) own += 1;
    }
    return own > 0;
  } finally {
    await client.query('rollback');
  }
}

/** SQLSTATE that statements of one transaction end with; undefined where they succeed. Rolled back. */
async function stateOf(client: pg.Client, statements: readonly string[]): Promise<string | undefined> {
  await client.query('begin');
  try {
    for (const statement of statements) await client.query(statement);
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown';
  } finally {
    await client.query('rollback');
  }
}

async function isRefused(url: string): Promise<boolean> {
  try {
    const client = await connect(url, { purpose: 'credentials' });
    await client.end();
    return false;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'database_refused') return true;
    throw error;
  }
}
