import { spawn } from 'node:child_process';

/** Programs of the PostgreSQL that the benchmark runs on. */
export const bin = '/usr/lib/postgresql/15/bin';

/** Seconds of a line of shell. */
export async function timed(line: string): Promise<number> {
  const began = performance.now();
  await run(['bash', '-o', 'pipefail', '-c', line]);
  return (performance.now() - began) / 1000;
}

/** Ends well or throws. */
export async function run([command = '', ...args]: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<{ stdout: string }> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], env });
  const pieces: Buffer[] = [];
  child.stdout.on('data', (piece: Buffer) => pieces.push(piece));
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.once('error', reject);
  child.once('close', (status) => (status === 0 ? resolve() : reject(new Error(`${command} ended with ${status}`))));
  await promise;
  return { stdout: Buffer.concat(pieces).toString('utf8') };
}
