import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import pg from 'pg';
import { freePort } from '../../src/db/embedded.ts';

const binary = '/usr/sbin/pgbouncer';
const readyAttemptsMax = 200;

/** Debian's package; the continuous run installs it and forbids skips. */
export const hasPgBouncer = existsSync(binary) || process.env['PARTYWALL_NO_SKIPS'] === '1';

/** PgBouncer in transaction mode with one server connection per role and database, before the server of `url`. */
export async function startPgBouncer(url: string, roles: readonly string[]): Promise<{ urlOf(url: string): string; stop(): Promise<void> }> {
  const port = await freePort();
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-pgbouncer-'));
  await fs.chmod(folder, 0o755);
  const file = path.join(folder, 'pgbouncer.ini');
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    auth_type: 'trust',
    auth_file: path.join(folder, 'users'),
    pool_mode: 'transaction',
    default_pool_size: 1,
    unix_socket_dir: '',
  };
  const lines = [
    '[databases]',
    `* = host=127.0.0.1 port=${new URL(url).port}`,
    '[pgbouncer]',
    ...Object.entries(settings).map(([name, value]) => `${name} = ${value}`),
    '',
  ];
  await fs.writeFile(file, lines.join('\n'));
  await fs.writeFile(path.join(folder, 'users'), roles.map((role) => `"${role}" ""\n`).join(''));
  const asNobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  const child = spawn(binary, [file], { ...asNobody, stdio: 'ignore' });
  const urlOf = (direct: string): string => {
    const pooled = new URL(direct);
    pooled.port = String(port);
    return pooled.toString();
  };
  const stop = async (): Promise<void> => {
    if (child.exitCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGINT');
      await ended;
    }
    await fs.rm(folder, { recursive: true, force: true });
  };
  for (let attempt = 1; ; attempt += 1) {
    const client = new pg.Client(urlOf(url));
    client.on('error', () => undefined); // the pooler may close a connection that it has not set up yet
    try {
      await client.connect();
      await client.end();
      return { urlOf, stop };
    } catch (error) {
      if (attempt === readyAttemptsMax || child.exitCode !== null) {
        await stop();
        throw error;
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
