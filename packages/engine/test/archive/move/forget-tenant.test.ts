import { afterAll, expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import {
  awaitOperation,
  eraseTenant,
  eraseWorks,
  finishMove,
  forgetErased,
  forgetTenant,
  inProcess,
  readCertificate,
  readLedger,
  runBackup,
  tenantSubject,
  verifyAudit,
  verifyCertificate,
  works,
} from '../../../src/index.ts';
import { columns, contents, furnish, others, twoHomes } from './moving.ts';

const { first, second, placements, move } = await twoHomes();
for (const { database } of [first, second]) await database.query("insert into continents values ('EU', 'Europe')");
for (const { database } of [first, second]) await database.query("insert into currencies values ('NOK', 'EU', 'Krone')");
// Both databases have one keyring, as those of one operator do.
Object.assign(second.control, { keyring: first.control.keyring });
const durable = inProcess(first.control, works);
afterAll(() => durable.stop());
await furnish(first, 'Neighbour', 5);
await furnish(second, 'Resident', 5);

async function erase({ control, operation }: typeof first, tenant: string): Promise<void> {
  const there = inProcess(control, works);
  const { id } = await eraseTenant(operation(), there, { tenant, force: true });
  expect(await awaitOperation(operation(), id, { timeoutMs: 60_000 })).toMatchObject({ state: 'done', error: null });
  await there.stop();
}

/** Tables of whichever schema that hold the tenant's key in any column, but for the evidence that stays. */
async function traces({ database }: typeof first, tenant: string): Promise<string[]> {
  const { rows } = await database.query<{ name: string }>(
    "select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and n.nspname in ('public', 'partywall', 'partywall_control', 'partywall_people')",
  );
  const found: string[] = [];
  for (const { name } of rows) {
    if (/audit_|certificates|operations/.test(name)) continue;
    if (((await database.query(`select from ${name} t where strpos(t::text, $1) > 0 limit 1`, [tenant])).rowCount ?? 0) > 0) found.push(name);
  }
  return found;
}

async function member(tenant: string, email: string): Promise<void> {
  await first.database.query(
    `with o as (insert into partywall_people."organization" ("id", "name", "slug", "createdAt") values ($1, $1, $1, now()) on conflict do nothing),
u as (insert into partywall_people."user" ("id", "name", "email", "emailVerified") values ($2, $2, $2, true))
insert into partywall_people."member" ("id", "organizationId", "userId", "role", "createdAt") values ($2, $1, $2, 'admin', now())`,
    [tenant, email],
  );
}

test('a tenant that is erased where it moved to leaves nothing in the database that it came from, and nobody else is touched', async () => {
  const tenant = await furnish(first, 'Leaver', 10);
  await member(tenant, 'only@leaver.example');
  expect(await move(tenant, 'second', 3_600)).toMatchObject({ state: 'done' });
  const [before, there] = [await others(first, [tenant]), await others(second, [tenant])];
  await expect(forgetTenant(first.operation(), durable, { tenant, placements })).rejects.toMatchObject({
    code: 'move_refused',
    message: expect.stringContaining('at home'),
  });
  await erase(second, tenant);
  expect(await traces(second, tenant)).toEqual([]);
  expect((await contents(first, tenant)).customers).toMatchObject({ count: 10 });
  const report = await forgetTenant(first.operation(), durable, { tenant, placements });
  expect(report).toEqual({ tenant, erasedIn: 'second', forgotten: ['here'] });
  for (const each of [first, second]) {
    expect(await traces(each, tenant)).toEqual([]);
    expect(await verifyCertificate(each.operation(), await readCertificate(each.operation(), tenant))).toMatchObject({ valid: true });
    expect((await verifyAudit(each.operation())).faults).toEqual([]);
  }
  expect((await first.database.query(`select from partywall_people."user" where "email" = 'only@leaver.example'`)).rowCount).toBe(0);
  expect([await others(first, [tenant]), await others(second, [tenant])]).toEqual([before, there]);
  expect(await forgetTenant(first.operation(), durable, { tenant, placements })).toMatchObject({ forgotten: [] });
});

test('a tenant that came back and is erased here leaves no entry in the placement', async () => {
  const tenant = await furnish(first, 'Returner', 10);
  await move(tenant, 'second');
  await finishMove(first.operation(), placements, { tenant });
  await move(tenant);
  await finishMove(first.operation(), placements, { tenant });
  await erase(first, tenant);
  expect(await traces(second, tenant)).not.toEqual([]);
  const [before, there] = [await others(first, [tenant]), await others(second, [tenant])];
  expect(await forgetErased(first.operation(), durable, placements)).toEqual({ due: 1, visited: 1, forgotten: [tenant], failed: [] });
  expect([await traces(first, tenant), await traces(second, tenant)]).toEqual([[], []]);
  expect([await others(first, [tenant]), await others(second, [tenant])]).toEqual([before, there]);
  expect(Object.keys(columns)).toContain('tenants');
});

test('what this database backed up before a tenant moved away cannot be read after it was erased elsewhere', async () => {
  const { archive, open } = await archiveFixture({ keyring: first.control.keyring });
  const tenant = await furnish(first, 'Backed Up', 10);
  await runBackup(first.operation(), archive, { reason: 'by hand' });
  expect(await move(tenant, 'second', 3_600)).toMatchObject({ state: 'done' });
  await erase(second, tenant);
  // Without the archive nothing goes.
  await expect(forgetTenant(first.operation(), durable, { tenant, placements })).rejects.toMatchObject({ code: 'erasure_refused' });
  expect((await contents(first, tenant)).customers).toMatchObject({ count: 10 });
  const withArchive = inProcess(first.control, { ...works, ...eraseWorks(() => open()) });
  try {
    expect(await forgetTenant(first.operation(), withArchive, { tenant, placements })).toMatchObject({ forgotten: ['here'] });
  } finally {
    await withArchive.stop();
  }
  await archive.keys.refresh();
  expect(archive.keys.subjects().map(({ subject }) => subject)).not.toContain(tenantSubject(tenant));
  expect((await readCertificate(first.operation(), tenant)).body.backups).toMatchObject({ held: { backups: 1 } });
  expect((await readLedger(archive)).tenants.get(tenant)).toMatchObject({ status: 'erased' });
  expect(await traces(first, tenant)).toEqual([]);
});

test('only a certificate that this keyring has signed makes anybody forget, and a placed tenant is left alone', async () => {
  const tenant = await furnish(first, 'Stayer', 10);
  await move(tenant, 'second');
  expect(await forgetErased(first.operation(), durable, placements)).toMatchObject({ due: 0 });
  // Somebody who can write in the placement takes the tenant out there, and forges a certificate.
  await second.database.query('delete from partywall.registry where tenant_id = $1', [tenant]);
  await second.database.query(
    `insert into partywall_control.certificates (seq, tenant_id, operation_id, issued_at, body, hash, key_id, signature)
select c.seq + 1000, $1, gen_random_uuid(), c.issued_at, replace(c.body, c.tenant_id, $1), c.hash || 'x'::bytea, c.key_id, c.signature from partywall_control.certificates c limit 1`,
    [tenant],
  );
  expect(await forgetErased(first.operation(), durable, placements)).toMatchObject({
    due: 1,
    visited: 1,
    forgotten: [],
    failed: [{ tenant, problem: expect.stringContaining('valid certificate') }],
  });
  expect((await contents(first, tenant)).customers).toMatchObject({ count: 10 });
});
