import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { ident, literal } from '../../db/sql.ts';
import { scramVerifier } from '../../wall/roles.ts';
import type { ScratchTarget } from './restore-scratch.ts';

export interface AppLogin {
  readonly role: string;
  /** Roles that the drill made on this server, and may give a password. */
  readonly made: readonly string[];
  /** The application's connection string on the staging server, for its user and password. */
  readonly appUrl: string | undefined;
}

const passwordHours = 24;

/**
 * A connection string of the application's role for the scratch database. A role that the drill itself made gets a password of its own; one that was there keeps
 * its own, which `appUrl` has where the server asks for one.
 */
export async function appConnection({ client, scratch }: ScratchTarget, { role, made, appUrl }: AppLogin): Promise<string> {
  const url = new URL(scratch.url);
  await client.query(`grant connect on database ${ident(decodeURIComponent(url.pathname.slice(1)))} to ${ident(role)}`);
  if (scratch.own || made.includes(role)) {
    const password = randomBytes(24).toString('base64url');
    // The server's clock decides when it ends.
    const { rows } = await client.query<{ until: string }>(`select (now() + interval '${passwordHours} hours')::text as until`);
    await client.query(`alter role ${ident(role)} login password ${literal(scramVerifier(password))} valid until ${literal(rows[0]?.until ?? '')}`);
    url.username = encodeURIComponent(role);
    url.password = encodeURIComponent(password);
    return url.toString();
  }
  const given = appUrl === undefined ? undefined : new URL(appUrl);
  url.username = given?.username || encodeURIComponent(role);
  url.password = given?.password ?? '';
  return url.toString();
}

const connectTimeoutMs = 10_000;

/** A session as the application has it: its own search path, whatever settings its role has. */
export async function withApp<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: url, application_name: 'partywall drill', connectionTimeoutMillis: connectTimeoutMs });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
