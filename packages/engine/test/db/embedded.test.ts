import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { connect, type EmbeddedDatabase, type EmbeddedServer, PartywallError, startEmbedded, startEmbeddedDatabase } from '@partywall/engine';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

let folder: string;
let started: (EmbeddedServer | EmbeddedDatabase)[];

beforeEach(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-embedded-'));
  await fs.chmod(folder, 0o755);
  started = [];
});

afterEach(async () => {
  for (const server of started) await server.stop();
  await fs.rm(folder, { recursive: true, force: true });
});

async function start(options: Partial<Parameters<typeof startEmbedded>[0]> = {}): Promise<EmbeddedServer> {
  const server = await startEmbedded({ dataDir: path.join(folder, 'data'), settings: { fsync: 'off' }, ...options });
  started.push(server);
  return server;
}

async function startDatabase(): Promise<EmbeddedDatabase> {
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

test('a server keeps its data, its password and its encoding over a restart', async () => {
  const first = await start();
  expect(await query(first.url, 'show server_encoding')).toEqual([{ server_encoding: 'UTF8' }]);
  await query(first.url, 'create table public.kept as select 1 as n');
  await first.stop();
  const second = await start();
  expect(second.adopted).toBe(false);
  expect(await query(second.url, 'select n from public.kept')).toEqual([{ n: 1 }]);
});

test('a server that outlived its parent is adopted and not started twice', async () => {
  const first = await start();
  const second = await start();
  expect(second).toMatchObject({ adopted: true, port: first.port });
  await second.stop();
  await expect(connect(first.url, { purpose: 'test' })).rejects.toMatchObject({ code: 'database_unreachable' });
});

test('the superuser needs the password, which only its owner can read', async () => {
  const server = await start();
  const open = new URL(server.url);
  open.password = '';
  await expect(connect(open.toString(), { purpose: 'test' })).rejects.toMatchObject({ code: 'database_refused' });
  open.password = 'wrong';
  await expect(connect(open.toString(), { purpose: 'test' })).rejects.toMatchObject({ code: 'database_refused' });
  const { mode } = await fs.stat(path.join(folder, 'data.secret'));
  expect(mode & 0o077).toBe(0);
});

test('a server listens on loopback alone', async () => {
  const server = await start();
  expect(await query(server.url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
});

test('a folder made by another major version is refused and left as it is', async () => {
  const first = await start({ major: 17 });
  await first.stop();
  await expect(start({ major: 18 })).rejects.toMatchObject({ code: 'embedded_unavailable', message: expect.stringContaining('version 17') });
  expect((await fs.readFile(path.join(folder, 'data', 'PG_VERSION'), 'utf8')).trim()).toBe('17');
});

test('a start that fails names the log and leaves no server behind', async () => {
  await expect(start({ settings: { shared_buffers: 'nonsense' } })).rejects.toMatchObject({
    code: 'embedded_unavailable',
    message: expect.stringContaining('data.log'),
  });
  await expect(fs.access(path.join(folder, 'data', 'postmaster.pid'))).rejects.toThrow();
});

test('an unreachable server, a wrong database and a wrong user are three different errors', async () => {
  const server = await start({ auth: 'trust' });
  await expect(connect(server.urlFor('nowhere'), { purpose: 'test' })).rejects.toMatchObject({
    code: 'wrong_database',
    message: expect.stringContaining('/nowhere'),
  });
  await expect(connect(server.urlFor('postgres', { user: 'nobody' }), { purpose: 'test' })).rejects.toMatchObject({ code: 'database_refused' });
  await expect(connect('postgresql://postgres:hidden@127.0.0.1:1/x', { purpose: 'test' })).rejects.toSatisfy(
    (error: Error) => !error.message.includes('hidden') && error.message.includes('127.0.0.1:1'),
  );
});

test('a server runs below a private home, also as root, and a folder that is thrown away takes its data along', async () => {
  const home = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-private-'));
  const dataDir = path.join(home, '.partywall/data');
  const first = await start({ dataDir });
  await query(first.url, 'create table public.kept as select 1 as n');
  await first.stop();
  const second = await start({ dataDir });
  expect(await query(second.url, 'select n from public.kept')).toEqual([{ n: 1 }]);
  await second.stop();
  await fs.rm(path.dirname(dataDir), { recursive: true });
  const third = await start({ dataDir });
  expect(await query(third.url, "select to_regclass('public.kept') as kept")).toEqual([{ kept: null }]);
  await third.stop();
  const real = await fs.realpath(dataDir);
  await fs.rm(home, { recursive: true });
  await fs.rm(real, { recursive: true, force: true });
});

describe('a database of its own', () => {
  test('a later start finds the data of the one before', async () => {
    const first = await startDatabase();
    await query(first.url, 'create table public.kept as select 1 as n');
    await first.stop();
    await expect(connect(first.url, { purpose: 'test' })).rejects.toMatchObject({ code: 'database_unreachable' });
    expect(await query((await startDatabase()).url, 'select n from public.kept')).toEqual([{ n: 1 }]);
  });

  test('a start beside one that runs is refused, and what runs goes on', async () => {
    const first = await startDatabase();
    const beside = await startDatabase().catch((error: unknown) => error);
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
    const second = await startDatabase();
    expect(second.url).toBe(url.toString().trim());
    expect(await query(second.url, 'select 1 as n')).toEqual([{ n: 1 }]);
    await second.stop();
    await expect(connect(second.url, { purpose: 'test' })).rejects.toMatchObject({ code: 'database_unreachable' });
  });
});
