import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { applyWall, connect, newPassword, setRolePassword, startEmbedded } from '@partywall/engine';
import { createWalledPool, run, TenantContextError, wallErrorOf } from '@partywall/wall';
import { afterAll, expect, test } from 'vitest';
import { drizzleOrm } from '../src/drizzle.ts';
import { knex } from '../src/knex.ts';
import { kysely } from '../src/kysely.ts';
import { plainPg } from '../src/pg.ts';
import { prisma } from '../src/prisma.ts';
import { clientsModel, customerName, schemaSql, seedSql, tenantId } from '../src/schema.ts';
import { typeorm } from '../src/typeorm.ts';
import { failure } from './database.ts';

// A cluster of its own: the one that tests share trusts everybody.
const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-credentials-'));
await fs.chmod(folder, 0o755);
const server = await startEmbedded({ dataDir: path.join(folder, 'data'), major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18') });
afterAll(async () => {
  await server.stop();
  await fs.rm(folder, { recursive: true, force: true });
});
const admin = await connect(server.url, { purpose: 'test' });
afterAll(() => admin.end());
await admin.query(`set search_path = public; ${schemaSql}; ${seedSql({ tenants: 2, customers: 3 })}`);
const model = clientsModel({ owner: 'postgres', app: 'clients_app', system: 'clients_system', service: 'clients_service' });
let password = newPassword();
for (const phase of ['expand', 'contract'] as const) await applyWall({ url: server.url, model, phase, skipGate: true, passwords: { app: password } });
const own = [1, 2, 3].map((customer) => customerName(2, customer));

for (const under of [plainPg, prisma, drizzleOrm, kysely, knex, typeorm]) {
  test(`${under.name} goes on, and stays scoped, when the password of its login is changed under it; the old one is refused`, async () => {
    const { hostname, port, pathname } = new URL(server.url);
    const login = { host: hostname, port: Number(port), database: pathname.slice(1), user: model.roles.app, max: 2, ...under.options };
    // The password is asked for with each new connection, so whoever keeps it changes it here.
    const pool = createWalledPool({ ...login, password: () => password });
    pool.on('error', () => undefined); // the rotation ends the sessions
    const client = await under.over(pool);
    const before = password;
    expect(await run({ tenant: tenantId(2) }, () => client.customers())).toEqual(own);
    password = newPassword();
    await setRolePassword(admin, model, { role: 'app', password, endSessions: true });
    await expect.poll(() => pool.totalCount).toBe(0);

    expect(await run({ tenant: tenantId(2) }, () => client.customers())).toEqual(own);
    expect(wallErrorOf(await failure(client.customers()))).toBeInstanceOf(TenantContextError);
    const stale = createWalledPool({ ...login, password: before });
    expect(await run({ tenant: tenantId(2) }, () => failure(stale.query('select 1')))).toMatchObject({ code: '28P01' });
    await stale.end();
    await client.end();
    if (!pool.ending) await pool.end();
  });
}
