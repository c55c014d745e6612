import fs from 'node:fs/promises';
import net from 'node:net';
import {
  assertControl,
  type ControlDatabase,
  connect,
  controlPool,
  type Durable,
  hasSystemDatabase,
  PartywallError,
  sqlState,
  startDurable,
  systemDatabaseUrl,
  type TenancyModel,
  worksOf,
} from '@partywall/engine';
import Fastify, { type FastifyInstance } from 'fastify';
import type pg from 'pg';
import { boundedServer } from './limits.ts';
import { structuredLogs } from './logging.ts';
import { peopleProblems } from './people/people-options.ts';
import { partywall, type ServerOptions } from './plugin.ts';
import { schedules } from './schedules.ts';

/** The control plane as a server of its own. */
export interface ServeOptions extends Omit<ServerOptions, 'database' | 'durable'> {
  /** Connection string of the service role. */
  readonly url: string;
  readonly model: TenancyModel;
  /** Folder of the keys, outside the database; made where there is none. */
  readonly keyring: string;
  /** Address to listen on. Default: 127.0.0.1, which a proxy of the same machine reaches and nobody else. */
  readonly host?: string;
  /** Default: 5000. 0 takes one that is free. */
  readonly port?: number;
  /** Proxies whose `X-Forwarded-For` is believed: addresses and networks. Default: none. */
  readonly trustProxy?: readonly string[];
  /** Default: info. */
  readonly logLevel?: LogLevel;
  /** Takes the log, a line of JSON each. Default: standard output. */
  readonly logTo?: { write(line: string): void };
  /** How long requests may go on once the server is told to stop. Default: 10 s. */
  readonly drainTimeoutMs?: number;
}

export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

export interface RunningServer {
  /** Where it answers: `http://127.0.0.1:5000`. */
  readonly url: string;
  /** Stops accepting, lets requests end, flushes what is in memory and closes the connections. Calling it twice is calling it once. */
  close(): Promise<void>;
}

export const serveDefaults = { host: '127.0.0.1', port: 5_000, logLevel: 'info', drainTimeoutMs: 10_000 } as const;

/**
 * Starts the control plane, or refuses with a list of all that is wrong.
 *
 * @throws PartywallError serve_refused, port_busy
 * @example const server = await serve({ url, model, keyring: '.partywall/keyring', people: { secret, baseUrl: 'https://partywall.example.com' } });
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  const problems = await serveProblems(options);
  if (problems.length > 0) {
    throw new PartywallError('serve_refused', `starting the server: ${problems.length} ${problems.length === 1 ? 'thing is' : 'things are'} not as needed`, {
      details: problems,
    });
  }
  const { url, model, keyring, host, port, trustProxy, logLevel, logTo, drainTimeoutMs, ...server } = { ...serveDefaults, ...options };
  const database: ControlDatabase = { pool: controlPool(url, { purpose: 'server' }), model, clock: () => new Date(), keyring };
  const app: FastifyInstance = Fastify({
    ...boundedServer,
    ...structuredLogs(logLevel, logTo),
    ...(trustProxy && { trustProxy: [...trustProxy] }),
  });
  let durable: Durable | undefined;
  const close = once(async () => {
    await drain(app, drainTimeoutMs);
    // What requests have started goes on in another server where it is not done by then.
    await durable?.stop();
    await database.pool.end();
  });
  try {
    const onTrouble = (message: string): void => app.log.warn({ trouble: message }, 'work beside requests failed');
    const { archive, placements } = server;
    durable = await startDurable({
      database,
      systemDatabaseUrl: systemDatabaseUrl(url),
      works: worksOf(server),
      schedules: schedules(database, { archive, placements }),
      onTrouble,
    });
    await app.register(partywall, { ...server, database, durable });
    return { url: await app.listen({ host, port }), close };
  } catch (error) {
    await close();
    if (sqlState(error) === 'EADDRINUSE') throw new PartywallError('port_busy', `listening on ${host}:${port}: the port is in use`, { cause: error });
    throw error;
  }
}

/** Everything that keeps the server from starting, a line each; none names a secret. */
async function serveProblems(options: ServeOptions): Promise<string[]> {
  return [
    ...peopleProblems(options.people),
    ...proxyProblems(options.trustProxy ?? []),
    ...(await keyringProblems(options.keyring)),
    ...(await databaseProblems(options)),
  ];
}

function proxyProblems(proxies: readonly string[]): string[] {
  const [wrong] = proxies.filter((proxy) => !net.isIP(proxy.replace(/\/\d{1,3}$/, '')));
  return wrong === undefined ? [] : [`trustProxy: ${wrong} is neither an address nor a network such as 10.0.0.0/8`];
}

async function keyringProblems(keyring: string): Promise<string[]> {
  try {
    await fs.mkdir(keyring, { recursive: true, mode: 0o700 });
    await fs.access(keyring, fs.constants.R_OK | fs.constants.W_OK | fs.constants.X_OK);
    return [];
  } catch (error) {
    return [`keyring: ${keyring} cannot be used as a folder (${sqlState(error) ?? 'unknown reason'})`];
  }
}

async function databaseProblems({ url, model }: ServeOptions): Promise<string[]> {
  let client: pg.Client;
  try {
    client = await connect(url, { purpose: 'server' });
  } catch (error) {
    return [`database: ${messageOf(error)}`];
  }
  try {
    return [...(await roleProblems(client, model)), ...(await controlProblems(client))];
  } finally {
    await client.end();
  }
}

/** Rights beyond those of the service role are refused like missing ones: the server is what the network reaches. */
async function roleProblems(client: pg.Client, model: TenancyModel): Promise<string[]> {
  const { rows } = await client.query<{ name: string; superuser: boolean; bypasses: boolean }>(
    'select rolname as name, rolsuper as superuser, rolbypassrls as bypasses from pg_roles where rolname = current_user',
  );
  const [role] = rows;
  if (!role) return ['database: the role of the connection is not in pg_roles'];
  if (role.name !== model.roles.service) {
    return [`database: connected as ${role.name}, and not as ${model.roles.service}, the service role of the config; \`partywall apply\` makes it`];
  }
  return [
    ...(role.superuser ? [`database: ${role.name} is a superuser, which the server must not be`] : []),
    ...(role.bypasses ? [] : [`database: ${role.name} lacks BYPASSRLS, so that it would see no tenant's rows`]),
  ];
}

async function controlProblems(client: pg.Client): Promise<string[]> {
  try {
    await assertControl(client);
    if (await hasSystemDatabase(client)) return [];
    return ['database: the one beside it, which remembers the steps of long operations, is missing; run `partywall migrate`'];
  } catch (error) {
    const hint = error instanceof PartywallError ? `; ${error.hint}` : '';
    return [`database: ${messageOf(error)}${hint}`];
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function drain(app: FastifyInstance, timeoutMs: number): Promise<void> {
  const deadline = setTimeout(() => app.server.closeAllConnections(), timeoutMs);
  try {
    await app.close();
  } finally {
    clearTimeout(deadline);
  }
}

function once(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => {
    running ??= work();
    return running;
  };
}
