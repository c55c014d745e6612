import { execFile } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '@partywall/engine';
import { expect, test } from 'vitest';
import { startedExample, startTimeoutMs } from '../../../test/support/started-example.ts';

const example = path.resolve(import.meta.dirname, '..');
const binary = path.resolve(example, '../../packages/cli/bin/partywall.js');
const { folder, start } = startedExample(path.join(example, 'src'));

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
    const output = await first.said(/^\. '.*env'$/m);
    expect(output).toMatch(/^verify {4}sound, \d+ residual risks named$/m);
    const [one, other] = await agents(output);
    expect(one?.items).toHaveLength(2);
    expect(other?.items).toHaveLength(2);
    expect(one?.items.map(({ id }) => id)).not.toEqual(other?.items.map(({ id }) => id));

    // What the greeting says to type, in a shell of a newcomer.
    const [, source = ''] = /^(\. '.*env')$/m.exec(output) ?? [];
    const shell = `set -e; ${source}; cd ${JSON.stringify(example)}; for i in $(seq 60); do [ "$("$0" "$1" backup list --json | grep -c '"id"')" = 0 ] || break; done; "$0" "$1" backup list`;
    const { stdout } = await promisify(execFile)('/bin/bash', ['--norc', '-c', shell, process.execPath, binary], {
      env: { PATH: process.env['PATH'] ?? '', HOME: folder() },
    });
    expect(stdout).toMatch(/13 subjects .* schedule/);
    expect(((await fs.stat(path.join(folder(), '.partywall/env'))).mode & 0o777).toString(8)).toBe('600');

    expect(await first.stop()).toBe(0);
    await expect(fetch(`http://127.0.0.1:${port}/api/health`)).rejects.toThrow();
    await expect(fs.access(path.join(folder(), '.partywall/postgres/postmaster.pid'))).rejects.toThrow();

    const second = start('start.ts', { PORT: port });
    const again = await second.said(/^\. '.*env'$/m);
    expect(again).toContain('nothing was changed');
    expect(again.match(/nothing to do/g)).toHaveLength(3);
    expect((await agents(again))[0]).toEqual(one);
    expect(await second.stop()).toBe(0);
  },
  startTimeoutMs,
);

test('on SQLite two tenants see their own agents, a session of another tenant takes no message, and the printed line backs all up while it runs', async () => {
  const port = String(await freePort());
  const first = start('start-sqlite.ts', { PORT: port });
  const output = await first.said(/^PARTYWALL_ARCHIVE=.*$/m);
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
    cwd: folder(),
    env: { PATH: process.env['PATH'] ?? '', HOME: folder() },
  });
  expect(stdout).toMatch(/^backup \S+: 12 tenants of /);
  expect(await first.stop()).toBe(0);

  const second = start('start-sqlite.ts', { PORT: port });
  expect(await second.said(/^PARTYWALL_ARCHIVE=.*$/m)).toContain('nothing was changed');
  expect(await second.stop()).toBe(0);
});

test('a port that is none is one line, and nothing is started for it', async () => {
  const started = start('start.ts', { PORT: 'http' });
  await once(started.child, 'exit');
  expect(started.child.exitCode).toBe(2);
  expect(started.errors().trim().split('\n')).toEqual([expect.stringContaining('"http" is not a port')]);
  expect(await fs.readdir(folder())).toEqual([]);
});
