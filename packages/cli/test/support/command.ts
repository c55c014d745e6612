import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';

export const binary = fileURLToPath(new URL('../../bin/partywall.js', import.meta.url));

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Surroundings {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Options of Node itself, before the binary. */
  readonly node?: readonly string[];
}

/** Starts the real command in a process of its own; only what `env` names is set besides PATH. */
export function startCommand(args: readonly string[], { cwd = os.tmpdir(), env = {}, node = [] }: Surroundings = {}): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [...node, binary, ...args], { cwd, env: { PATH: process.env['PATH'], HOME: os.tmpdir(), ...env } });
}

/** Runs the real command to its end. */
export async function partywall(args: readonly string[], surroundings: Surroundings = {}): Promise<Outcome> {
  return outcome(startCommand(args, surroundings));
}

export async function outcome(child: ChildProcessWithoutNullStreams): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.end();
  // `close` follows the end of both streams; its first argument is the exit status.
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}

/** Resolves when the stream has printed `text`. */
export async function printed(stream: NodeJS.ReadableStream, text: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let seen = '';
  const onData = (chunk: unknown): void => {
    seen += String(chunk);
    if (seen.includes(text)) resolve();
  };
  const onEnd = (): void => reject(new Error(`the stream ended without ${JSON.stringify(text)}: ${seen}`));
  stream.on('data', onData).once('end', onEnd);
  try {
    await promise;
  } finally {
    stream.off('data', onData).off('end', onEnd);
  }
}

/** A folder with the given files, removed after the test file. */
export async function folder(files: Readonly<Record<string, string>> = {}): Promise<string> {
  const at = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-cli-'));
  afterAll(() => fs.rm(at, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) {
    await fs.mkdir(path.dirname(path.join(at, name)), { recursive: true });
    await fs.writeFile(path.join(at, name), text);
  }
  return at;
}

/** What `--json` printed: exactly one JSON value on standard output. */
export function json(result: Outcome): unknown {
  return JSON.parse(result.stdout);
}
