import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { connect, createSystemDatabase, ident, systemDatabaseName } from '@partywall/engine';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { controlDatabase } from '../../../test/support/control-database.ts';
import { type RunningServer, type ServeOptions, serve, signSessionToken } from '../src/index.ts';

const secret = 'a secret of the tests, thirty-two bytes and more';
const fixture = await controlDatabase();
const { database, control } = fixture;
const owner = await connect(database.url, { purpose: 'test' });
await createSystemDatabase(owner, control.model.roles.service);
afterAll(async () => {
  await owner.query(`drop database if exists ${ident(systemDatabaseName(database.name))} with (force)`);
  await owner.end();
});
const lines: string[] = [];
const options: ServeOptions = {
  url: fixture.urls.service,
  model: control.model,
  keyring: control.keyring,
  port: 0,
  people: { secret, baseUrl: 'http://localhost:5000' },
  logTo: { write: (line) => lines.push(line) },
};
const patience = { timeout: 20_000 };
const running: RunningServer[] = [];
const start = async (changes: Partial<ServeOptions> = {}): Promise<RunningServer> => {
  const server = await serve({ ...options, ...changes });
  running.push(server);
  return server;
};
afterAll(() => Promise.all(running.map((server) => server.close())));

test('a served control plane answers on its port until it is closed', async () => {
  const server = await start();
  expect(await (await fetch(`${server.url}/api/health`)).json()).toMatchObject({ status: 'ok' });
  await server.close();
  await expect(fetch(`${server.url}/api/health`)).rejects.toThrow();
  await expect.poll(connections, patience).toBe(0);
});

test('a port that somebody else listens on is named, and nothing is left behind', async () => {
  const occupier = net.createServer().listen(0, '127.0.0.1');
  await once(occupier, 'listening');
  const address = occupier.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  await expect(start({ port })).rejects.toMatchObject({ code: 'port_busy', exit: 2 });
  occupier.close();
  await expect.poll(connections, patience).toBe(0);
});

test('what is wrong is said at once and in full, without the values', async () => {
  const broken = serve({
    ...options,
    url: database.url,
    keyring: path.join(control.keyring, 'file', '\0'),
    people: { secret: 'too short', baseUrl: 'localhost', trustedOrigins: ['ftp://x'] },
    trustProxy: ['10.0.0.0/8', 'everybody'],
  });
  const refusal = await broken.catch((error: unknown) => error);
  expect(refusal).toMatchObject({ code: 'serve_refused', exit: 2, message: 'starting the server: 6 things are not as needed' });
  expect(refusal).toMatchObject({
    details: [
      expect.stringContaining('people.secret: needs at least 32 bytes'),
      'people.baseUrl: not of the form https://host:port',
      'people.trustedOrigins: not of the form https://host:port',
      'trustProxy: everybody is neither an address nor a network such as 10.0.0.0/8',
      expect.stringContaining('keyring: '),
      expect.stringContaining(`and not as ${control.model.roles.service}, the service role`),
    ],
  });
  expect(JSON.stringify(refusal)).not.toContain('too short');
});

test('a service role that has lost its right, or has too many, and a database without the control plane are refused', async () => {
  const { service } = control.model.roles;
  const details = async (): Promise<unknown> => (await serve(options).catch((error: unknown) => error)) as { details?: unknown };
  await database.query(`alter role ${service} nobypassrls`);
  expect(await details()).toMatchObject({ details: [expect.stringContaining('lacks BYPASSRLS')] });
  await database.query(`alter role ${service} bypassrls superuser`);
  expect(await details()).toMatchObject({ details: [expect.stringContaining('is a superuser')] });
  await database.query(`alter role ${service} nosuperuser`);
  await database.query('alter table partywall_control.migrations rename to mislaid');
  expect(await details()).toMatchObject({ details: [expect.stringContaining('run `partywall migrate`')] });
  await database.query('alter table partywall_control.mislaid rename to migrations');
  const system = systemDatabaseName(database.name);
  await database.query(`alter database ${ident(system)} rename to ${ident(`${system}_mislaid`)}`);
  expect(await details()).toMatchObject({ details: [expect.stringContaining('remembers the steps of long operations, is missing')] });
  await database.query(`alter database ${ident(`${system}_mislaid`)} rename to ${ident(system)}`);
  const unreachable = serve({ ...options, url: 'postgresql://nobody:hidden@127.0.0.1:1/none' });
  const refusal = await unreachable.catch((error: unknown) => error);
  expect(refusal).toMatchObject({ details: [expect.stringContaining('nobody@127.0.0.1:1/none')] });
  expect(JSON.stringify(refusal)).not.toContain('hidden');
});

test('told to stop, it takes no new connection and answers the request that runs', async () => {
  const server = await start();
  const blocked = await blockSignIn();
  const answer = ask(server.url);
  await expect.poll(waiting, patience).toBe(1);
  const closed = server.close();
  await expect.poll(() => accepts(server.url), patience).toBe(false);
  await blocked.release();
  expect(await answer).toBe(401);
  await closed;
  await expect.poll(connections, patience).toBe(0);
});

test('a request that does not end in time is cut off, and the server stops', async () => {
  const server = await start({ drainTimeoutMs: 200 });
  const blocked = await blockSignIn();
  const answer = ask(server.url);
  await expect.poll(waiting, patience).toBe(1);
  const closed = server.close();
  expect(await answer).toBe('cut off');
  await blocked.release();
  await closed;
});

test('stopping twice is stopping once', async () => {
  const server = await start();
  await Promise.all([server.close(), server.close()]);
  await server.close();
});

/** Holds every look-up of a session until it is released. */
async function blockSignIn(): Promise<{ release(): Promise<unknown> }> {
  // On a connection of its own: inside a transaction pg_stat_activity stands still.
  const client = new pg.Client(database.url);
  await client.connect();
  await client.query('begin; lock table partywall_people."session" in access exclusive mode');
  return { release: () => client.end() };
}

/** The status that a request with a session that does not exist gets, from a connection that is kept open. */
function ask(url: string): Promise<number | 'cut off' | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | 'cut off' | undefined>();
  const agent = new http.Agent({ keepAlive: true });
  const headers = { authorization: `Bearer ${signSessionToken(crypto.randomUUID(), secret)}` };
  const request = http.get(`${url}/api/tenants/export`, { agent, headers }, (answer) => {
    answer.resume();
    resolve(answer.statusCode);
  });
  request.on('error', () => resolve('cut off'));
  return promise.finally(() => agent.destroy());
}

async function waiting(): Promise<number> {
  return count(`wait_event_type = 'Lock'`);
}

/** Of servers: the fixture's own pool has another name. */
function connections(): Promise<number> {
  return count('true');
}

async function count(condition: string): Promise<number> {
  const { rows } = await database.query<{ count: number }>(
    `select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name = 'partywall server' and ${condition}`,
  );
  return rows[0]?.count ?? 0;
}

function accepts(url: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = net.connect(Number(new URL(url).port), '127.0.0.1');
  socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}
