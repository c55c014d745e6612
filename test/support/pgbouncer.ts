import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

/**
 * Debian's PgBouncer in transaction mode: the statements of one client are served by whichever server connection is free, and it keeps
 * no prepared statements. It refuses to run as root.
 */
const binary = '/usr/sbin/pgbouncer';
const nobodyId = 65534;
export const serverConnections = 2;

/** Without it the tests of it are skipped, unless PARTYWALL_NO_SKIPS forbids that. */
export const hasBouncer = existsSync(binary);

export interface Bouncer {
  urlAs(role: string): string;
  stop(): Promise<void>;
}

/** In front of the server of `target`, for one role. */
export async function startBouncer(target: string, user: string): Promise<Bouncer> {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bouncer-'));
  await fs.chmod(folder, 0o755);
  const port = await freePort();
  const { port: serverPort } = new URL(target);
  await fs.writeFile(path.join(folder, 'users.txt'), `"${user}" ""\n`);
  await fs.writeFile(
    path.join(folder, 'pgbouncer.ini'),
    `[databases]
* = host=127.0.0.1 port=${serverPort}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${folder}/users.txt
pool_mode = transaction
default_pool_size = ${serverConnections}
max_client_conn = 100
`,
  );
  const owner = process.getuid?.() === 0 ? { uid: nobodyId, gid: nobodyId } : {};
  const child = spawn(binary, [path.join(folder, 'pgbouncer.ini')], { ...owner, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-4_000);
  });
  await listening(child, port, () => log);
  const url = new URL(target);
  url.port = String(port);
  return {
    urlAs: (role) => {
      url.username = role;
      return url.toString();
    },
    stop: async () => {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGQUIT'); // PgBouncer ends at once, with open connections
      await ended;
      await fs.rm(folder, { recursive: true, force: true });
    },
  };
}

async function listening(child: ChildProcess, port: number, log: () => string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline && child.exitCode === null) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = net.connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 20)); // until it listens or ends, not for a time
  }
  throw new Error(`PgBouncer does not listen on port ${port}: ${log()}`);
}

async function freePort(): Promise<number> {
  const probe = net.createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no free port');
  return address.port;
}
