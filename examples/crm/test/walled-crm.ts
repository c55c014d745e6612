import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { applyWall, type ControlDatabase, connect, controlPool, installControl, parseModel, type TenancyModel } from '@partywall/engine';
import { hashPassword, type SendMail, type ServerOptions, signSessionToken } from '@partywall/server';
import { createWalledPool } from '@partywall/wall';
import type { FastifyInstance, FastifyServerOptions } from 'fastify';
import pg from 'pg';
import { afterAll } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import crmTenancy from '../partywall.config.ts';
import { createApp } from '../src/app.ts';
import { loadCrm } from '../src/seed.ts';

const secret = 'only for the tests of the example, and longer than 32 bytes';

export interface WalledCrm {
  readonly database: TestDatabase;
  readonly pool: pg.Pool;
  readonly control: ControlDatabase;
  readonly server: ServerOptions;
  readonly app: FastifyInstance;
  /** Somebody who can sign in with the password, and a token of theirs. */
  person(of: { readonly superAdmin: boolean; readonly password: string }): Promise<{ readonly email: string; readonly token: string }>;
  /** A bearer token of somebody who has the role in the tenant. */
  token(tenant: { readonly id: string }, role?: Role): Promise<string>;
  /** Sends a request as such a person, without a network. */
  as(tenant: { readonly id: string }, role?: Role): Send;
}

export type Role = 'admin' | 'member';
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
export async function walledCrm(
  options: { readonly connections?: number; readonly logger?: FastifyServerOptions['logger']; readonly mail?: SendMail } = {},
): Promise<WalledCrm> {
  const database = await createDatabase();
  const model = await buildWall(database);
  const pool = createWalledPool({ connectionString: database.urlAs(model.roles.app), max: options.connections ?? 4 });
  const keyring = await mkdtemp(path.join(os.tmpdir(), 'partywall-keyring-'));
  const control = { pool: controlPool(database.urlAs(model.roles.service), { purpose: 'test' }), model, clock: () => new Date(), keyring };
  const server: ServerOptions = {
    database: control,
    people: { secret, baseUrl: 'http://127.0.0.1', ...(options.mail && { mail: options.mail }) },
    limits: { requestsPerMinute: 1_000_000, attemptsPerMinute: 1_000_000 },
  };
  const app = await createApp({ pool, server, logger: options.logger ?? false });
  afterAll(async () => {
    await app.close();
    await Promise.all([pool.end(), control.pool.end()]);
    await rm(keyring, { recursive: true, force: true });
    await database.query(`alter database ${database.name} owner to current_user`);
    const names = Object.values(model.roles).join(', ');
    await database.query(`drop owned by ${names} cascade; drop role ${names}`);
  });
  const tokens = new Map<string, Promise<string>>();
  const token = (tenant: { readonly id: string }, role: Role = 'admin'): Promise<string> => {
    const known = tokens.get(`${tenant.id} ${role}`) ?? signedIn(database, tenant.id, role);
    tokens.set(`${tenant.id} ${role}`, known);
    return known;
  };
  return {
    database,
    pool,
    control,
    server,
    app,
    person: async ({ superAdmin, password }) => {
      const { id, email, token: own } = await newPerson(database, superAdmin);
      await setPassword(database, id, password);
      return { email, token: own };
    },
    token,
    as:
      (tenant, role = 'admin') =>
      async (method, url, body) => {
        const headers = { authorization: `Bearer ${await token(tenant, role)}` };
        const reply = await app.inject({ method, url, headers, ...(body && { payload: body }) });
        return { status: reply.statusCode, body: parseReply(reply.body), headers: reply.headers };
      },
  };
}

/** A person of the tenant, with a session; returns its token. */
async function signedIn(database: TestDatabase, tenant: string, role: Role): Promise<string> {
  const { id, token } = await newPerson(database, false);
  await database.query(`insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, $1, $1, now()) on conflict do nothing`, [
    tenant,
  ]);
  await database.query(`insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($2, $1, $2, $3, now())`, [
    tenant,
    id,
    role,
  ]);
  return token;
}

async function newPerson(database: TestDatabase, superAdmin: boolean): Promise<{ id: string; email: string; token: string }> {
  const [id, token] = [randomUUID(), randomUUID()];
  const email = `${id}@people.example`;
  await database.query(`insert into partywall_people."user" ("id", "name", "email", "emailVerified", "superAdmin") values ($1, 'Somebody', $2, true, $3)`, [
    id,
    email,
    superAdmin,
  ]);
  await database.query(
    `insert into partywall_people."session" ("id", "expiresAt", "token", "updatedAt", "userId") values ($1, now() + interval '1 hour', $2, now(), $1)`,
    [id, token],
  );
  return { id, email, token: signSessionToken(token, secret) };
}

async function setPassword(database: TestDatabase, id: string, password: string): Promise<void> {
  await database.query(
    `insert into partywall_people."account" ("id", "accountId", "providerId", "userId", "password", "updatedAt") values ($1, $1, 'credential', $1, $2, now())`,
    [id, await hashPassword(password)],
  );
}

/** An empty body is an empty object. */
export function parseReply(body: string): Reply {
  return JSON.parse(body || '{}') as Reply; // which of the fields are there is what each test asserts
}

/** Loads the CRM as its owner, puts it behind a wall and under the control plane. */
async function buildWall(database: TestDatabase): Promise<TenancyModel> {
  const run = suffix();
  const roles = {
    owner: `crm_owner_${run}`,
    app: `crm_app_${run}`,
    system: `crm_system_${run}`,
    service: `crm_service_${run}`,
    operator: `crm_operator_${run}`,
  };
  await database.query(`create role ${roles.owner} login; alter database ${database.name} owner to ${roles.owner}`);
  const owner = new pg.Client(database.urlAs(roles.owner));
  await owner.connect();
  await loadCrm(owner).finally(() => owner.end());
  const model = parseModel({ ...crmTenancy, roles });
  await applyWall({ url: database.url, model, phase: 'expand' });
  // The gate asks for connections of an application; here there is none yet, neither old nor new.
  await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  const client = await connect(database.url, { purpose: 'test' });
  await installControl(client, model).finally(() => client.end());
  return model;
}
