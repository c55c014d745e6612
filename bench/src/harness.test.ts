import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { connect } from '@partywall/engine';
import { expect, test } from 'vitest';
import { listBenches, runBench } from './harness.ts';
import { atMost } from './report.ts';

test('a benchmark gets a server of its own, which is gone afterwards', async () => {
  let url = '';
  const said: string[] = [];
  const result = await runBench(
    'sample',
    {
      about: 'a sample',
      settings: { work_mem: '7MB' },
      run: async (context) => {
        url = await context.createDatabase('a "quoted" name');
        context.say('measuring');
        const client = await connect(url, { purpose: 'bench' });
        const { rows } = await client.query<{ work_mem: string }>('show work_mem');
        await client.end();
        expect(rows[0]?.work_mem).toBe('7MB');
        return { checks: [atMost(1, { name: 'c', value: 0.5, unit: 's' })] };
      },
    },
    { quick: true, signal: new AbortController().signal, say: (text) => said.push(text) },
  );
  expect(result).toMatchObject({ name: 'sample', quick: true, checks: [{ name: 'c', value: 0.5, limit: 1, ok: true, unit: 's' }] });
  expect(result.machine).toEqual({ cpus: os.availableParallelism(), node: process.versions.node, postgres: expect.stringMatching(/^18\./) });
  expect(said).toEqual(['measuring']);
  await expect(connect(url, { purpose: 'bench' })).rejects.toMatchObject({ code: 'database_unreachable' });
});

test('a benchmark that throws takes its server down with it', async () => {
  let url = '';
  const failing = runBench(
    'failing',
    {
      about: 'fails',
      run: async (context) => {
        url = context.server.url;
        throw new Error('no figures today');
      },
    },
    { quick: true, signal: new AbortController().signal, say: () => undefined },
  );
  await expect(failing).rejects.toThrow('no figures today');
  await expect(connect(url, { purpose: 'bench' })).rejects.toMatchObject({ code: 'database_unreachable' });
});

test('benchmarks are the files that end in .bench.ts', async () => {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bench-list-'));
  for (const file of ['wall.bench.ts', 'apply.bench.ts', 'report.ts', 'wall.bench.test.ts']) await fs.writeFile(path.join(folder, file), '');
  expect(await listBenches(folder)).toEqual(['apply', 'wall']);
  await fs.rm(folder, { recursive: true });
});
