import { randomUUID } from 'node:crypto';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { applyWall, type ControlDatabase, connect, controlPool, createSystemDatabase, installControl, parseModel, systemDatabaseName } from '@partywall/engine';
import { signSessionToken } from '@partywall/server';
import { createWalledPool } from '@partywall/wall';
import type { FastifyInstance } from 'fastify';
import { afterAll } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import tenancy from '../partywall.config.ts';
import { createApp } from '../src/app.ts';
import { loadChatbot, writeUploads } from '../src/load.ts';

const secret = 'only for the tests of the example, and longer than 32 bytes';

export interface WalledChatbot {
  readonly database: TestDatabase;
  readonly control: ControlDatabase;
  readonly app: FastifyInstance;
  /** Holds `uploads` and `keyring`; whatever a test writes goes here too. */
  readonly folder: string;
  /** Bearer token of a member of the tenant. */
  token(tenant: string): Promise<string>;
}

/** The loaded chatbot behind its wall and under the control plane. */
export async function walledChatbot(): Promise<WalledChatbot> {
  const database = await createDatabase();
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-chatbot-'));
  const run = suffix();
  const { rows } = await database.query<{ owner: string }>('select current_user as owner');
  const roles = {
    owner: rows[0]?.owner ?? '',
    app: `chatbot_app_${run}`,
    system: `chatbot_system_${run}`,
    service: `chatbot_service_${run}`,
    operator: `chatbot_operator_${run}`,
  };
  const model = parseModel({ ...tenancy, roles });
  const client = await connect(database.url, { purpose: 'test' });
  await loadChatbot(client);
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url: database.url, model, phase, skipGate: true });
  await installControl(client, model);
  await createSystemDatabase(client, roles.service);
  await client.end();
  await writeUploads(path.join(folder, 'uploads'));
  const keyring = path.join(folder, 'keyring');
  const control: ControlDatabase = { pool: controlPool(database.urlAs(roles.service), { purpose: 'test' }), model, clock: () => new Date(), keyring };
  const pool = createWalledPool({ connectionString: database.urlAs(roles.app), max: 4 });
  const app = await createApp({
    pool,
    server: { database: control, people: { secret, baseUrl: 'http://127.0.0.1' }, limits: { requestsPerMinute: 1_000_000, attemptsPerMinute: 1_000_000 } },
    uploads: path.join(folder, 'uploads'),
  });
  afterAll(async () => {
    await app.close();
    await Promise.all([pool.end(), control.pool.end()]);
    await fs.rm(folder, { recursive: true, force: true });
    await database.query(`drop database if exists "${systemDatabaseName(database.name)}" with (force)`);
    for (const role of [roles.app, roles.system, roles.service, roles.operator]) await database.query(`drop owned by ${role} cascade; drop role ${role}`);
  });
  return { database, control, app, folder, token: (tenant) => memberToken(database, tenant) };
}

async function memberToken(database: TestDatabase, tenant: string): Promise<string> {
  const [id, token] = [randomUUID(), randomUUID()];
  await database.query(`insert into partywall_people."user" ("id", "name", "email", "emailVerified", "superAdmin") values ($1, 'Somebody', $2, true, false)`, [
    id,
    `${id}@people.example`,
  ]);
  await database.query(`insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, $1, $1, now()) on conflict do nothing`, [
    tenant,
  ]);
  await database.query(`insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($2, $1, $2, 'admin', now())`, [
    tenant,
    id,
  ]);
  await database.query(
    `insert into partywall_people."session" ("id", "expiresAt", "token", "updatedAt", "userId") values ($1, now() + interval '1 hour', $2, now(), $1)`,
    [id, token],
  );
  return signSessionToken(token, secret);
}
