import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { type RolePasswords, sqlState, type TenancyModel } from '@partywall/engine';

/** The logins that the wall makes, as an env file beside the embedded server: `node --env-file=.partywall/roles.env app.js`. */
export const rolesFileName = 'roles.env';

const logins = ['app', 'system', 'service'] as const;
const passwordBytes = 24;

export interface RoleSecrets {
  readonly file: string;
  readonly passwords: Required<RolePasswords>;
  /** Connection strings of the three roles. */
  readonly urls: Readonly<Record<(typeof logins)[number], string>>;
}

/**
 * Passwords of the three roles for this database: those in the file, where it has any, else new random ones. The file is written
 * before the roles get them, so that a crash in between loses none; only its owner can read it.
 */
export async function roleSecrets(folder: string, databaseUrl: string, model: TenancyModel): Promise<RoleSecrets> {
  const file = path.join(folder, rolesFileName);
  const known = await readKnown(file);
  const secretOf = (login: (typeof logins)[number]): string => {
    const url = known[variable(login)];
    const password = url !== undefined && URL.canParse(url) ? decodeURIComponent(new URL(url).password) : '';
    return password || randomBytes(passwordBytes).toString('base64url');
  };
  const passwords = { app: secretOf('app'), system: secretOf('system'), service: secretOf('service') };
  const urls = {
    app: urlOf(databaseUrl, model.roles.app, passwords.app),
    system: urlOf(databaseUrl, model.roles.system, passwords.system),
    service: urlOf(databaseUrl, model.roles.service, passwords.service),
  };
  await fs.mkdir(folder, { recursive: true });
  const partial = `${file}.${process.pid}`;
  await fs.writeFile(partial, logins.map((login) => `${variable(login)}=${urls[login]}\n`).join(''), { mode: 0o600 });
  await fs.rename(partial, file);
  return { file, passwords, urls };
}

async function readKnown(file: string): Promise<NodeJS.Dict<string>> {
  try {
    return parseEnv(await fs.readFile(file, 'utf8'));
  } catch (error) {
    if (sqlState(error) === 'ENOENT') return {};
    throw error;
  }
}

function variable(login: (typeof logins)[number]): string {
  return `PARTYWALL_${login.toUpperCase()}_URL`;
}

function urlOf(databaseUrl: string, role: string, password: string): string {
  const url = new URL(databaseUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  return url.toString();
}
