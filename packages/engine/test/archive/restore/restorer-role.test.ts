import { applyWall, connect, installControl, parseModel } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { createDatabase, suffix } from '../../../../../test/support/database.ts';

const id = suffix();
const installer = `installer_${id}`;
const roles = { owner: installer, app: `app_${id}`, system: `system_${id}`, service: `service_${id}` };
const database = await createDatabase();
afterAll(async () => {
  for (const role of [`${roles.service}_restorer`, roles.app, roles.system, roles.service, installer])
    await database.query(`reassign owned by ${role} to postgres; drop owned by ${role}; drop role ${role}`).catch(() => undefined);
});

test('is made by a role that is no superuser, can do nothing but restore, and nobody is left a member that can become it', async () => {
  // PostgreSQL 15 lets nobody but a superuser make roles that policies do not bind.
  await database.query(`create role ${installer} login createrole bypassrls; create role ${roles.app} login; create role ${roles.system} login bypassrls;
    create role ${roles.service} login bypassrls; grant create on database "${database.name}" to ${installer}; grant create, usage on schema public to ${installer}`);
  const { rows: version } = await database.query<{ major: number }>(`select current_setting('server_version_num')::int / 10000 as major`);
  if ((version[0]?.major ?? 0) >= 16)
    await database.query(`grant ${roles.app}, ${roles.system}, ${roles.service} to ${installer} with admin option, inherit false, set false`);
  const url = database.urlAs(installer);
  const client = await connect(url, { purpose: 'test' });
  await client.query(`create table public.tenants (id uuid primary key, name text not null);
    create table public.things (id integer primary key, tenant_id uuid not null references public.tenants (id), name text);
    create table public.outbox (id serial primary key, mail text)`);
  const model = parseModel({
    tenant: { table: 'public.tenants' },
    roles,
    tables: { 'public.things': { scope: 'scoped', column: 'tenant_id' }, 'public.outbox': { scope: 'platform', access: 'write' } },
  });
  for (const phase of ['expand', 'contract'] as const) await applyWall({ url, model, phase, skipGate: true });
  await installControl(client, model);
  await installControl(client, model);
  const restorer = `${roles.service}_restorer`;
  const { rows } = await client.query(
    `select r.rolcanlogin, r.rolsuper, r.rolbypassrls, pg_get_userbyid(p.proowner) as owner, has_table_privilege(r.oid, 'public.things', 'delete') as things,
has_table_privilege(r.oid, 'public.outbox', 'insert') as outbox, has_table_privilege(r.oid, 'public.things', 'truncate') as truncate,
has_schema_privilege(r.oid, 'partywall_control', 'create') as create, has_table_privilege(r.oid, 'partywall_control.directory', 'select') as directory,
has_function_privilege($2, p.oid, 'execute') as app, has_function_privilege($3, p.oid, 'execute') as service, pg_has_role($4, r.oid, 'usage') as member
from pg_roles r, pg_proc p where r.rolname = $1 and p.oid = 'partywall_control.run_bound'::regproc`,
    [restorer, roles.app, roles.service, installer],
  );
  await client.end();
  expect(rows).toEqual([
    {
      rolcanlogin: false,
      rolsuper: false,
      rolbypassrls: false,
      owner: restorer,
      things: true,
      outbox: true,
      truncate: false,
      create: false,
      directory: false,
      app: false,
      service: true,
      member: false,
    },
  ]);
});
