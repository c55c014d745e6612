import type { Catalog, Relation, Role, TenancyModel } from '@partywall/engine';
import { fail, type Line, pass, skip } from './line.ts';

/** What the catalog says about the connecting role, the four roles and the state of the wall. */
export function standingLines(catalog: Catalog, model: TenancyModel | undefined): Line[] {
  return [privilegesLine(catalog, model), ...(model ? [ownerLine(catalog, model), rolesLine(catalog, model)] : []), phaseLine(catalog)];
}

/** What applying the wall needs: to make roles, and to read every row although row level security is forced. */
function privilegesLine(catalog: Catalog, model: TenancyModel | undefined): Line {
  const id = 'privileges';
  const role = catalog.roles.get(catalog.currentUser);
  if (!role) return fail(id, `${catalog.currentUser} is not in pg_roles`, 'connect as a login role of this server');
  if (role.superuser) return pass(id, `${role.name} is a superuser`);
  const wallRoles = model ? [model.roles.app, model.roles.system, model.roles.service] : [];
  const rolesToMake = wallRoles.filter((name) => !catalog.roles.has(name));
  const missing: string[] = [];
  if (!role.createRole && (rolesToMake.length > 0 || !model)) missing.push('CREATEROLE');
  if (!role.bypassRls) missing.push('BYPASSRLS');
  if (missing.length > 0)
    return fail(id, `${role.name} lacks ${missing.join(' and ')}`, `as a superuser: alter role ${role.name} ${missing.join(' ').toLowerCase()}`);
  const closed = placesToCreate(catalog, model);
  if (closed.length > 0)
    return fail(
      id,
      `${role.name} lacks CREATE on ${closed.join(' and ')}`,
      `as a superuser: ${closed.map((place) => `grant create on ${place} to ${role.name}`).join('; ')}`,
    );
  return pass(id, `${role.name} has ${role.createRole ? 'CREATEROLE and ' : ''}BYPASSRLS, and may create where the wall does`);
}

/** Schema `partywall` is made in the database, indexes in the schemas of the tables. */
function placesToCreate(catalog: Catalog, model: TenancyModel | undefined): string[] {
  const reach = rolesOf(catalog, catalog.currentUser);
  const granted = (grants: Catalog['databaseGrants']): boolean =>
    grants.some((grant) => grant.privilege === 'create' && (grant.grantee === 'public' || reach.has(grant.grantee)));
  const database = catalog.runtime !== undefined || granted(catalog.databaseGrants) ? [] : [`database ${catalog.database}`];
  const schemas = (model?.schemas ?? []).filter((name) => {
    const schema = catalog.schemas.get(name);
    return schema !== undefined && !reach.has(schema.owner) && !granted(schema.grants);
  });
  return [...database, ...schemas.map((name) => `schema ${name}`)];
}

/** Tables can be altered by their owner only, also through membership. */
function ownerLine(catalog: Catalog, model: TenancyModel): Line {
  const id = 'owner';
  const role = catalog.roles.get(catalog.currentUser);
  const owned = [model.tenant.table, ...model.tables.keys()].flatMap((table) => catalog.relations.get(table) ?? []);
  if (owned.length === 0) return skip(id, 'no table of the model is here');
  const reach = role?.superuser ? undefined : rolesOf(catalog, catalog.currentUser);
  const foreign = owned.filter((relation: Relation) => reach !== undefined && !reach.has(relation.owner));
  if (foreign.length === 0) return pass(id, `${catalog.currentUser} may alter the ${owned.length} tables of the model`);
  const owners = [...new Set(foreign.map((relation) => relation.owner))].join(', ');
  return fail(
    id,
    `${foreign.length} of ${owned.length} tables of the model belong to ${owners}`,
    `connect as ${owners}, or grant that role to ${catalog.currentUser}`,
  );
}

/** A role and every role whose rights it has without SET ROLE. */
function rolesOf(catalog: Catalog, name: string): Set<string> {
  const reached = new Set<string>();
  const visit = (role: string): void => {
    if (reached.has(role)) return;
    reached.add(role);
    for (const membership of catalog.roles.get(role)?.memberOf ?? []) if (membership.inherit) visit(membership.role);
  };
  visit(name);
  return reached;
}

function rolesLine(catalog: Catalog, model: TenancyModel): Line {
  const id = 'roles';
  const { owner, app, system, service } = model.roles;
  if (!catalog.roles.has(owner)) return fail(id, `the owner role ${owner} does not exist`, 'correct roles.owner in the config');
  const absent = [app, system, service].filter((role) => !catalog.roles.has(role));
  if (absent.length > 0) {
    const message = `${absent.join(', ')} do not exist yet`;
    if (catalog.runtime === undefined) return skip(id, `${message}: \`partywall apply --phase expand\` makes them`);
    return fail(id, message, 'run `partywall apply --phase expand`');
  }
  const unbound = problemsOf(catalog.roles.get(app));
  if (unbound.length > 0)
    return fail(id, `the wall cannot hold ${app}: it is ${unbound.join(' and ')}`, 'run `partywall apply --phase expand`, which takes that away');
  return pass(id, `${owner}, ${app}, ${system} and ${service} exist, and row level security binds ${app}`);
}

function problemsOf(role: Role | undefined): string[] {
  if (!role) return [];
  return [...(role.superuser ? ['a superuser'] : []), ...(role.bypassRls ? ['BYPASSRLS'] : [])];
}

function phaseLine(catalog: Catalog): Line {
  const id = 'wall';
  const { runtime } = catalog;
  if (!runtime) return pass(id, 'no wall yet: schema partywall is not installed');
  if (!runtime.facts) return fail(id, `${catalog.currentUser} cannot read partywall.facts`, `connect as ${runtime.owner}`);
  const phase = runtime.facts['phase'];
  if (phase === 'expand') return pass(id, 'expand is applied or under way; contract is not');
  if (phase === 'contract') return pass(id, 'the wall stands: contract is applied');
  return fail(id, `partywall.facts names no phase`, 'run `partywall apply --phase expand`');
}
