import { applyWall, parseModel, type TenancyConfig } from '@partywall/engine';
import { createWalledPool } from '@partywall/wall';
import type { FastifyServerOptions } from 'fastify';
import pg from 'pg';
import { afterAll } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import crmTenancy from '../partywall.config.ts';
import { createApp } from '../src/app.ts';
import { loadCrm } from '../src/seed.ts';
import { issueToken, type Role } from '../src/tokens.ts';

/** 64 bytes: as long as the longest hash wants, so that a token of another algorithm fails for its algorithm. */
export const secret = 'a secret of the tests that is exactly as long as HS512 asks for.';

export interface WalledCrm {
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly app: ReturnType<typeof createApp>;
  /** Sends a request as a user of the tenant, without a network. */
  as(tenant: { readonly id: string; readonly firstUser: { readonly id: string } }, role?: Role): Send;
}

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';
export type Send = (method: Method, url: string, body?: object) => Promise<{ status: number; body: Reply; headers: Readonly<Record<string, unknown>> }>;

/** The fields that tests look at; a reply has some of them. */
export interface Reply {
  readonly id: string;
  readonly name: string;
  readonly items: readonly Reply[];
  readonly nextCursor: string | null;
  readonly code: string;
  readonly [field: string]: unknown;
}

/** A loaded CRM behind a wall, and the application on a walled pool of `connections` connections. */
export async function walledCrm(options: { readonly connections?: number; readonly logger?: FastifyServerOptions['logger'] } = {}): Promise<WalledCrm> {
  const database = await createDatabase();
  const roles = await buildWall(database);
  const pool = createWalledPool({ connectionString: database.urlAs(roles.app), max: options.connections ?? 4 });
  const app = createApp({ pool, secret, logger: options.logger ?? false });
  afterAll(async () => {
    await app.close();
    await pool.end();
    await database.query(`alter database ${database.name} owner to current_user`);
    const names = Object.values(roles).join(', ');
    await database.query(`drop owned by ${names} cascade; drop role ${names}`);
  });
  return {
    database,
    pool,
    app,
    as:
      (tenant, roleName = 'admin') =>
      async (method, url, body) => {
        const token = await issueToken({ tenant: tenant.id, user: tenant.firstUser.id, role: roleName }, { secret });
        const reply = await app.inject({ method, url, headers: { authorization: `Bearer ${token}` }, ...(body && { payload: body }) });
        return { status: reply.statusCode, body: parseReply(reply.body), headers: reply.headers };
      },
  };
}

/** An empty body is an empty object. */
export function parseReply(body: string): Reply {
  return JSON.parse(body || '{}') as Reply; // which of the fields are there is what each test asserts
}

/** Loads the CRM as its owner and puts it behind a wall. Returns the model's roles. */
async function buildWall(database: TestDatabase): Promise<TenancyConfig['roles']> {
  const run = suffix();
  const roles = { owner: `crm_owner_${run}`, app: `crm_app_${run}`, system: `crm_system_${run}`, service: `crm_service_${run}` };
  await database.query(`create role ${roles.owner} login; alter database ${database.name} owner to ${roles.owner}`);
  const owner = new pg.Client(database.urlAs(roles.owner));
  await owner.connect();
  await loadCrm(owner).finally(() => owner.end());
  const model = parseModel({ ...crmTenancy, roles });
  await applyWall({ url: database.url, model, phase: 'expand' });
  // The gate asks for connections of an application; here there is none yet, neither old nor new.
  await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  return roles;
}
