import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { describeTarget, PartywallError, startDurable, startEmbeddedDatabase, works } from '@partywall/engine';
import { schedules } from '@partywall/server';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { createApp } from './app.ts';
import { demoTenants } from './demo-tenants.ts';
import { demoSecrets } from './secrets.ts';
import { demoOperator, standUp } from './stand-up.ts';

const defaultPort = 5000;
const host = '127.0.0.1';
const databaseName = 'crm';
/** Below the folder that npm runs scripts in, which is the repository's root. */
const folder = path.resolve('.partywall');

/** Starts what is needed, in order, and stops it in reverse: on Ctrl-C, and when a later part fails. */
async function main(signal: AbortSignal): Promise<void> {
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const port = await freePortFromEnvironment();
    const given = process.env['DATABASE_URL'];
    const adminUrl = given ?? (await ownDatabase(stops));
    say(`database  ${describeTarget(adminUrl)}`);
    // The embedded server is the same one on whichever port it is.
    const secrets = await demoSecrets(folder, given === undefined ? 'embedded' : describeTarget(given));
    const { pool, control, slowQueries, systemUrl } = await standUp(adminUrl, secrets, path.join(folder, 'crm-keyring'), say, signal);
    // `pool.end()` does not wait for its connections to close: the server's shutdown can still reach one, which reports it here.
    pool.on('error', () => undefined);
    stops.push(() => Promise.all([pool.end(), control.pool.end()]));
    const baseUrl = `http://${host}:${port}`;
    const durable = await startDurable({ database: control, systemDatabaseUrl: systemUrl, works, schedules: schedules(control) });
    stops.push(() => durable.stop());
    const people = { secret: secrets.sessionSecret, baseUrl };
    const app = await createApp({ pool, server: { database: control, people, durable, slowQueries } });
    stops.push(() => app.close());
    await app.listen({ port, host }).catch((cause: unknown) => {
      throw portError(port, cause);
    });
    await greet(app, baseUrl, secrets.peoplePassword);
    if (!signal.aborted) await once(signal, 'abort');
    say('stopping');
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
}

/** Below `.partywall`; a later start finds its data again. */
async function ownDatabase(stops: (() => Promise<unknown>)[]): Promise<string> {
  const own = await startEmbeddedDatabase({ dataDir: path.join(folder, 'crm-postgres'), database: databaseName });
  stops.push(() => own.stop());
  return own.url;
}

/** The port is tried before anything is started: a busy one should not cost a minute first. */
async function freePortFromEnvironment(): Promise<number> {
  const given = process.env['PORT'] ?? String(defaultPort);
  const port = Number(given);
  if (!/^\d+$/.test(given) || port < 1 || port > 65_535)
    throw new PartywallError('usage', `reading PORT: ${JSON.stringify(given)} is not a port`, { hint: 'set PORT to a number from 1 to 65535' });
  const probe = net.createServer();
  try {
    probe.listen(port, host);
    await once(probe, 'listening');
  } catch (cause) {
    throw portError(port, cause);
  }
  probe.close();
  await once(probe, 'close');
  return port;
}

function portError(port: number, cause: unknown): PartywallError {
  const reason =
    cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE'
      ? 'another process listens there'
      : cause instanceof Error
        ? cause.message
        : String(cause);
  return new PartywallError('port_busy', `listening on port ${port}: ${reason}`, { cause });
}

async function greet(app: FastifyInstance, base: string, password: string): Promise<void> {
  say('');
  say(`The CRM is on ${base}; Ctrl-C stops everything. The API is described on ${base}/api/docs. Each tenant sees its own customers:`);
  say('');
  say(`curl ${base}/api/health`);
  for (const { name, firstUser } of demoTenants.slice(0, 2)) {
    say(`# ${name}, as ${firstUser.email}`);
    say(`curl -H 'Authorization: Bearer ${await signIn(app, firstUser.email, password)}' '${base}/api/customers?limit=3'`);
  }
  say('# All tenants, as their operator (examples/crm/RUNBOOK.md has the rest)');
  say(`curl -H 'Authorization: Bearer ${await signIn(app, demoOperator.email, password)}' '${base}/api/admin/tenants'`);
  say('');
  say(`All of them have the password ${password}`);
}

const signedIn = z.object({ token: z.string() });

async function signIn(app: FastifyInstance, email: string, password: string): Promise<string> {
  const answer = await app.inject({ method: 'POST', url: '/api/auth/sign-in/email', payload: { email, password } });
  if (answer.statusCode !== 200) throw new Error(`signing in as ${email}: the server answered ${answer.statusCode}`);
  return signedIn.parse(answer.json()).token;
}

function say(line: string): void {
  console.log(line);
}

const controller = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort(new Error(`stopped by ${name}`)));
try {
  await main(controller.signal);
} catch (error) {
  if (!controller.signal.aborted) {
    const known = error instanceof PartywallError;
    console.error(`crm: ${error instanceof Error ? error.message : String(error)}${known ? ` (${error.hint})` : ''}`);
    if (known) for (const detail of error.details) console.error(`  ${detail}`);
    process.exitCode = known ? error.exit : 2;
  }
}
