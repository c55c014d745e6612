import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { connect, type EmbeddedDatabase, PartywallError, startEmbeddedDatabase } from '@partywall/engine';
import { afterEach, beforeEach, expect, test } from 'vitest';

let folder: string;
let started: EmbeddedDatabase[];

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-embedded-'));
  await fs.chmod(folder, 0o755);
  started = [];
});

afterEach(async () => {
  for (const database of started) await database.stop();
  await fs.rm(folder, { recursive: true, force: true });
});

async function start(): Promise<EmbeddedDatabase> {
  const database = await startEmbeddedDatabase({ dataDir: path.join(folder, 'data'), database: 'De"mo' });
  started.push(database);
  return database;
}

async function query(url: string, text: string): Promise<unknown[]> {
  const client = await connect(url, { purpose: 'test' });
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

test('a later start finds the data of the one before', async () => {
  const first = await start();
  await query(first.url, 'create table public.kept as select 1 as n');
  await first.stop();
  await expect(connect(first.url, { purpose: 'test' })).rejects.toMatchObject({ code: 'database_unreachable' });
  expect(await query((await start()).url, 'select n from public.kept')).toEqual([{ n: 1 }]);
});

test('a start beside one that runs is refused, and what runs goes on', async () => {
  const first = await start();
  const beside = await start().catch((error: unknown) => error);
  expect(beside).toBeInstanceOf(PartywallError);
  expect(beside).toMatchObject({ code: 'embedded_unavailable', message: expect.stringContaining('another process uses the server') });
  expect(await query(first.url, 'select 1 as n')).toEqual([{ n: 1 }]);
});

test('the server of a process that was killed is taken over, and stopped with its new one', async () => {
  const script = `
    import { startEmbeddedDatabase } from '@partywall/engine';
    const { url } = await startEmbeddedDatabase({ dataDir: process.argv[1], database: 'De"mo' });
    console.log(url);
    setInterval(() => undefined, 1000);
  `;
  const child = spawn(process.execPath, ['--conditions=partywall-source', '--input-type=module', '--eval', script, path.join(folder, 'data')], {
    cwd: import.meta.dirname,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [url] = (await once(child.stdout, 'data')) as [Buffer];
  child.kill('SIGKILL');
  await once(child, 'exit');
  const second = await start();
  expect(second.url).toBe(url.toString().trim());
  expect(await query(second.url, 'select 1 as n')).toEqual([{ n: 1 }]);
  await second.stop();
  await expect(connect(second.url, { purpose: 'test' })).rejects.toMatchObject({ code: 'database_unreachable' });
});
