import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { freePort } from '@partywall/engine';
import { afterEach, beforeEach, expect, test } from 'vitest';

const example = path.resolve(import.meta.dirname, '..');
/** A first start raises a whole wall and attacks it. */
const startTimeoutMs = 120_000;

let folder: string;
let running: ChildProcess[];

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-rental-start-'));
  await fs.chmod(folder, 0o755);
  running = [];
});

afterEach(async () => {
  for (const child of running) await stop(child);
  await fs.rm(folder, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly errors: () => string;
}

/** Starts in a folder of the test's own, as `npm start -w examples/rental` does in the example's. */
function start(port: string): Started {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(example, 'src/start.ts')], {
    cwd: folder,
    env: { ...inherited, PORT: port },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  const said = { output: '', errors: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    said.output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    said.errors += chunk.toString();
  });
  return { child, output: () => said.output, errors: () => said.errors };
}

async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGINT');
    await once(child, 'exit');
  }
  return child.exitCode;
}

/** Waits for the last line of the greeting, or for the end. */
async function greeting({ child, output, errors }: Started): Promise<string> {
  const ended = once(child, 'exit');
  while (!/^\. '.*env'$/m.test(output())) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${errors()}${output()}`);
    await Promise.race([ended, once(child.stdout ?? child, 'data')]);
  }
  return output();
}

interface Answered {
  readonly status: number;
  readonly ids: readonly string[];
}

/** Does what the printed curl lines do. */
function typed(output: string): Promise<Answered[]> {
  const lines = output.split('\n').filter((line) => line.startsWith('curl '));
  return Promise.all(
    lines.map(async (line) => {
      const headers = Object.fromEntries([...line.matchAll(/-H '([\w-]+): ([^']+)'/g)].map(([, name = '', value = '']) => [name, value]));
      const response = await fetch(/'(http[^']+)'$/.exec(line)?.[1] ?? '', { headers });
      const { items = [] } = (await response.json()) as { items?: { id: string }[] }; // a problem has no items
      return { status: response.status, ids: items.map(({ id }) => id) };
    }),
  );
}

test(
  'a first start serves two tenants who see different assets and refuses the one who asks for the other, and a second start changes nothing',
  async () => {
    const port = String(await freePort());
    const first = start(port);
    const output = await greeting(first);
    expect(output).toMatch(/^verify {4}sound, \d+ residual risks named$/m);
    const [a, b, crossed] = await typed(output);
    expect([a?.status, b?.status, crossed?.status]).toEqual([200, 200, 403]);
    expect([a?.ids.length, b?.ids.length]).toEqual([6, 6]);
    expect(a?.ids.filter((id) => b?.ids.includes(id))).toEqual([]);
    expect(((await fs.stat(path.join(folder, '.partywall/env'))).mode & 0o777).toString(8)).toBe('600');
    expect(await stop(first.child)).toBe(0);
    expect(first.errors()).toBe('');
    await expect(fetch(`http://127.0.0.1:${port}/health`)).rejects.toThrow();
    await expect(fs.access(path.join(folder, '.partywall/postgres/postmaster.pid'))).rejects.toThrow();

    const second = start(port);
    const again = await greeting(second);
    expect(again).toContain('nothing was changed');
    expect(again.match(/nothing to do/g)).toHaveLength(2);
    expect((await typed(again))[0]).toEqual(a);
    expect(await stop(second.child)).toBe(0);
  },
  startTimeoutMs,
);

test('a port that is none is one line, and nothing is started for it', async () => {
  const started = start('http');
  await once(started.child, 'exit');
  expect(started.child.exitCode).toBe(2);
  expect(started.errors().trim().split('\n')).toEqual([expect.stringContaining('"http" is not a port')]);
  expect(await fs.readdir(folder)).toEqual([]);
});
