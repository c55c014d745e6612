import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { connect } from '../../src/db/connect.ts';
import { startEmbedded } from '../../src/db/embedded.ts';
import { parseModel } from '../../src/model/model.ts';
import { changeSeal } from '../../src/seal/change-seal.ts';
import { applyWall } from '../../src/wall/apply.ts';
import { newPassword, proveCredential, setRolePassword } from '../../src/wall/rotate-credentials.ts';

// A cluster of its own: the one that tests share trusts everybody.
const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-rotate-'));
await fs.chmod(folder, 0o755);
const server = await startEmbedded({ dataDir: path.join(folder, 'data'), major: Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18') });
afterAll(async () => {
  await server.stop();
  await fs.rm(folder, { recursive: true, force: true });
});
const admin = await connect(server.url, { purpose: 'test' });
afterAll(() => admin.end());
await admin.query(
  'create table public.tenants (id int primary key); create table public.things (id int primary key, tenant_id int not null references public.tenants)',
);
const model = parseModel({
  tenant: { table: 'public.tenants' },
  roles: { owner: 'postgres', app: 'rotate_app', system: 'rotate_system', service: 'rotate_service' },
  tables: { 'public.things': { scope: 'scoped', column: 'tenant_id' } },
});
const first = newPassword();
for (const phase of ['expand', 'contract'] as const)
  await applyWall({ url: server.url, model, phase, skipGate: true, passwords: { app: first, service: first } });
await admin.query('insert into public.tenants values (1), (2); insert into public.things values (10, 1), (20, 2)');
const urlOf = (role: 'app' | 'service', password: string): string => server.urlFor('postgres', { user: model.roles[role], password });

test('after a rotation the old credential is refused, the new one accepted, and the application still bound', async () => {
  const open = await connect(urlOf('app', first), { purpose: 'test' });
  const password = newPassword();
  const { ended } = await setRolePassword(admin, model, { role: 'app', password, endSessions: true });
  expect(ended).toBe(1);
  await expect(open.query('select 1')).rejects.toThrow();
  const proof = await proveCredential(model, 'app', { before: urlOf('app', first), after: urlOf('app', password) }, admin);
  expect(proof.map(({ holds }) => holds)).toEqual([true, true, true, true, true]);
  expect(proof.at(-1)?.claim).toBe('inside a tenant every row of 1 tables is its own');
  const { rows } = await admin.query<{ verifier: string }>('select rolpassword as verifier from pg_catalog.pg_authid where rolname = $1', [model.roles.app]);
  expect(rows[0]?.verifier).toMatch(/^SCRAM-SHA-256\$/);
});

test('the proof tells where the old credential still works, and where the wall does not bind the role', async () => {
  const password = newPassword();
  await setRolePassword(admin, model, { role: 'app', password, endSessions: false });
  await admin.query('alter role rotate_app bypassrls');
  const same = urlOf('app', password);
  const proof = await proveCredential(model, 'app', { before: same, after: same }, admin);
  await admin.query('alter role rotate_app nobypassrls');
  expect(proof.map(({ holds }) => holds)).toEqual([false, true, true, false, false]);
});

test('in a sealed database the proof enters the tenant with a seal of the database’s own', async () => {
  const actor = { kind: 'operator', id: 'test' } as const;
  for (const kind of ['rotate', 'on'] as const) await changeSeal(admin, model, { kind }, { actor });
  const password = newPassword();
  await setRolePassword(admin, model, { role: 'app', password, endSessions: true });
  const proof = await proveCredential(model, 'app', { before: undefined, after: urlOf('app', password) }, admin);
  await changeSeal(admin, model, { kind: 'off' }, { actor });
  expect(proof.map(({ holds }) => holds)).toEqual([undefined, true, true, true, true]);
});
