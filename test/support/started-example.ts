import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';

/** A first start of an example raises a whole wall and attacks it. */
export const startTimeoutMs = 120_000;

export interface Started {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly errors: () => string;
  /** What it has said when a line of its greeting matches; throws where it ends before. */
  readonly said: (line: RegExp) => Promise<string>;
  /** Ctrl-C, and its exit status. */
  readonly stop: () => Promise<number | null>;
}

/**
 * Starts scripts of an example as `npm start -w` does, in a folder that each test has to itself; what still runs after a test is stopped.
 *
 * @param sources folder of the scripts
 */
export function startedExample(sources: string): { folder: () => string; start: (script: string, env: Readonly<Record<string, string>>) => Started } {
  let folder = '';
  let running: Started[] = [];

  beforeEach(async () => {
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-start-'));
    await fs.chmod(folder, 0o755);
    running = [];
  });
  afterEach(async () => {
    for (const started of running) await started.stop();
    await fs.rm(folder, { recursive: true, force: true });
  });

  const start = (script: string, env: Readonly<Record<string, string>>): Started => {
    const { DATABASE_URL: _, ...inherited } = process.env;
    const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(sources, script)], {
      cwd: folder,
      env: { ...inherited, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const told = { output: '', errors: '' };
    child.stdout.on('data', (chunk: Buffer) => {
      told.output += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      told.errors += chunk.toString();
    });
    const started: Started = {
      child,
      output: () => told.output,
      errors: () => told.errors,
      said: async (line) => {
        const ended = once(child, 'exit');
        while (!line.test(told.output)) {
          if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${told.errors}${told.output}`);
          await Promise.race([ended, once(child.stdout, 'data')]);
        }
        return told.output;
      },
      stop: async () => {
        if (child.exitCode === null && child.signalCode === null) {
          child.kill('SIGINT');
          await once(child, 'exit');
        }
        return child.exitCode;
      },
    };
    running.push(started);
    return started;
  };
  return { folder: () => folder, start };
}
