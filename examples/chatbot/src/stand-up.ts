import {
  applyWall,
  appointAdmin,
  type ControlDatabase,
  connect,
  controlPool,
  createSystemDatabase,
  installControl,
  type Operation,
  PartywallError,
  parseModel,
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
import type { Home } from './home.ts';
import { loadChatbot, writeUploads } from './load.ts';

export type Say = (line: string) => void;

/** Signs in as admin of everything. */
export const demoOperator = { email: 'operator@chatbot.example', name: 'Demo Operator' } as const;
/** Tenants whose admins can sign in. */
export const shownTenants = demoTenants.slice(0, 2);

export function adminOf(tenant: string): string {
  return `admin@${tenant}.example`;
}

export interface StoodUp {
  /** The application's walled pool. */
  readonly pool: pg.Pool;
  readonly control: ControlDatabase;
  readonly serviceUrl: string;
  /** Connection string of the database that remembers the steps of long operations. */
  readonly systemUrl: string;
}

interface Site {
  readonly adminUrl: string;
  readonly home: Home;
  readonly model: TenancyModel;
  readonly say: Say;
  readonly signal: AbortSignal;
}

/**
 * Takes a database from nothing, or from wherever an earlier start left it, to the chatbot platform behind a wall that has been attacked and under the
 * control plane. On a finished database it changes nothing.
 */
export async function standUp({ adminUrl, home, say, signal }: Omit<Site, 'model'>): Promise<StoodUp> {
  const site: Site = { adminUrl, home, model: parseModel(config), say, signal };
  await load(site);
  const { app, service } = await expanded(site);
  const control: ControlDatabase = { pool: controlPool(service, { purpose: 'chatbot' }), model: site.model, clock: () => new Date(), keyring: home.keyring };
  const pool = createWalledPool({ connectionString: app, application_name: 'chatbot' });
  try {
    // The gate wants to see the application on its role, so it connects before contract asks.
    await system('chatbot start', () => pool.query('select 1'));
    await raise(site, 'contract');
    await attack(site, app);
    await underControl(site, control);
    return { pool, control, serviceUrl: service, systemUrl: systemDatabaseUrl(service) };
  } catch (error) {
    await Promise.all([pool.end(), control.pool.end()]);
    throw error;
  }
}

async function load({ adminUrl, home, say }: Site): Promise<void> {
  const client = await connect(adminUrl, { purpose: 'chatbot load' });
  try {
    const loaded = await loadChatbot(client);
    if (loaded) await writeUploads(home.uploads);
    say(`data      ${loaded ? `${demoTenants.length} tenants loaded` : 'there already, nothing was changed'}`);
  } finally {
    await client.end();
  }
}

/** Connection strings of the application and the control plane. Passwords are set only where they do not open the door yet. */
async function expanded(site: Site): Promise<{ app: string; service: string }> {
  const { model, home, adminUrl } = site;
  const urls = { app: urlAs(adminUrl, model.roles.app, home.secrets.app), service: urlAs(adminUrl, model.roles.service, home.secrets.service) };
  const isOpen = (await opens(urls.app)) && (await opens(urls.service));
  await raise(site, 'expand', isOpen ? {} : { app: home.secrets.app, service: home.secrets.service });
  return urls;
}

async function raise(
  { adminUrl, model, say, signal }: Site,
  phase: 'expand' | 'contract',
  passwords: { readonly app?: string; readonly service?: string } = {},
): Promise<void> {
  // Whoever administers the database may look on while the example starts.
  const allow = [decodeURIComponent(new URL(adminUrl).username)];
  const { applied } = await applyWall({ url: adminUrl, model, phase, passwords, allow, signal });
  say(`${phase.padEnd(9)} ${applied.length === 0 ? 'nothing to do' : `${applied.length} steps applied`}`);
}

function urlAs(adminUrl: string, role: string, password: string): string {
  const url = new URL(adminUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  return url.toString();
}

async function opens(url: string): Promise<boolean> {
  try {
    const client = await connect(url, { purpose: 'chatbot password' });
    await client.end();
    return true;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'database_refused') return false;
    throw error;
  }
}

async function attack({ adminUrl, model, say, signal }: Site, appUrl: string): Promise<void> {
  const report = await verify({ model, adminUrl, appUrl, signal });
  for (const finding of report.findings) say(`verify    ${finding.severity}: ${finding.target}: ${finding.message}`);
  say(`verify    ${report.findings.length === 0 ? 'sound' : `${report.findings.length} findings`}, ${report.residuals.length} residual risks named`);
  if (verifyExit(report) !== 0)
    throw new PartywallError('wall_blocked', 'verifying the wall: it is not sound', { hint: 'run `partywall verify` for the whole report' });
}

async function underControl({ adminUrl, model, home, say }: Site, control: ControlDatabase): Promise<void> {
  const client = await connect(adminUrl, { purpose: 'chatbot control' });
  try {
    const { applied } = await installControl(client, model);
    await createSystemDatabase(client, model.roles.service);
    await makePeople({ database: control, actor: { kind: 'system', id: 'chatbot start' } }, home.secrets.people);
    say(`control   ${applied.length === 0 ? 'nothing to do' : `${applied.length} migrations applied`}`);
  } finally {
    await client.end();
  }
}

async function makePeople(operation: Operation, password: string): Promise<void> {
  // All are made the first time or none: an admin who was removed since must not come back with the next start.
  if ((await listSuperAdmins(operation.database.pool)).length > 0) return;
  for (const { id, name } of shownTenants) {
    await appointAdmin(operation, { tenant: id, adminName: `Admin of ${name}`, adminEmail: adminOf(id), hashPassword: () => hashPassword(password) });
  }
  await createSuperAdmin(operation, { ...demoOperator, password });
}
