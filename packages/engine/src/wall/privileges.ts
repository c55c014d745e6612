import type pg from 'pg';
import type { Catalog } from '../catalog/catalog.ts';
import { describeTarget } from '../db/connect.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { eventTriggerName } from './derive-sql.ts';
import { type RolePasswords, roleStatements } from './roles.ts';

export type Undertaking = 'apply' | 'rollback';

/**
 * Asks before anything is done, so that a missing right never leaves half a phase.
 *
 * @throws PartywallError permission_missing
 */
export async function refuseUnprivileged(
  client: pg.ClientBase,
  catalog: Catalog,
  model: TenancyModel,
  options: { url: string; purpose: Undertaking; passwords?: RolePasswords },
): Promise<void> {
  const lacks = await missingRights(client, catalog, model, options);
  if (lacks.length === 0) return;
  const doing = options.purpose === 'apply' ? 'applying to' : 'rolling back';
  throw new PartywallError('permission_missing', `${doing} ${describeTarget(options.url)}: role ${catalog.currentUser} lacks ${lacks[0]}`, {
    details: lacks,
  });
}

/**
 * What the connected role lacks to apply the wall, or to take it down, a line each. The server answers for it: what it may do through
 * other roles, and whether these rights need SET ROLE, is its business.
 */
export async function missingRights(
  client: pg.ClientBase,
  catalog: Catalog,
  model: TenancyModel,
  options: { purpose?: Undertaking; passwords?: RolePasswords } = {},
): Promise<string[]> {
  const role = catalog.roles.get(catalog.currentUser);
  if (role?.superuser) return [];
  const isApply = options.purpose !== 'rollback';
  const relations = [...catalog.relations.values()].filter((relation) => model.schemas.includes(relation.schema) && !relation.extension);
  const standing = catalog.defaultPrivileges.filter(({ grants }) => grants.some(({ grantee }) => grantee === 'public' || grantee === model.roles.app));
  const owners = [
    ...relations.map(({ owner }) => owner),
    ...(catalog.runtime ? [catalog.runtime.owner] : []),
    ...(isApply ? standing.map((entry) => entry.role) : []),
  ];
  const { rows } = await client.query<{ owners: string[]; places: string[] }>(
    `select array(select distinct o from unnest($1::text[]) o where not pg_has_role(o, 'usage') order by o) as owners,
      array(select 'database ' || current_database() where $2 and not has_database_privilege(current_database(), 'create')
        union all (select 'schema ' || n.nspname from pg_namespace n where n.nspname = any ($3::text[]) and not has_schema_privilege(n.oid, 'create') order by 1)) as places`,
    [owners, isApply && catalog.runtime === undefined, model.schemas],
  );
  const { owners: strangers = [], places = [] } = rows[0] ?? {};
  const foreign = relations.filter(({ owner }) => strangers.includes(owner)).length;
  const closesNewTables = catalog.eventTriggers.some(({ name }) => name === eventTriggerName);
  return [
    ...(strangers.length > 0 ? [`the rights of ${strangers.join(', ')}${foreign > 0 ? `, who own ${foreign} tables and views` : ''}`] : []),
    ...(role?.bypassRls ? [] : ['BYPASSRLS, without which validation reads no rows and proves nothing']),
    ...(isApply ? roleLacks(catalog, model, options.passwords ?? {}) : []),
    ...(!isApply && closesNewTables ? ['SUPERUSER, to drop the event trigger'] : []),
    ...(places.length > 0 ? [`CREATE on ${places.join(' and ')}, where the wall makes its schema and its indexes`] : []),
  ];
}

/** What making and changing the three roles takes, which PostgreSQL 16 changed. */
function roleLacks(catalog: Catalog, model: TenancyModel, passwords: RolePasswords): string[] {
  const named = (['app', 'system', 'service'] as const).filter((name) => passwords[name] !== undefined).map((name) => model.roles[name]);
  const work = [...new Set([...roleStatements(model, catalog).map((change) => change.role), ...named])];
  if (work.length === 0) return [];
  const me = catalog.roles.get(catalog.currentUser);
  if (!me?.createRole) return [`CREATEROLE, to make ${work.join(', ')}`];
  if (catalog.serverVersion < 160_000) {
    const bypassing = roleStatements(model, catalog).filter(({ role }) => role !== model.roles.app);
    return bypassing.length === 0
      ? []
      : [`SUPERUSER, which PostgreSQL 15 asks of whoever makes a BYPASSRLS role: have ${bypassing.map(({ role }) => role).join(', ')} made first`];
  }
  const unruled = work.filter((name) => catalog.roles.has(name) && !me.memberOf.some(({ role, admin }) => role === name && admin));
  const high = work.filter((name) => catalog.roles.get(name)?.superuser || catalog.roles.get(name)?.replication);
  return [
    ...(unruled.length === 0 ? [] : [`ADMIN OPTION on ${unruled.join(', ')}`]),
    ...(high.length === 0 ? [] : [`SUPERUSER, to change ${high.join(', ')}`]),
  ];
}
