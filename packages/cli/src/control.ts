import path from 'node:path';
import { assertControl, connect, controlPool, type Operation, PartywallError } from '@partywall/engine';
import { loadConfig } from './config-file.ts';
import { type CommandContext, connectionString } from './context.ts';
import { stateFolder } from './embedded.ts';

const poolMax = 4;

/**
 * Runs `work` on the control plane as the operator at this terminal: over the service role's connection string (--url, else
 * PARTYWALL_SERVICE_URL), with the keys of PARTYWALL_KEYRING, else `.partywall/keyring`. What it changes is recorded under the operator's login.
 *
 * @throws PartywallError usage, control_missing, control_foreign, and what `loadConfig`, `connect` and `work` throw
 */
export async function withControl<Result>(ctx: CommandContext, work: (operation: Operation) => Promise<Result>): Promise<Result> {
  return withService(ctx, work, assertControl);
}

/** The same on a database that may have no control plane, and so no audit log. @param check asked of the database first */
export async function withService<Result>(ctx: CommandContext, work: (operation: Operation) => Promise<Result>, check?: typeof assertControl): Promise<Result> {
  const { model } = await loadConfig(ctx);
  const url = serviceUrl(ctx);
  // Says what is wrong with the connection; a pool would only say that it has none.
  const client = await connect(url, { purpose: 'command' });
  await Promise.resolve(check?.(client)).finally(() => client.end());
  const pool = controlPool(url, { purpose: 'command', max: poolMax });
  try {
    return await work({
      database: { pool, model, clock: () => new Date(), keyring: keyringFolder(ctx) },
      actor: { kind: 'operator', id: operatorName(ctx) },
      signal: ctx.signal,
    });
  } finally {
    await pool.end();
  }
}

/** @throws PartywallError usage */
export function serviceUrl(ctx: CommandContext): string {
  const url = ctx.options.url ?? ctx.env['PARTYWALL_SERVICE_URL'];
  if (!url) {
    throw new PartywallError('usage', 'connecting as the service role: no connection string given', {
      hint: 'pass --url, or set PARTYWALL_SERVICE_URL; `partywall up` writes it to .partywall',
    });
  }
  return connectionString(url, ctx.options.url === undefined ? 'PARTYWALL_SERVICE_URL' : '--url');
}

/** Whoever owns the tables can open them and set triggers; the service role, which is at hand at night, sets the modes. */
export function rolloutUrl(ctx: CommandContext): string {
  const url = ctx.options.url ?? ctx.env['DATABASE_URL'] ?? ctx.env['PARTYWALL_SERVICE_URL'];
  if (!url) throw new PartywallError('usage', 'connecting to the database: none given', { hint: 'pass --url, or set DATABASE_URL or PARTYWALL_SERVICE_URL' });
  return connectionString(url, ctx.options.url === undefined ? 'DATABASE_URL or PARTYWALL_SERVICE_URL' : '--url');
}

export function keyringFolder(ctx: CommandContext): string {
  return path.resolve(ctx.cwd, ctx.env['PARTYWALL_KEYRING'] ?? path.join(stateFolder, 'keyring'));
}

/** Whose terminal it is, for the audit log: PARTYWALL_OPERATOR, where several people share a login, else the login. */
export function operatorName(ctx: CommandContext): string {
  return ctx.env['PARTYWALL_OPERATOR'] || ctx.env['USER'] || 'unknown';
}
