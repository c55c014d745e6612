import { type Catalog, checkModel, type Role, type TenancyModel } from '@partywall/engine';
import { strangeness } from '../database.ts';
import { fail, type Line, pass, skip } from './line.ts';

/** What the connecting role lacks to apply the wall, as `missingRights` says it; it needs a model to know what for. */
export function privilegesLine(catalog: Catalog, lacks: readonly string[] | undefined): Line {
  const id = 'privileges';
  const role = catalog.roles.get(catalog.currentUser);
  if (role?.superuser) return pass(id, `${role.name} is a superuser`);
  if (lacks === undefined) return skip(id, `${catalog.currentUser} is no superuser; what it may do to which tables is looked at when there is a config`);
  if (lacks.length === 0) return pass(id, `${catalog.currentUser} may do all that applying the wall takes`);
  return fail(id, `${catalog.currentUser} lacks ${lacks.join('; ')}`, 'have a superuser grant it, or connect as a role that has it');
}

/** The four roles of the model, and whether row level security binds the application's. */
export function rolesLine(catalog: Catalog, model: TenancyModel): Line {
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

/** Which phase the database is in, by what apply recorded. */
export function phaseLine(catalog: Catalog): Line {
  const id = 'wall';
  const { runtime } = catalog;
  if (!runtime) return pass(id, 'no wall yet: schema partywall is not installed');
  if (!runtime.facts) return fail(id, `${catalog.currentUser} cannot read partywall.facts`, `connect as ${runtime.owner}`);
  const phase = runtime.facts['phase'];
  if (phase === 'expand') return pass(id, 'expand is applied or under way; contract is not');
  if (phase === 'contract') return pass(id, 'the wall stands: contract is applied');
  return fail(id, 'partywall.facts names no phase', 'run `partywall apply --phase expand`');
}

/** Whether the model still covers the database, and whether it is this database at all. */
export function driftLine(catalog: Catalog, model: TenancyModel): Line {
  const id = 'model';
  const strange = strangeness(model, catalog);
  if (strange !== undefined) return fail(id, `${catalog.database} is not the database of the model: ${strange}`, 'point DATABASE_URL at the one it describes');
  const differences = checkModel(model, catalog);
  const errors = differences.filter(({ severity }) => severity === 'error').length;
  const warnings = differences.length - errors;
  if (errors > 0) return fail(id, `the model and the database differ: ${errors} ${errors === 1 ? 'error' : 'errors'}`, 'run `partywall check` for the list');
  return pass(id, `the model covers the database${warnings > 0 ? `, with ${warnings} warnings` : ''}`);
}
