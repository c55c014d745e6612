import {
  type ApplyProgress,
  applyWall,
  assertModelComplete,
  connect,
  PartywallError,
  parseModel,
  readCatalog,
  type TenancyModel,
  verify,
  verifyExit,
} from '@partywall/engine';
import { createWalledPool, system } from '@partywall/wall';
import type pg from 'pg';
import config from '../partywall.config.ts';
import type { DemoSecrets } from './secrets.ts';
import { loadCrm } from './seed.ts';

export type Say = (line: string) => void;

/**
 * Takes a database from nothing, or from wherever an earlier start left it, to the CRM behind a wall that has been attacked: data,
 * model, expand, switch, contract, verify. Returns the application's walled pool. On a finished database it changes nothing.
 */
export async function standUp(adminUrl: string, secrets: DemoSecrets, say: Say, signal: AbortSignal): Promise<pg.Pool> {
  const model = parseModel(config);
  await load(adminUrl, say);
  await check(adminUrl, model, say);
  await raise('expand', { adminUrl, model, say, signal, passwords: {} });
  const appUrl = await switchedUrl(adminUrl, model, secrets, say, signal);
  const pool = createWalledPool({ connectionString: appUrl, application_name: 'crm' });
  try {
    // The gate wants to see the application on its role, so it connects before contract asks.
    await system('crm start', () => pool.query('select 1'));
    await raise('contract', { adminUrl, model, say, signal, passwords: {} });
    await attack(adminUrl, appUrl, model, say, signal);
    return pool;
  } catch (error) {
    await pool.end();
    throw error;
  }
}

async function load(adminUrl: string, say: Say): Promise<void> {
  const client = await connect(adminUrl, { purpose: 'crm load' });
  try {
    say(`data      ${(await loadCrm(client)).message}`);
  } finally {
    await client.end();
  }
}

async function check(adminUrl: string, model: TenancyModel, say: Say): Promise<void> {
  const client = await connect(adminUrl, { purpose: 'crm check' });
  try {
    assertModelComplete(model, await readCatalog(client));
  } finally {
    await client.end();
  }
  const scopes = [...model.tables.values()].map((rule) => rule.scope);
  const count = (scope: string): number => scopes.filter((candidate) => candidate === scope).length;
  say(`model     ${model.tenant.table} is the tenant; ${count('scoped')} tables scoped, ${count('shared')} shared, ${count('platform')} the platform's`);
}

interface Raise {
  readonly adminUrl: string;
  readonly model: TenancyModel;
  readonly say: Say;
  readonly signal: AbortSignal;
  readonly passwords: { readonly app?: string };
}

async function raise(phase: 'expand' | 'contract', { adminUrl, model, say, signal, passwords }: Raise): Promise<void> {
  // Whoever administers the database may look on while the demo starts.
  const allow = [decodeURIComponent(new URL(adminUrl).username)];
  const report = await applyWall({ url: adminUrl, model, phase, passwords, allow, signal, onProgress: tenths(phase, say) });
  say(`${phase.padEnd(9)} ${report.applied.length === 0 ? 'nothing to do' : `${report.applied.length} steps applied`}`);
}

/** A line for every tenth of the steps. */
function tenths(phase: string, say: Say): (event: ApplyProgress) => void {
  let said = 0;
  return (event) => {
    if (event.kind !== 'step') return;
    const tenth = Math.floor((10 * event.at) / event.of);
    if (tenth === said) return;
    said = tenth;
    say(`${phase.padEnd(9)} ${event.at} of ${event.of}: ${event.step.title}${event.step.table ? ` (${event.step.table})` : ''}`);
  };
}

/** The application's connection string. Its password is set only where it does not open the door yet. */
async function switchedUrl(adminUrl: string, model: TenancyModel, secrets: DemoSecrets, say: Say, signal: AbortSignal): Promise<string> {
  const url = new URL(adminUrl);
  url.username = encodeURIComponent(model.roles.app);
  url.password = encodeURIComponent(secrets.appPassword);
  const opens = await connect(url.toString(), { purpose: 'crm password' }).then(
    (client) => client.end().then(() => true),
    (error: unknown) => {
      if (error instanceof PartywallError && error.code === 'database_refused') return false;
      throw error;
    },
  );
  if (!opens) await raise('expand', { adminUrl, model, say: () => undefined, signal, passwords: { app: secrets.appPassword } });
  say(`switch    the application connects as ${model.roles.app}`);
  return url.toString();
}

async function attack(adminUrl: string, appUrl: string, model: TenancyModel, say: Say, signal: AbortSignal): Promise<void> {
  const report = await verify({ model, adminUrl, appUrl, signal });
  for (const finding of report.findings) say(`verify    ${finding.severity}: ${finding.target}: ${finding.message}`);
  say(`verify    ${report.findings.length === 0 ? 'sound' : `${report.findings.length} findings`}, ${report.residuals.length} residual risks named`);
  if (verifyExit(report) !== 0)
    throw new PartywallError('wall_blocked', 'verifying the wall: it is not sound', { hint: 'run `partywall verify` for the whole report' });
}
