import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import type { Catalog, Role } from '../catalog/catalog.ts';
import { dollarQuote, ident, literal } from '../db/sql.ts';
import type { TenancyModel, WallRoles } from '../model/model.ts';
import type { Note } from './shape.ts';

/** Passwords for roles that are created or given a new one; never stored, never sent in clear. */
export type RolePasswords = Partial<Readonly<Record<Exclude<keyof WallRoles, 'owner' | 'operator'>, string>>>;

const scramIterations = 4096;

/** Attribute in SQL, and where the catalog has it. */
const attributes = [
  ['login', 'login'],
  ['superuser', 'superuser'],
  ['createdb', 'createDatabase'],
  ['createrole', 'createRole'],
  ['replication', 'replication'],
  ['bypassrls', 'bypassRls'],
] as const satisfies readonly (readonly [string, keyof Role])[];

/**
 * Statements that make the three login roles what they must be. The application's is bound by RLS and can do nothing to the
 * cluster; the other two are not bound. Only what differs is named: naming an attribute takes the right to change it.
 */
export function roleStatements(model: TenancyModel, catalog: Catalog): { role: string; statements: string[] }[] {
  const { app, system, service } = model.roles;
  return [app, system, service].flatMap((role) => {
    const wanted = role === app ? ['login'] : ['login', 'bypassrls'];
    const live = catalog.roles.get(role);
    if (!live) {
      const create = `create role ${ident(role)} ${wanted.join(' ')}`;
      // A role is the cluster's, and another run may make it between the plan and the statement; the next plan sees what it lacks.
      return { role, statements: [`do ${dollarQuote(`begin ${create}; exception when duplicate_object or unique_violation then null; end`)}`] };
    }
    const changes = attributes.flatMap(([attribute, name]) =>
      live[name] === wanted.includes(attribute) ? [] : [`${wanted.includes(attribute) ? '' : 'no'}${attribute}`],
    );
    return changes.length === 0 ? [] : { role, statements: [`alter role ${ident(role)} ${changes.join(' ')}`] };
  });
}

/** Roles that must not become the wall's: what apply would take from them, or what they hold, is somebody's. */
export function roleBlockers(model: TenancyModel, catalog: Catalog): Note[] {
  const { table } = model.tenant;
  const { app, system, service } = model.roles;
  const owners = new Set([...catalog.relations.values()].filter((relation) => model.schemas.includes(relation.schema)).map((relation) => relation.owner));
  const taken = [app, system, service].flatMap((role) => {
    if (role === catalog.currentUser) return [{ table, message: `cannot be walled: ${ident(role)} of the model is the role that is connected` }];
    return owners.has(role) ? [{ table, message: `cannot be walled: ${ident(role)} of the model owns tables, so it could take the wall down` }] : [];
  });
  const beyond = reachableRoles(catalog, app).filter((name) => {
    const role = catalog.roles.get(name);
    return name !== app && (role?.superuser || role?.bypassRls || owners.has(name) || /^pg_(read|write)_all_data$/.test(name));
  });
  return [
    ...taken,
    ...beyond.map((name) => ({ table, message: `cannot be walled: ${ident(app)} is a member of ${ident(name)}, which no wall binds; revoke that` })),
  ];
}

/** The role and all roles it is a member of, directly or through others. */
function reachableRoles(catalog: Catalog, name: string, seen: readonly string[] = []): readonly string[] {
  if (seen.includes(name)) return seen;
  return (catalog.roles.get(name)?.memberOf ?? []).reduce<readonly string[]>((reached, { role }) => reachableRoles(catalog, role, reached), [...seen, name]);
}

/** Statements that set the given passwords, as verifiers: the server's log and `pg_stat_activity` never see the password. */
export function passwordStatements(model: TenancyModel, passwords: RolePasswords): string[] {
  return (['app', 'system', 'service'] as const).flatMap((name) => {
    const password = passwords[name];
    return password === undefined ? [] : `alter role ${ident(model.roles[name])} password ${literal(scramVerifier(password))}`;
  });
}

/** `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, RFC 5802 as PostgreSQL stores it. */
export function scramVerifier(password: string, salt = randomBytes(16)): string {
  const salted = pbkdf2Sync(password.normalize('NFKC'), salt, scramIterations, 32, 'sha256');
  const clientKey = createHmac('sha256', salted).update('Client Key').digest();
  const storedKey = createHash('sha256').update(clientKey).digest('base64');
  const serverKey = createHmac('sha256', salted).update('Server Key').digest('base64');
  return `SCRAM-SHA-256$${scramIterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}
