import { once } from 'node:events';
import fs from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { freePort } from '@partywall/engine';
import { expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import { type Started, startedExample, startTimeoutMs } from '../../../test/support/started-example.ts';

const example = startedExample(path.resolve(import.meta.dirname, '../src'));
const start = (env: Readonly<Record<string, string>>): Started => example.start('start.ts', env);
/** The last line of the greeting. */
const secondLine = /curl -H [^\n]*\n[^\n]*\ncurl -H [^\n]*\n/;

interface Page {
  readonly items: readonly { readonly id: string }[];
}

/** Runs the printed curl lines, as far as a curl line needs more than a URL and a header. */
async function curlLines(output: string): Promise<Page[]> {
  const lines = [...output.matchAll(/^curl -H '(Authorization): ([^']+)' '([^']+)'$/gm)];
  return Promise.all(
    lines.map(async ([, header = '', value = '', url = '']) => {
      const response = await fetch(url, { headers: { [header]: value } });
      expect(response.status).toBe(200);
      return (await response.json()) as Page; // the API's own tests hold its shape
    }),
  );
}

test(
  'a first start prints curl lines of two tenants who see different rows, and a second one changes nothing',
  async () => {
    const port = String(await freePort());
    const first = start({ PORT: port });
    const output = await first.said(secondLine);
    expect(output).toMatch(/^verify {4}sound, \d+ residual risks named$/m);
    expect(await (await fetch(`http://127.0.0.1:${port}/api/health`)).json()).toMatchObject({ status: 'ok', database: 'ok' });
    const [one, other] = await curlLines(output);
    expect(one?.items).toHaveLength(3);
    expect(other?.items).toHaveLength(3);
    expect(one?.items.map(({ id }) => id)).not.toEqual(other?.items.map(({ id }) => id));
    expect(await first.stop()).toBe(0);
    await expect(fetch(`http://127.0.0.1:${port}/api/health`)).rejects.toThrow();
    await expect(fs.access(path.join(example.folder(), '.partywall', 'crm-postgres', 'postmaster.pid'))).rejects.toThrow();

    const second = start({ PORT: port });
    const again = await second.said(secondLine);
    expect(again).toContain('nothing was changed');
    expect(again.match(/nothing to do/g)).toHaveLength(3);
    expect(again).not.toMatch(/steps applied/);
    expect((await curlLines(again))[0]).toEqual(one);
    expect(await second.stop()).toBe(0);
  },
  startTimeoutMs,
);

test(
  'DATABASE_URL names the database that is walled and served',
  async () => {
    const database = await createDatabase();
    const started = start({ PORT: String(await freePort()), DATABASE_URL: database.url });
    const [one, other] = await curlLines(await started.said(secondLine));
    expect(one?.items[0]?.id).not.toBe(other?.items[0]?.id);
    const { rows } = await database.query<{ phase: string }>("select value #>> '{}' as phase from partywall.facts where name = 'phase'");
    expect(rows).toEqual([{ phase: 'contract' }]);
    await expect(fs.access(path.join(example.folder(), '.partywall', 'crm-postgres'))).rejects.toThrow();
  },
  startTimeoutMs,
);

test('a busy port is one line, and nothing is started for it', async () => {
  const busy = net.createServer().listen(0, '127.0.0.1');
  await once(busy, 'listening');
  const address = busy.address();
  const port = String(typeof address === 'object' && address ? address.port : 0);
  const started = start({ PORT: port });
  await once(started.child, 'exit');
  busy.close();
  expect(started.child.exitCode).toBe(2);
  expect(started.errors()).toBe(`crm: listening on port ${port}: another process listens there (set PORT to a free port)\n`);
  expect(await fs.readdir(example.folder())).toEqual([]);
});

test('a port that is none, and a database that does not answer, are one line each without the password', async () => {
  const nonsense = start({ PORT: 'http' });
  await once(nonsense.child, 'exit');
  expect(nonsense.errors().trim().split('\n')).toHaveLength(1);
  expect(nonsense.errors()).toContain('"http" is not a port');
  const gone = start({ PORT: String(await freePort()), DATABASE_URL: `postgresql://someone:hidden@127.0.0.1:${await freePort()}/crm` });
  await once(gone.child, 'exit');
  expect(gone.child.exitCode).toBe(2);
  expect(gone.errors().trim().split('\n')).toHaveLength(1);
  expect(gone.errors()).toContain('ECONNREFUSED');
  expect(gone.errors() + gone.output()).not.toContain('hidden');
});
