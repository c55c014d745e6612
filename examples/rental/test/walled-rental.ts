import { once } from 'node:events';
import fs from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { applyWall, parseModel, type TenancyModel } from '@partywall/engine';
import { afterAll } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import tenancy from '../partywall.config.ts';
import { createApp } from '../src/app.ts';
import { type Database, openDatabase } from '../src/database.ts';
import type { DemoTenant } from '../src/demo-tenants.ts';
import { seed } from '../src/seed.ts';
import { tokenFor } from '../src/tokens.ts';

export const tokenSecret = 'only for the tests of the example, and longer than 32 bytes';

export const paymentsSecret = 'what the payment provider of the tests signs with';

export interface WalledRental {
  readonly database: TestDatabase;
  readonly model: TenancyModel;
  readonly clients: Database;
  /** Where the application listens. */
  readonly origin: string;
  /** Sends a request as the user of the tenant. */
  as(tenant: DemoTenant): Send;
  /** What the application could not do beside its answers. */
  readonly troubles: unknown[];
}

export type Send = (method: string, path: string, options?: { body?: object; headers?: Record<string, string> }) => Promise<Reply>;

export interface Reply {
  readonly status: number;
  readonly body: ReplyBody;
}

/** The members that tests look at; a reply has some of them. */
export interface ReplyBody {
  readonly items: readonly ReplyBody[];
  readonly [member: string]: unknown;
}

/** The seeded ERP behind its wall, listening. */
export async function walledRental(): Promise<WalledRental> {
  const database = await createDatabase();
  const run = suffix();
  const { rows } = await database.query<{ owner: string }>('select current_user as owner');
  const roles = {
    owner: rows[0]?.owner ?? '',
    app: `rental_app_${run}`,
    system: `rental_system_${run}`,
    service: `rental_service_${run}`,
  };
  const model = parseModel({ ...tenancy, roles });
  await database.query(await fs.readFile(new URL('../schema.sql', import.meta.url), 'utf8'));
  await applyWall({ url: database.url, model, phase: 'expand' });
  const clients = openDatabase({ app: database.urlAs(roles.app), system: database.urlAs(roles.system) });
  await seed(clients.prismaBase);
  await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  const troubles: unknown[] = [];
  const server = createApp({ database: clients, tokenSecret, paymentsSecret, onTrouble: (error) => troubles.push(error) }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`; // it listens on a port, not on a path
  afterAll(async () => {
    server.close();
    server.closeAllConnections();
    await clients.end();
    const names = [roles.app, roles.system, roles.service].join(', ');
    await database.query(`drop owned by ${names} cascade; drop role ${names}`);
  });
  return {
    database,
    model,
    clients,
    origin,
    troubles,
    as: (tenant) => async (method, path, options) => {
      const response = await fetch(`${origin}${path}`, {
        method,
        headers: { authorization: `Bearer ${await tokenFor(tenant, tokenSecret)}`, 'content-type': 'application/json', ...options?.headers },
        ...(options?.body && { body: JSON.stringify(options.body) }),
      });
      const text = await response.text();
      return { status: response.status, body: JSON.parse(text || '{}') as ReplyBody }; // each test asserts which members are there
    },
  };
}
