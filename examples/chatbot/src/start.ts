import { once } from 'node:events';
import path from 'node:path';
import {
  defaultBackupSettings,
  describeTarget,
  openArchive,
  PartywallError,
  startDurable,
  startEmbeddedDatabase,
  tickBackups,
  worksOf,
} from '@partywall/engine';
import { type ArchiveOptions, schedules } from '@partywall/server';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { createApp } from './app.ts';
import { type Home, openHome, writeEnvironment } from './home.ts';
import { host, listen, portFromEnvironment } from './port.ts';
import { runUntilStopped } from './run-until-stopped.ts';
import { adminOf, demoOperator, shownTenants, standUp } from './stand-up.ts';

const databaseName = 'chatbot';
const signedIn = z.object({ token: z.string() });

/** Starts what is needed, in order; what it pushes is stopped in reverse, on Ctrl-C and when a later part fails. */
await runUntilStopped(async (stops, signal) => {
  const port = await portFromEnvironment();
  const home = await openHome(path.resolve('.partywall'));
  const adminUrl = process.env['DATABASE_URL'] ?? (await ownDatabase(home, stops));
  say(`database  ${describeTarget(adminUrl)}`);
  const { pool, control, serviceUrl, systemUrl } = await standUp({ adminUrl, home, say, signal });
  // `pool.end()` does not wait for its connections to close: the server's shutdown can still reach one, which reports it here.
  pool.on('error', () => undefined);
  stops.push(() => Promise.all([pool.end(), control.pool.end()]));
  await writeEnvironment(home, serviceUrl);

  const archive = archiveOf(home);
  const durable = await startDurable({
    database: control,
    systemDatabaseUrl: systemUrl,
    works: worksOf({ archive }),
    schedules: schedules(control, { archive }),
  });
  stops.push(() => durable.stop());
  const { reasons } = await tickBackups({ database: control, actor: { kind: 'system', id: 'chatbot start' } }, durable, archive);
  say(`backup    ${reasons.join('; ')}`);

  const baseUrl = `http://${host}:${port}`;
  const people = { secret: home.secrets.session, baseUrl };
  const app = await createApp({ pool, server: { database: control, people, durable, archive }, uploads: home.uploads });
  stops.push(() => app.close());
  await listen(app, port);
  await greet(app, baseUrl, home);
  if (!signal.aborted) await once(signal, 'abort');
  say('stopping');
});

function archiveOf({ archive: store, escrow, keyring, work: workFolder, uploadsUrl }: Home): ArchiveOptions {
  const env = { ...process.env, CHATBOT_UPLOADS: uploadsUrl };
  return {
    open: () => openArchive({ store, escrow, keyring, workFolder, env, clock: () => new Date() }),
    settings: defaultBackupSettings,
  };
}

/** A later start finds its data again. */
async function ownDatabase({ postgres }: Home, stops: (() => Promise<unknown>)[]): Promise<string> {
  const own = await startEmbeddedDatabase({ dataDir: postgres, database: databaseName });
  stops.push(() => own.stop());
  return own.url;
}

async function greet(app: FastifyInstance, base: string, { env, secrets }: Home): Promise<void> {
  say('');
  say(`The chatbot platform is on ${base}; Ctrl-C stops everything. The API is described on ${base}/api/docs. Each tenant sees its own agents:`);
  say('');
  for (const { id, name } of shownTenants) {
    say(`# ${name}, as ${adminOf(id)}`);
    say(`curl -H 'Authorization: Bearer ${await signIn(app, adminOf(id), secrets.people)}' '${base}/api/agents'`);
  }
  say('# Every tenant against its recovery point, as their operator');
  say(`curl -H 'Authorization: Bearer ${await signIn(app, demoOperator.email, secrets.people)}' '${base}/api/admin/backups/status'`);
  say('');
  say(`All of them have the password ${secrets.people}`);
  say('');
  say('The commands of examples/chatbot/RUNBOOK.md work in another terminal, in examples/chatbot, after');
  say(`. '${env}'`);
}

async function signIn(app: FastifyInstance, email: string, password: string): Promise<string> {
  const answer = await app.inject({ method: 'POST', url: '/api/auth/sign-in/email', payload: { email, password } });
  if (answer.statusCode !== 200) throw new PartywallError('usage', `signing in as ${email}: the server answered ${answer.statusCode}`);
  return signedIn.parse(answer.json()).token;
}

function say(line: string): void {
  console.log(line);
}
