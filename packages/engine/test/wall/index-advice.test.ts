import { adviseIndexes, connect, parseModel } from '@partywall/engine';
import { beforeAll, expect, test } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../../test/support/database.ts';

const name = suffix();
const model = parseModel({
  tenant: { table: 'public.tenants' },
  roles: { owner: 'postgres', app: `app_${name}`, system: `system_${name}`, service: `service_${name}` },
  tables: {
    'public.projects': { scope: 'scoped', column: 'tenant_id' },
    'public.events': { scope: 'scoped', through: { table: 'public.projects', columns: 'project_id' } },
  },
});

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
  await database.query(`create extension pg_stat_statements;
    create table tenants (id uuid primary key);
    create table projects (id bigint primary key, tenant_id uuid not null references tenants (id), name text, code text);
    create index projects_name_idx on projects (name);
    create index projects_code_idx on projects (code);
    create table events (id bigint primary key, project_id bigint not null references projects (id), body text)`);
});

async function advice() {
  const client = await connect(database.url, { purpose: 'test' });
  try {
    return await adviseIndexes(client, model);
  } finally {
    await client.end();
  }
}

test('an index that the wall or a cascade lacks comes with the statement that builds it beside writers', async () => {
  const { missing } = await advice();
  expect(missing.map((item) => item.statement)).toEqual([
    expect.stringMatching(/^create unique index concurrently "pw_key_projects_\w+" on "public"."projects" \("tenant_id", "id"\)$/),
    expect.stringMatching(/^create unique index concurrently "pw_key_events_\w+" on "public"."events" \("tenant_id", "id"\)$/),
    'create index concurrently on "public"."events" ("project_id")',
  ]);
  await database.query(missing[2]?.statement ?? '');
  expect((await advice()).missing.map((item) => item.table)).toEqual(['public.projects', 'public.events']);
});

test('an index nobody has read is listed; one that was read, a unique one and one behind a foreign key are not', async () => {
  await database.query("set enable_seqscan = off; select * from projects where code = 'x'; reset enable_seqscan; select pg_stat_force_next_flush()");
  const { unused } = await advice();
  expect(unused.map((item) => item.index)).toEqual(['projects_name_idx']);
});

test('slow statements over walled tables are listed by mean time, others are not', async () => {
  await database.query('select pg_stat_statements_reset()');
  await database.query('select count(*) from projects, pg_sleep(0.05)');
  await database.query('select pg_sleep(0.06)');
  await database.query('select count(*) from projects');
  const { slow } = await advice();
  expect(slow?.map((item) => item.query)).toEqual(['select count(*) from projects, pg_sleep($1)']);
});

test('without pg_stat_statements the slow ones are unknown, not none', async () => {
  await database.query('drop extension pg_stat_statements');
  expect((await advice()).slow).toBeUndefined();
});
