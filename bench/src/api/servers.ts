import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';

export interface RunningServer {
  readonly origin: string;
  stop(): Promise<void>;
}

/** Starts a script of this folder in a process of its own; its first line is the address it listens on. */
export async function startServer(script: string, args: readonly string[]): Promise<RunningServer> {
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, script), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout });
  const [origin] = await Promise.race([once(lines, 'line'), once(child, 'exit').then(([code]) => Promise.reject(new Error(`${script} ended with ${code}`)))]);
  return { origin: String(origin), stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}
