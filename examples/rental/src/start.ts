import { once } from 'node:events';
import type { Server } from 'node:http';
import path from 'node:path';
import { describeTarget, PartywallError, sqlState, startEmbeddedDatabase } from '@partywall/engine';
import { schedule } from '@partywall/wall/schedule';
import type { Express } from 'express';
import { createApp } from './app.ts';
import { demoTenants } from './demo-tenants.ts';
import { type Home, isOwnServer, openHome, writeEnvironment } from './home.ts';
import { monthBefore, monthlyJob, processMonthlyReports } from './reports.ts';
import { standUp } from './stand-up.ts';
import { tokenFor } from './tokens.ts';

const databaseName = 'rental';
const defaultPort = 3000;
const host = '127.0.0.1';
const say = (line: string): void => console.log(line);
const onTrouble = (error: unknown): void => console.error(error);
type Stops = (() => Promise<unknown>)[];

/** Starts what is needed, in order; what it pushes is stopped in reverse, on Ctrl-C and when a later part fails. */
async function main(stops: Stops, signal: AbortSignal): Promise<void> {
  const port = portFromEnvironment();
  const home = await openHome(path.resolve('.partywall'));
  const adminUrl = await adminUrlOf(home, stops);
  say(`database  ${describeTarget(adminUrl)}`);
  const { secrets } = home;
  const { database, urls } = await standUp({ adminUrl, secrets, say, signal });
  stops.push(() => database.end());
  const app = createApp({ database, tokenSecret: secrets.token, paymentsSecret: secrets.payments, onTrouble });
  const server = await listen(app, port);
  stops.push(() => stop(server));
  const reports = schedule(
    { cron: '0 3 1 * *', timezone: 'UTC', system: database.systemPool, job: monthlyJob },
    ({ scheduledFor, signal: stopped }) => processMonthlyReports(database, monthBefore(scheduledFor), { signal: stopped }),
    { onError: onTrouble },
  );
  stops.push(() => reports.stop());
  const [a, b] = demoTenants;
  const [tokenA, tokenB] = await Promise.all([tokenFor(a, secrets.token), tokenFor(b, secrets.token)]);
  const base = `http://${host}:${port}`;
  await writeEnvironment(home.env, {
    RENTAL_URL: base,
    DATABASE_URL: adminUrl,
    PARTYWALL_APP_URL: urls.app,
    PARTYWALL_SERVICE_URL: urls.service,
    RENTAL_APP_URL: urls.app,
    RENTAL_SYSTEM_URL: urls.system,
    PAYMENTS_SECRET: secrets.payments,
    TENANT_A: a.id,
    TENANT_B: b.id,
    UNIT_A: a.units[0].id,
    UNIT_B: b.units[0].id,
    TOKEN_A: tokenA,
    TOKEN_B: tokenB,
  });
  say('');
  say(`The rental ERP is on ${base}; Ctrl-C stops everything. Each tenant sees its own assets:`);
  say('');
  for (const [{ name, user }, token] of [
    [a, tokenA],
    [b, tokenB],
  ] as const) {
    say(`# ${name}, as ${user.email}`);
    say(`curl -H 'Authorization: Bearer ${token}' '${base}/api/v1/assets'`);
  }
  say(`# ${a.name} asks for ${b.name}: 403`);
  say(`curl -H 'Authorization: Bearer ${tokenA}' -H 'X-Tenant-ID: ${b.id}' '${base}/api/v1/assets'`);
  say('');
  say('The commands of examples/rental/RUNBOOK.md work in another terminal, in examples/rental, after');
  say(`. '${home.env}'`);
  if (!signal.aborted) await once(signal, 'abort');
  say('stopping');
}

/** The database that is named, else one of its own. A terminal that has sourced the environment names the one of the start before. */
async function adminUrlOf(home: Home, stops: Stops): Promise<string> {
  const given = process.env['DATABASE_URL'];
  if (given !== undefined && !(await isOwnServer(home, given))) return given;
  const own = await startEmbeddedDatabase({ dataDir: home.postgres, database: databaseName });
  stops.push(() => own.stop());
  return own.url;
}

function portFromEnvironment(): number {
  const given = process.env['PORT'] ?? String(defaultPort);
  const port = Number(given);
  if (/^\d+$/.test(given) && port >= 1 && port <= 65_535) return port;
  throw new PartywallError('usage', `reading PORT: ${JSON.stringify(given)} is not a port`, { hint: 'set PORT to a number from 1 to 65535' });
}

async function listen(app: Express, port: number): Promise<Server> {
  const server = app.listen(port, host);
  try {
    await once(server, 'listening');
    return server;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const reason = sqlState(cause) === 'EADDRINUSE' ? 'another process listens there' : message;
    throw new PartywallError('port_busy', `listening on port ${port}: ${reason}`, { cause });
  }
}

async function stop(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
}

const controller = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort(new Error(`stopped by ${name}`)));
const stops: Stops = [];
try {
  await main(stops, controller.signal).finally(async () => {
    for (const end of stops.reverse()) await end();
  });
} catch (error) {
  if (!controller.signal.aborted) {
    const known = error instanceof PartywallError;
    console.error(`rental: ${error instanceof Error ? error.message : String(error)}${known ? ` (${error.hint})` : ''}`);
    if (known) for (const detail of error.details) console.error(`  ${detail}`);
    process.exitCode = known ? error.exit : 2;
  }
}
