import { hash, randomBytes, randomUUID } from 'node:crypto';
import { appendAudit, type Operation, transaction } from '@partywall/engine';
import type pg from 'pg';
import { problem } from '../problem.ts';
import { apiKeyPrefix } from './credential.ts';
import { lockOrganization } from './organization.ts';
import { scopesOf } from './principal-sql.ts';

/** A tenant's API key, without the key. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  /** The first characters of the key, to tell keys apart by. */
  readonly start: string;
  /** `<resource>:read` or `<resource>:write`: what it may do, as a member of its tenant. */
  readonly scopes: readonly string[];
  readonly expiresAt: Date | null;
  readonly createdAt: Date;
}

const keysMax = 100;
const keyBytes = 32;
const startCharacters = apiKeyPrefix.length + 6;

const columns = '"id", coalesce("name", \'\') as name, coalesce("start", \'\') as start, "permissions", "expiresAt", "createdAt"';
type KeyRow = Omit<ApiKey, 'scopes'> & { readonly permissions: string | null };

/**
 * Makes an API key. The key itself is in the answer and nowhere else: the database has its SHA-256, which is enough for 32 random bytes. The
 * rows are those of Better Auth's plugin; made here, because the plugin knows members only, and a super-admin may be none.
 *
 * @throws Problem limit_reached, not_found
 */
export async function createApiKey(
  operation: Operation,
  wanted: { tenant: string; name: string; scopes: readonly string[]; expiresAt: string | undefined },
): Promise<ApiKey & { readonly key: string }> {
  const { tenant, name, scopes } = wanted;
  const key = `${apiKeyPrefix}${randomBytes(keyBytes).toString('base64url')}`;
  return transaction(operation.database.pool, async (client) => {
    await lockOrganization(client, tenant);
    const { rows: count } = await client.query<{ keys: number }>(
      'select count(*)::integer as keys from partywall_people."apikey" where "referenceId" = $1 and coalesce("expiresAt" > now(), true)',
      [tenant],
    );
    if ((count[0]?.keys ?? 0) >= keysMax) throw problem('limit_reached');
    const { rows } = await client.query<KeyRow>(
      `insert into partywall_people."apikey"
  ("id", "configId", "name", "start", "prefix", "referenceId", "key", "enabled", "rateLimitEnabled", "requestCount", "expiresAt", "createdAt", "updatedAt", "permissions")
values ($1, 'default', $2, $3, $4, $5, $6, true, false, 0, $7, now(), now(), $8) returning ${columns}`,
      [
        randomUUID(),
        name,
        key.slice(0, startCharacters),
        apiKeyPrefix,
        tenant,
        hash('sha256', key, 'base64url'),
        wanted.expiresAt ?? null,
        permissionsOf(scopes),
      ],
    );
    const made = ofRow(rows);
    const details = { name, scopes, expiresAt: made.expiresAt?.toISOString() ?? null };
    await appendAudit(client, operation, { tenant, action: 'api_key.create', target: `api_key:${made.id}`, details });
    return { ...made, key };
  });
}

/** The keys of a tenant by their id, after one. */
export async function listApiKeys(pool: pg.Pool, tenant: string, page: { limit: number; after: string | undefined }): Promise<ApiKey[]> {
  const { rows } = await pool.query<KeyRow>(
    `select ${columns} from partywall_people."apikey" where "referenceId" = $1 and ($2::text is null or "id" > $2) order by "id" limit $3`,
    [tenant, page.after ?? null, page.limit + 1],
  );
  return rows.map((row) => ofRow([row]));
}

/** @throws Problem not_found */
export async function deleteApiKey(operation: Operation, tenant: string, id: string): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    const { rows } = await client.query<{ name: string | null }>(
      'delete from partywall_people."apikey" where "id" = $1 and "referenceId" = $2 returning "name"',
      [id, tenant],
    );
    const [gone] = rows;
    if (!gone) throw problem('not_found');
    await appendAudit(client, operation, { tenant, action: 'api_key.delete', target: `api_key:${id}`, details: { name: gone.name } });
  });
}

/** `customers:read` → `{"customers": ["read"]}`, the plugin's form. */
function permissionsOf(scopes: readonly string[]): string {
  const permissions: Record<string, string[]> = {};
  for (const scope of scopes) {
    const [resource = '', action = ''] = scope.split(':');
    permissions[resource] = [...(permissions[resource] ?? []), action];
  }
  return JSON.stringify(permissions);
}

function ofRow([row]: readonly KeyRow[]): ApiKey {
  if (!row) throw new Error('writing an API key: the statement returned no row');
  const { permissions, ...key } = row;
  return { ...key, scopes: scopesOf(permissions) };
}
