import {
  type ApplyProgress,
  applyWall,
  appointAdmin,
  assertModelComplete,
  type ControlDatabase,
  connect,
  controlPool,
  createSystemDatabase,
  installControl,
  type Operation,
  PartywallError,
  parseModel,
  readCatalog,
  SlowQueryLog,
  systemDatabaseUrl,
  type TenancyModel,
  verify,
  verifyExit,
} from '@partywall/engine';
import { createSuperAdmin, hashPassword, listSuperAdmins } from '@partywall/server';
import { createWalledPool, system } from '@partywall/wall';
import type pg from 'pg';
import config from '../partywall.config.ts';
import { demoTenants } from './demo-tenants.ts';
import type { DemoSecrets } from './secrets.ts';
import { loadCrm } from './seed.ts';

export type Say = (line: string) => void;

/** Signs in as admin of everything in the demo. */
export const demoOperator = { email: 'operator@crm.example', name: 'Demo Operator' } as const;

export interface StoodUp {
  /** The application's walled pool. */
  readonly pool: pg.Pool;
  /** What the control plane works with. */
  readonly control: ControlDatabase;
  /** Keeps what the pool finds slow. */
  readonly slowQueries: SlowQueryLog;
  /** Connection string of the database that remembers the steps of long operations. */
  readonly systemUrl: string;
}

/**
 * Takes a database from nothing, or from wherever an earlier start left it, to the CRM behind a wall that has been attacked and under the
 * control plane: data, model, expand, switch, contract, verify, control. On a finished database it changes nothing.
 */
export async function standUp(adminUrl: string, secrets: DemoSecrets, keyring: string, say: Say, signal: AbortSignal): Promise<StoodUp> {
  const model = parseModel(config);
  await load(adminUrl, say);
  await check(adminUrl, model, say);
  await raise('expand', { adminUrl, model, say, signal, passwords: {} });
  const { app, service } = await switchedUrls(adminUrl, model, secrets, say, signal);
  const control: ControlDatabase = { pool: controlPool(service, { purpose: 'crm' }), model, clock: () => new Date(), keyring };
  const slowQueries = new SlowQueryLog(control);
  const pool = createWalledPool({ connectionString: app, application_name: 'crm', onSlowQuery: slowQueries.record });
  try {
    // The gate wants to see the application on its role, so it connects before contract asks.
    await system('crm start', () => pool.query('select 1'));
    await raise('contract', { adminUrl, model, say, signal, passwords: {} });
    await attack(adminUrl, app, model, say, signal);
    await underControl(adminUrl, control, secrets, say);
    return { pool, control, slowQueries, systemUrl: systemDatabaseUrl(service) };
  } catch (error) {
    await Promise.all([pool.end(), control.pool.end()]);
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
  readonly passwords: { readonly app?: string; readonly service?: string };
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

/** Connection strings of the application and the control plane. A password is set only where it does not open the door yet. */
async function switchedUrls(
  adminUrl: string,
  model: TenancyModel,
  secrets: DemoSecrets,
  say: Say,
  signal: AbortSignal,
): Promise<{ app: string; service: string }> {
  const passwords = { app: secrets.appPassword, service: secrets.servicePassword };
  const urls = { app: urlAs(adminUrl, model.roles.app, passwords.app), service: urlAs(adminUrl, model.roles.service, passwords.service) };
  if (!((await opens(urls.app)) && (await opens(urls.service)))) await raise('expand', { adminUrl, model, say: () => undefined, signal, passwords });
  say(`switch    the application connects as ${model.roles.app}`);
  return urls;
}

function urlAs(adminUrl: string, role: string, password: string): string {
  const url = new URL(adminUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  return url.toString();
}

async function opens(url: string): Promise<boolean> {
  try {
    const client = await connect(url, { purpose: 'crm password' });
    await client.end();
    return true;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'database_refused') return false;
    throw error;
  }
}

/** Installs the control plane and gives the demo's people their sign-in: an operator, and the first user of each tenant as its admin. */
async function underControl(adminUrl: string, control: ControlDatabase, secrets: DemoSecrets, say: Say): Promise<void> {
  const client = await connect(adminUrl, { purpose: 'crm control' });
  try {
    const { applied } = await installControl(client, control.model);
    await createSystemDatabase(client, control.model.roles.service);
    await makePeople({ database: control, actor: { kind: 'system', id: 'crm start' } }, secrets.peoplePassword);
    say(`control   ${applied.length === 0 ? 'nothing to do' : `${applied.length} migrations applied`}`);
  } finally {
    await client.end();
  }
}

async function makePeople(operation: Operation, password: string): Promise<void> {
  const operators = await listSuperAdmins(operation.database.pool);
  // All are made the first time or none: a tenant's admin who was removed since must not come back with the next start.
  if (operators.length > 0) return;
  for (const { id, firstUser } of demoTenants) {
    await appointAdmin(operation, { tenant: id, adminName: firstUser.name, adminEmail: firstUser.email, hashPassword: () => hashPassword(password) });
  }
  await createSuperAdmin(operation, { ...demoOperator, password });
}

async function attack(adminUrl: string, appUrl: string, model: TenancyModel, say: Say, signal: AbortSignal): Promise<void> {
  const report = await verify({ model, adminUrl, appUrl, signal });
  for (const finding of report.findings) say(`verify    ${finding.severity}: ${finding.target}: ${finding.message}`);
  say(`verify    ${report.findings.length === 0 ? 'sound' : `${report.findings.length} findings`}, ${report.residuals.length} residual risks named`);
  if (verifyExit(report) !== 0)
    throw new PartywallError('wall_blocked', 'verifying the wall: it is not sound', { hint: 'run `partywall verify` for the whole report' });
}
