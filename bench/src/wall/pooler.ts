import { spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '@partywall/engine';
import pg from 'pg';

const binary = '/usr/sbin/pgbouncer';
const readyAttemptsMax = 100;

/** PgBouncer in transaction mode in front of the server of `url`, or undefined where it is not installed. */
export async function startPooler(url: string): Promise<{ url: string; stop(): Promise<void> } | undefined> {
  if (
    !(await fs.access(binary).then(
      () => true,
      () => false,
    ))
  )
    return undefined;
  const target = new URL(url);
  const port = await freePort();
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-pooler-'));
  await fs.chmod(folder, 0o755);
  const file = path.join(folder, 'pgbouncer.ini');
  const lines = [
    '[databases]',
    `* = host=127.0.0.1 port=${target.port}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'auth_type = trust',
    `auth_file = ${path.join(folder, 'users')}`,
    'pool_mode = transaction',
    'unix_socket_dir =',
  ];
  await fs.writeFile(file, `${lines.join('\n')}\n`);
  await fs.writeFile(path.join(folder, 'users'), ['"postgres" ""', '"bench_app" ""', ''].join('\n'));
  const root = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  const child = spawn(binary, [file], { ...root, stdio: 'ignore' });
  const pooled = new URL(url);
  pooled.port = String(port);
  const stop = async (): Promise<void> => {
    child.kill('SIGINT');
    await fs.rm(folder, { recursive: true, force: true });
  };
  for (let attempt = 1; ; attempt += 1) {
    const client = new pg.Client(pooled.toString());
    try {
      await client.connect();
      await client.end();
      return { url: pooled.toString(), stop };
    } catch (error) {
      await client.end().catch(() => undefined);
      if (attempt === readyAttemptsMax || child.exitCode !== null) {
        await stop();
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
