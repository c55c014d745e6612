import fs from 'node:fs/promises';
import { applyWall, connect, PartywallError, parseModel, verify, verifyExit } from '@partywall/engine';
import { system } from '@partywall/wall';
import config from '../partywall.config.ts';
import { type Database, type DatabaseUrls, openDatabase } from './database.ts';
import type { Secrets } from './home.ts';
import { seed } from './seed.ts';

export interface Site {
  /** Connection string of a superuser. */
  readonly adminUrl: string;
  readonly secrets: Secrets;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface StoodUp {
  readonly database: Database;
  /** Connection strings of three roles: the application's two, and the one that looks at attempts and sets modes. */
  readonly urls: DatabaseUrls & { readonly service: string };
}

const model = parseModel(config);

/**
 * Takes a database from nothing, or from wherever an earlier start left it, to the ERP behind a wall that has been attacked: schema, expand, seed, contract,
 * verify. On a finished database it changes nothing.
 */
export async function standUp(site: Site): Promise<StoodUp> {
  const { adminUrl, secrets, say } = site;
  await makeTables(site);
  await raise(site, 'expand');
  const urlOf = (role: 'app' | 'system' | 'service'): string => urlAs(adminUrl, model.roles[role], secrets[role]);
  const urls = { app: urlOf('app'), system: urlOf('system'), service: urlOf('service') };
  const database = openDatabase(urls);
  try {
    say(`data      ${(await seed(database.prismaBase)) ? 'three tenants seeded' : 'there already, nothing was changed'}`);
    // The gate wants to see the application on its role, so it connects before contract asks.
    await system('rental start', () => database.pool.query('select 1'));
    await raise(site, 'contract');
    await attack(site, urls.app);
    return { database, urls };
  } catch (error) {
    await database.end();
    throw error;
  }
}

async function makeTables({ adminUrl }: Site): Promise<void> {
  const client = await connect(adminUrl, { purpose: 'rental schema' });
  try {
    const { rows } = await client.query<{ there: boolean }>("select pg_catalog.to_regclass('public.tenants') is not null as there");
    if (rows[0]?.there) return;
    const schema = await fs.readFile(new URL('../schema.sql', import.meta.url), 'utf8');
    // All tables or none: a failure ends the session, and the transaction with it.
    await client.query(`begin; set local search_path = public; ${schema}; commit`);
  } finally {
    await client.end();
  }
}

async function raise({ adminUrl, secrets, say, signal }: Site, phase: 'expand' | 'contract'): Promise<void> {
  const { app, system, service } = secrets;
  // Whoever administers the database may look on while the example starts.
  const allow = [decodeURIComponent(new URL(adminUrl).username)];
  const { applied } = await applyWall({ url: adminUrl, model, phase, allow, signal, ...(phase === 'expand' && { passwords: { app, system, service } }) });
  say(`${phase.padEnd(9)} ${applied.length === 0 ? 'nothing to do' : `${applied.length} steps applied`}`);
}

async function attack({ adminUrl, say, signal }: Site, appUrl: string): Promise<void> {
  const report = await verify({ model, adminUrl, appUrl, signal });
  for (const finding of report.findings) say(`verify    ${finding.severity}: ${finding.target}: ${finding.message}`);
  for (const { target, reason } of report.couldNotRun) say(`verify    could not run: ${target}: ${reason}`);
  say(`verify    ${verifyExit(report) === 0 ? 'sound' : 'not sound'}, ${report.residuals.length} residual risks named`);
  if (verifyExit(report) !== 0)
    throw new PartywallError('wall_blocked', 'verifying the wall: it is not sound', { hint: 'run `partywall verify` for the whole report' });
}

function urlAs(adminUrl: string, role: string, password: string): string {
  const url = new URL(adminUrl);
  url.username = encodeURIComponent(role);
  url.password = encodeURIComponent(password);
  return url.toString();
}
