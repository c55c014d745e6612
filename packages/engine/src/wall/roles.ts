import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import type { Catalog, Role } from '../catalog/catalog.ts';
import { ident, literal } from '../db/sql.ts';
import type { TenancyModel, WallRoles } from '../model/model.ts';

/** Passwords for roles that are created or given a new one; never stored, never sent in clear. */
export type RolePasswords = Partial<Readonly<Record<Exclude<keyof WallRoles, 'owner'>, string>>>;

const scramIterations = 4096;

/**
 * Statements that make the three login roles what they must be. The application's is bound by RLS and can do nothing to the
 * cluster; the other two are not bound, and no role is a member of another.
 */
export function roleStatements(model: TenancyModel, catalog: Catalog): { role: string; statements: string[] }[] {
  const wanted = [
    { role: model.roles.app, bypass: false },
    { role: model.roles.system, bypass: true },
    { role: model.roles.service, bypass: true },
  ];
  return wanted.flatMap(({ role, bypass }) => {
    const attributes = `login nosuperuser nocreatedb nocreaterole noreplication ${bypass ? 'bypassrls' : 'nobypassrls'}`;
    const live = catalog.roles.get(role);
    // A role is the cluster's, and another run may make it between this read and the statement.
    if (!live) {
      const create = `create role ${ident(role)} ${attributes}`;
      return {
        role,
        statements: [`do ${quoteBlock(`begin ${create}; exception when duplicate_object then ${create.replace('create role', 'alter role')}; end`)}`],
      };
    }
    return isRight(live, bypass) ? [] : { role, statements: [`alter role ${ident(role)} ${attributes}`] };
  });
}

function isRight(role: Role, bypass: boolean): boolean {
  return role.login && !role.superuser && !role.createDatabase && !role.createRole && !role.replication && role.bypassRls === bypass;
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

function quoteBlock(body: string): string {
  return `$pw_role$${body}$pw_role$`;
}
