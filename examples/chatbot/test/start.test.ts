import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '@partywall/engine';
import { afterEach, beforeEach, expect, test } from 'vitest';

const example = path.resolve(import.meta.dirname, '..');
const binary = path.resolve(example, '../../packages/cli/bin/partywall.js');
/** A first start raises a whole wall and attacks it. */
const startTimeoutMs = 120_000;

let folder: string;
let running: ChildProcess[];

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-chatbot-start-'));
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

/** Starts in a folder of the test's own, as `npm start -w examples/chatbot` does in the example's. */
function start(script: string, env: Record<string, string>): Started {
  const { DATABASE_URL: _, ...inherited } = process.env;
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(example, 'src', script)], {
    cwd: folder,
    env: { ...inherited, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  return { child, output: () => output, errors: () => errors };
}

async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGINT');
    await once(child, 'exit');
  }
  return child.exitCode;
}

/** Waits for a line of the greeting, or for the end. */
async function said({ child, output, errors }: Started, line: RegExp): Promise<string> {
  const ended = once(child, 'exit');
  while (!line.test(output())) {
    if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${errors()}${output()}`);
    await Promise.race([ended, once(child.stdout ?? child, 'data')]);
  }
  return output();
}

interface Page {
  readonly items: readonly { readonly id: string; readonly name: string }[];
}

/** Runs the printed curl lines of tenants. */
async function agents(output: string): Promise<Page[]> {
  const lines = [...output.matchAll(/^curl -H '(Authorization): ([^']+)' '([^']+\/api\/agents)'$/gm)];
  return Promise.all(
    lines.map(async ([, header = '', value = '', url = '']) => {
      const response = await fetch(url, { headers: { [header]: value } });
      expect(response.status).toBe(200);
      return (await response.json()) as Page; // the API's own tests hold its shape
    }),
  );
}

test(
  'a first start serves two tenants who see different agents and backs all up, its printed line makes the runbook’s commands work, and a second start changes nothing',
  async () => {
    const port = String(await freePort());
    const first = start('start.ts', { PORT: port });
    const output = await said(first, /^\. '.*env'$/m);
    expect(output).toMatch(/^verify {4}sound, \d+ residual risks named$/m);
    const [one, other] = await agents(output);
    expect(one?.items).toHaveLength(2);
    expect(other?.items).toHaveLength(2);
    expect(one?.items.map(({ id }) => id)).not.toEqual(other?.items.map(({ id }) => id));

    // What the greeting says to type, in a shell of a newcomer.
    const [, source = ''] = /^(\. '.*env')$/m.exec(output) ?? [];
    const shell = `set -e; ${source}; cd ${JSON.stringify(example)}; for i in $(seq 60); do [ "$("$0" "$1" backup list --json | grep -c '"id"')" = 0 ] || break; done; "$0" "$1" backup list`;
    const { stdout } = await promisify(execFile)('/bin/bash', ['--norc', '-c', shell, process.execPath, binary], {
      env: { PATH: process.env['PATH'] ?? '', HOME: folder },
    });
    expect(stdout).toMatch(/13 subjects .* schedule/);
    expect(((await fs.stat(path.join(folder, '.partywall/env'))).mode & 0o777).toString(8)).toBe('600');

    expect(await stop(first.child)).toBe(0);
    await expect(fetch(`http://127.0.0.1:${port}/api/health`)).rejects.toThrow();
    await expect(fs.access(path.join(folder, '.partywall/postgres/postmaster.pid'))).rejects.toThrow();

    const second = start('start.ts', { PORT: port });
    const again = await said(second, /^\. '.*env'$/m);
    expect(again).toContain('nothing was changed');
    expect(again.match(/nothing to do/g)).toHaveLength(3);
    expect((await agents(again))[0]).toEqual(one);
    expect(await stop(second.child)).toBe(0);
  },
  startTimeoutMs,
);

test('on SQLite two tenants see their own agents, a session of another tenant takes no message, and the printed line backs all up while it runs', async () => {
  const port = String(await freePort());
  const first = start('start-sqlite.ts', { PORT: port });
  const output = await said(first, /^PARTYWALL_ARCHIVE=.*$/m);
  const [one, other] = await agents(output);
  expect(one?.items).toHaveLength(2);
  expect(other?.items).toHaveLength(2);
  expect(one?.items.map(({ id }) => id)).not.toEqual(other?.items.map(({ id }) => id));
  const [, token = ''] = /Bearer ([^']+)'/.exec(output) ?? [];
  const post = (sessionId: number, authorization: string) =>
    fetch(`http://127.0.0.1:${port}/api/messages`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ sessionId, body: 'hello' }),
    });
  const statuses = [await post(1, `Bearer ${token}`), await post(50, `Bearer ${token}`), await post(1, 'Bearer none')].map(({ status }) => status);
  expect(statuses).toEqual([201, 404, 401]);

  const [line = ''] = /^PARTYWALL_ARCHIVE=.*$/m.exec(output) ?? [];
  const shell = line.replace('npx partywall', `"$0" "$1" --config ${JSON.stringify(path.join(example, 'partywall.config.ts'))}`);
  const { stdout } = await promisify(execFile)('/bin/bash', ['--norc', '-c', shell, process.execPath, binary], {
    cwd: folder,
    env: { PATH: process.env['PATH'] ?? '', HOME: folder },
  });
  expect(stdout).toMatch(/^backup \S+: 12 tenants of /);
  expect(await stop(first.child)).toBe(0);

  const second = start('start-sqlite.ts', { PORT: port });
  expect(await said(second, /^PARTYWALL_ARCHIVE=.*$/m)).toContain('nothing was changed');
  expect(await stop(second.child)).toBe(0);
});

test('a port that is none is one line, and nothing is started for it', async () => {
  const started = start('start.ts', { PORT: 'http' });
  await once(started.child, 'exit');
  expect(started.child.exitCode).toBe(2);
  expect(started.errors().trim().split('\n')).toEqual([expect.stringContaining('"http" is not a port')]);
  expect(await fs.readdir(folder)).toEqual([]);
});
