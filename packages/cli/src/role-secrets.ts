import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { type Catalog, type RolePasswords, sqlState, type TenancyModel } from '@partywall/engine';

const logins = ['app', 'system', 'service'] as const;
type Login = (typeof logins)[number];

const passwordBytes = 24;

/** The logins that the wall makes, kept as an env file: `node --env-file=.partywall/roles.env app.js`. */
export interface RoleSecrets {
  readonly file: string;
  /** To be set: those of roles that do not exist yet, and those that the file knows already. */
  readonly passwords: RolePasswords;
  /** Connection strings of the roles whose password is known. */
  readonly urls: Readonly<Partial<Record<Login, string>>>;
}

/**
 * Makes passwords for the roles that apply is about to create, and reads those made before. A role that exists and is not in the
 * file belongs to somebody: its password is left alone. The file is written before the roles are made, so that a crash in between
 * loses no password; only its owner can read it.
 */
export async function roleSecrets(file: string, databaseUrl: string, model: TenancyModel, catalog: Catalog): Promise<RoleSecrets> {
  const known = await readEnv(file);
  const passwords: Partial<Record<Login, string>> = {};
  const urls: Partial<Record<Login, string>> = {};
  for (const login of logins) {
    const role = model.roles[login];
    const password = passwordIn(known[variable(login)], role) ?? (catalog.roles.has(role) ? undefined : randomBytes(passwordBytes).toString('base64url'));
    if (password === undefined) continue;
    passwords[login] = password;
    urls[login] = urlOf(databaseUrl, role, password);
  }
  const others = Object.entries(known).filter(([name]) => !logins.some((login) => variable(login) === name));
  await writeEnv(file, [...logins.flatMap((login) => (urls[login] === undefined ? [] : [[variable(login), urls[login]] as const])), ...others]);
  return { file, passwords, urls };
}

/** Name of the variable that holds the keys of the seal. */
export const sealKeyVariable = 'PARTYWALL_SEAL_KEY';

/** Keeps a key of the seal beside the connection strings. */
export async function keepSealKey(file: string, key: string): Promise<void> {
  await writeEnv(file, Object.entries({ ...(await readEnv(file)), [sealKeyVariable]: key }));
}

/** Whole or not at all, and for its owner's eyes alone. */
async function writeEnv(file: string, entries: readonly (readonly [string, string | undefined])[]): Promise<void> {
  await fs.mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}`;
  await fs.writeFile(partial, entries.map(([name, value]) => `${name}=${value}\n`).join(''), { mode: 0o600 });
  await fs.rename(partial, file);
}

/** A new connection string of one login, on its way into the file. */
export interface RoleUrlChange {
  /** The one that the file has had, if any. */
  readonly before: string | undefined;
  readonly after: string;
  /** Puts it into place. Until then it is beside the file, as `<file>.next`, so that a crash loses neither. */
  commit(): Promise<void>;
}

/** Writes a login's connection string with its new password beside the file that holds all of them. */
export async function changeRoleUrl(
  file: string,
  databaseUrl: string,
  model: TenancyModel,
  change: { login: Login; password: string },
): Promise<RoleUrlChange> {
  const known = await readEnv(file);
  const after = urlOf(databaseUrl, model.roles[change.login], change.password);
  const next = `${file}.next`;
  const lines = Object.entries({ ...known, [variable(change.login)]: after }).map(([name, value]) => `${name}=${value}\n`);
  await fs.mkdir(path.dirname(file), { recursive: true });
  await fs.writeFile(next, lines.join(''), { mode: 0o600 });
  return { before: known[variable(change.login)], after, commit: () => fs.rename(next, file) };
}

/** A name for a database that a file can have: `localhost-5432-crm.env`. */
export function secretsFileName(databaseUrl: string): string {
  const { hostname, port, pathname } = new URL(databaseUrl);
  return `${[hostname || 'local', port || '5432', decodeURIComponent(pathname.slice(1))].join('-').replaceAll(/[^\w.-]/g, '_')}.env`;
}

async function readEnv(file: string): Promise<NodeJS.Dict<string>> {
  try {
    return parseEnv(await fs.readFile(file, 'utf8'));
  } catch (error) {
    if (sqlState(error) === 'ENOENT') return {};
    throw error;
  }
}

function passwordIn(url: string | undefined, role: string): string | undefined {
  if (url === undefined || !URL.canParse(url)) return undefined;
  const { username, password } = new URL(url);
  return decodeURIComponent(username) === role && password !== '' ? decodeURIComponent(password) : undefined;
}

function variable(login: Login): string {
  return `PARTYWALL_${login.toUpperCase()}_URL`;
}

function urlOf(databaseUrl: string, role: string, password: string): string {
  const url = new URL(databaseUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  return url.toString();
}
