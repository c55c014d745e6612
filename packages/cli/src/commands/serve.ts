import path from 'node:path';
import { backupSettings, openArchive, PartywallError, type Placements, placementsOf } from '@partywall/engine';
import type { ArchiveOptions, LogLevel, ServeOptions } from '@partywall/server';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { archiveSettings } from '../archive.ts';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, connectionString, type Start } from '../context.ts';
import { keyringFolder, serviceUrl } from '../control.ts';
import { deliveryOptions } from '../delivery.ts';
import { helpEnding } from './help.ts';

interface ServeFlags {
  readonly port?: number;
  readonly host?: string;
  readonly baseUrl?: string;
  readonly trustedOrigin?: readonly string[];
  readonly trustProxy?: readonly string[];
  readonly keyring?: string;
  readonly logLevel?: LogLevel;
}

export function registerServe(program: Command, start: Start): void {
  program
    .command('serve')
    .summary('Serve the control plane over HTTP.')
    .description(
      'Serve the control plane over HTTP: tenants, people, quotas, usage, alerts, audit. Connects as the service role, whose connection string is ' +
        '--url or PARTYWALL_SERVICE_URL. PARTYWALL_SECRET, at least 32 bytes and the same for all servers, signs sessions. Refuses to start with a ' +
        'list of all that is wrong. PARTYWALL_SMTP_URL is the mail server for alerts and invitations, PARTYWALL_METRICS_TOKEN the ' +
        'bearer token of /metrics. With PARTYWALL_ARCHIVE and PARTYWALL_ESCROW it backs up by schedule; PARTYWALL_PLACEMENT_<NAME> are databases that tenants can move to. Ctrl-C and SIGTERM let requests end first.',
    )
    .option('--port <port>', 'port to listen on (default: PORT, else 5000)', parsePort)
    .option('--host <address>', 'address to listen on (default: HOST, else 127.0.0.1)')
    .option('--base-url <url>', 'how people reach the server (default: PARTYWALL_BASE_URL, else http://localhost and the port)')
    .option('--trusted-origin <origin...>', 'other origins whose pages may use the session cookie (default: PARTYWALL_TRUSTED_ORIGINS, separated by commas)')
    .option(
      '--trust-proxy <proxy...>',
      'addresses and networks of proxies whose X-Forwarded-For is believed (default: PARTYWALL_TRUST_PROXY, separated by commas)',
    )
    .option('--keyring <folder>', 'folder of the keys (default: PARTYWALL_KEYRING, else .partywall/keyring)')
    .addOption(new Option('--log-level <level>', 'least severe line to log, on standard error').choices(['fatal', 'error', 'warn', 'info', 'debug', 'silent']))
    .addHelpText(
      'after',
      helpEnding({ 0: 'stopped in order', 2: 'could not start' }, [
        'PARTYWALL_SECRET=$(openssl rand -base64 48) partywall serve --url postgresql://partywall_service:secret@db/crm',
        'partywall serve --port 8443 --base-url https://partywall.example.com --trust-proxy 10.0.0.0/8',
      ]),
    )
    .action(start<ServeFlags>(run));
}

async function run(ctx: CommandContext, flags: ServeFlags): Promise<Answer> {
  const placements = placementsOf(ctx.env);
  const options = await serveOptions(ctx, flags, placements);
  // Loaded here, so that the other verbs start without a web server.
  const { serve } = await import('@partywall/server');
  const server = await serve(options);
  return {
    exit: 0,
    data: { url: server.url },
    text: `serving on ${server.url}`,
    serve: async (signal) => {
      await aborted(signal);
      await server.close();
      await placements.close();
    },
  };
}

/** The options of the command line, else of the environment. */
async function serveOptions(ctx: CommandContext, flags: ServeFlags, placements: Placements): Promise<ServeOptions> {
  const { env } = ctx;
  const { model } = await loadConfig(ctx);
  const delivery = await deliveryOptions(ctx);
  const port = flags.port ?? (env['PORT'] ? portOf(env['PORT']) : 5_000);
  return {
    url: serviceUrl(ctx),
    model,
    keyring: flags.keyring === undefined ? keyringFolder(ctx) : path.resolve(ctx.cwd, flags.keyring),
    port,
    host: flags.host ?? env['HOST'] ?? '127.0.0.1',
    people: {
      secret: env['PARTYWALL_SECRET'] ?? '',
      baseUrl: flags.baseUrl ?? env['PARTYWALL_BASE_URL'] ?? `http://localhost:${port}`,
      trustedOrigins: flags.trustedOrigin ?? list(env['PARTYWALL_TRUSTED_ORIGINS']),
      ...(delivery.mail && { mail: delivery.mail }),
    },
    delivery,
    ...(env['PARTYWALL_ARCHIVE'] && { archive: { open: () => openArchive(archiveSettings(ctx)), settings: backupSettings(env), ...staging(env) } }),
    placements,
    trustProxy: flags.trustProxy ?? list(env['PARTYWALL_TRUST_PROXY']),
    ...(env['PARTYWALL_METRICS_TOKEN'] && { metricsToken: env['PARTYWALL_METRICS_TOKEN'] }),
    ...(flags.logLevel && { logLevel: flags.logLevel }),
    logTo: { write: (line) => ctx.talk.line(line.trimEnd()) },
  };
}

function list(text = ''): string[] {
  return text.split(',').flatMap((part) => (part.trim() === '' ? [] : [part.trim()]));
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('a port is a number from 0 to 65535; 0 takes one that is free');
  return port;
}

function portOf(text: string): number {
  try {
    return parsePort(text);
  } catch (cause) {
    throw new PartywallError('usage', `reading PORT: ${text} is no port`, { cause, hint: 'a port is a number from 0 to 65535' });
  }
}

/** The listening socket keeps the process alive. */
function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** The server that scheduled drills restore into. */
function staging({ STAGING_DATABASE_URL: url, STAGING_APP_URL: appUrl }: CommandContext['env']): Pick<ArchiveOptions, 'staging'> {
  return url ? { staging: { url: connectionString(url, 'STAGING_DATABASE_URL'), ...(appUrl && { appUrl: connectionString(appUrl, 'STAGING_APP_URL') }) } } : {};
}
