import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { freePort } from '@partywall/engine';
import { expect, test } from 'vitest';
import { startedExample, startTimeoutMs } from '../../../test/support/started-example.ts';

const { folder, start } = startedExample(path.resolve(import.meta.dirname, '../src'));
/** The last line of the greeting. */
const sourceLine = /^\. '.*env'$/m;

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
    const first = start('start.ts', { PORT: port });
    const output = await first.said(sourceLine);
    expect(output).toMatch(/^verify {4}sound, \d+ residual risks named$/m);
    const [a, b, crossed] = await typed(output);
    expect([a?.status, b?.status, crossed?.status]).toEqual([200, 200, 403]);
    expect([a?.ids.length, b?.ids.length]).toEqual([6, 6]);
    expect(a?.ids.filter((id) => b?.ids.includes(id))).toEqual([]);
    expect(((await fs.stat(path.join(folder(), '.partywall/env'))).mode & 0o777).toString(8)).toBe('600');
    expect(await first.stop()).toBe(0);
    expect(first.errors()).toBe('');
    await expect(fetch(`http://127.0.0.1:${port}/health`)).rejects.toThrow();
    await expect(fs.access(path.join(folder(), '.partywall/postgres/postmaster.pid'))).rejects.toThrow();

    // As from a terminal that has sourced the environment of the first.
    const [, sourced = ''] = /^export DATABASE_URL='(.+)'$/m.exec(await fs.readFile(path.join(folder(), '.partywall/env'), 'utf8')) ?? [];
    const second = start('start.ts', { PORT: port, DATABASE_URL: sourced });
    const again = await second.said(sourceLine);
    expect(again).toContain('nothing was changed');
    expect(again.match(/nothing to do/g)).toHaveLength(2);
    expect((await typed(again))[0]).toEqual(a);

    const beside = start('start.ts', { PORT: String(await freePort()) });
    await once(beside.child, 'exit');
    expect(beside.child.exitCode).toBe(2);
    expect(beside.errors()).toContain('another process uses the server of that folder');
    expect((await typed(again))[0]).toEqual(a);
    expect(await second.stop()).toBe(0);
  },
  startTimeoutMs,
);

test('a port that is none is one line, and nothing is started for it', async () => {
  const started = start('start.ts', { PORT: 'http' });
  await once(started.child, 'exit');
  expect(started.child.exitCode).toBe(2);
  expect(started.errors().trim().split('\n')).toEqual([expect.stringContaining('"http" is not a port')]);
  expect(await fs.readdir(folder())).toEqual([]);
});
