import { ident, refuseUnsupported } from '@partywall/engine';
import { describe, expect, test } from 'vitest';
import { suffix } from '../../../test/support/database.ts';
import { folder, json, partywall } from './support/command.ts';
import { configText, type Portal, portal } from './support/portal.ts';

/** What a phase could leave behind: relations with their grants, columns, constraints, roles, rows. */
async function state(on: Portal): Promise<string[]> {
  const { roles } = on;
  const { rows } = await on.database.query<{ thing: string }>(
    `select c.oid::regclass || ' rls ' || c.relrowsecurity || ' grants ' || coalesce(c.relacl::text, '') as thing from pg_class c where c.relnamespace::regnamespace::text in ('public', 'partywall')
    union all select attrelid::regclass || '.' || attname || ' not null ' || attnotnull from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relnamespace = 'public'::regnamespace and attnum > 0
    union all select conrelid::regclass || ' ' || conname from pg_constraint where connamespace = 'public'::regnamespace
    union all select 'role ' || rolname from pg_roles where rolname = any($1)
    union all select 'rows ' || count(*) from notes
    order by 1`,
    [[roles.app, roles.system, roles.service]],
  );
  return rows.map((row) => row.thing);
}

/** Runs a phase that must fail; returns its error and proves that the database is as it was. */
async function refused(
  on: Portal,
  cwd: string,
  args: readonly string[] = ['apply', '--phase', 'expand'],
  url = on.database.url,
): Promise<{ code: string; message: string; details: string[]; status: number | null }> {
  const before = await state(on);
  const result = await partywall([...args, '--json'], { cwd, env: { DATABASE_URL: url } });
  expect(await state(on)).toEqual(before);
  // The shape of every error; the callers assert its parts.
  const { error } = json(result) as { error: { code: string; message: string; details: string[] } };
  expect(error.message).not.toContain('\n');
  return { ...error, status: result.status };
}

async function withTables(on: Portal, tables: Readonly<Record<string, unknown>>, more: Readonly<Record<string, unknown>> = {}): Promise<string> {
  return folder({ 'partywall.config.ts': configText(on.roles, tables, more) });
}

describe('a model that the database does not match changes nothing', () => {
  test('a table that is not there', async () => {
    const on = await portal();
    const error = await refused(on, await withTables(on, { 'public.ghosts': { scope: 'scoped', column: 'tenant_id' } }));
    expect(error).toMatchObject({ code: 'model_drift', status: 1, details: [expect.stringContaining('public.ghosts')] });
  });

  test('a column that is not there', async () => {
    const on = await portal();
    const error = await refused(on, await withTables(on, { 'public.customers': { scope: 'scoped', column: 'organisation_id' } }));
    expect(error).toMatchObject({ code: 'model_drift', status: 1, details: [expect.stringContaining('organisation_id')] });
  });

  test('a path over a column that is not there', async () => {
    const on = await portal();
    const error = await refused(
      on,
      await withTables(on, { 'public.notes': { scope: 'scoped', through: { table: 'public.customers', columns: 'client_id' } } }),
    );
    expect(error).toMatchObject({ code: 'model_drift', status: 1, details: [expect.stringContaining('client_id')] });
  });

  test('a table that the model does not know', async () => {
    const on = await portal();
    await on.database.query('create table invoices (id int primary key, customer_id bigint references customers)');
    const error = await refused(on, on.cwd);
    expect(error).toMatchObject({ code: 'model_unclassified', status: 1, details: [expect.stringContaining('public.invoices')] });
  });

  test('a table that nobody has classified', async () => {
    const on = await portal();
    const error = await refused(on, await withTables(on, { 'public.countries': { scope: 'unclassified', candidates: ['shared'] } }));
    expect(error).toMatchObject({ code: 'model_unclassified', status: 1, details: [expect.stringContaining('public.countries')] });
  });

  test('another database than the one the config describes', async () => {
    const on = await portal();
    const cwd = await folder({
      'partywall.config.ts': configText(on.roles)
        .replaceAll('public.tenants', 'public.organisations')
        .replaceAll('public.customers', 'public.clients')
        .replaceAll('public.notes', 'public.remarks')
        .replaceAll('public.countries', 'public.lands'),
    });
    const error = await refused(on, cwd);
    expect(error).toMatchObject({ code: 'wrong_database', status: 2 });
    expect(error.message).toContain(on.database.name);
  });

  test('a bootstrap tenant of another type, and one that does not exist', async () => {
    const on = await portal();
    const wrongType = await refused(on, await withTables(on, {}, { bootstrap: 42 }));
    expect(wrongType).toMatchObject({ code: 'model_invalid', status: 2, message: expect.stringContaining('"42" is not a uuid') });
    const nobody = await refused(on, await withTables(on, {}, { bootstrap: '33333333-3333-4333-8333-333333333333' }));
    expect(nobody).toMatchObject({ code: 'model_invalid', status: 2, message: expect.stringContaining('has no row') });
  });
});

describe('a connection that cannot do it changes nothing', () => {
  test('no such database', async () => {
    const on = await portal();
    const error = await refused(on, on.cwd, undefined, on.database.url.replace(on.database.name, `none_${suffix()}`));
    expect(error).toMatchObject({ code: 'wrong_database', status: 2 });
  });

  test('no such role', async () => {
    const on = await portal();
    const error = await refused(on, on.cwd, undefined, on.database.urlAs(`nobody_${suffix()}`));
    expect(error).toMatchObject({ code: 'database_refused', status: 2 });
  });

  test.each([
    ['owns nothing', 'createrole bypassrls', false, false, 'who own 4 tables'],
    ['cannot bypass row level security', 'createrole', true, true, 'BYPASSRLS'],
    ['cannot make roles', 'bypassrls', true, true, 'CREATEROLE'],
    ['cannot create in the schema', 'createrole bypassrls', true, false, 'CREATE on'],
  ])('a role that %s', async (_, attributes, owns, creates, lack) => {
    const on = await portal();
    const name = `weak_${suffix()}`;
    await on.database.query(`create role ${name} login ${attributes}`);
    if (owns) for (const table of ['tenants', 'customers', 'notes', 'countries']) await on.database.query(`alter table ${table} owner to ${name}`);
    if (creates) await on.database.query(`grant create on database ${on.database.name} to ${name}; grant create on schema public to ${name}`);
    const error = await refused(on, on.cwd, undefined, on.database.urlAs(name));
    expect(error).toMatchObject({ code: 'permission_missing', status: 2 });
    expect(error.details.join('\n')).toContain(lack);
  });
});

test('quotes, dollars, reserved words and 63 bytes pass through every phase and back', async () => {
  const on = await portal();
  const names = [`we"ird '$$' \\n.ame`, 'select', 'x'.repeat(63), 'Größe'];
  for (const name of names) {
    await on.database.query(`create table ${ident(name)} ("order" int primary key, "cus;tomer" bigint references customers, "user" text unique)`);
    await on.database.query(`insert into ${ident(name)} select row_number() over (), id from customers`);
  }
  const { rows } = await on.database.query<{ table: string; name: string }>(
    "select c.relname as table, k.conname as name from pg_constraint k join pg_class c on c.oid = k.conrelid where k.contype = 'u' and c.relname = any($1)",
    [names],
  );
  expect(rows).toHaveLength(names.length);
  const rules = rows.map(({ table, name }) => [
    `public.${ident(table)}`,
    { scope: 'scoped', through: { table: 'public.customers', columns: 'cus;tomer' }, uniques: { [name]: 'per tenant' } },
  ]);
  const cwd = await folder({ 'partywall.config.ts': configText({ ...on.roles, app: `app "x" $$ ${suffix()}` }, Object.fromEntries(rules)) });
  const { env } = on;
  expect(await partywall(['apply', '--phase', 'expand'], { cwd, env })).toMatchObject({ status: 0 });
  expect(await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], { cwd, env })).toMatchObject({ status: 0 });
  expect(await partywall(['diff'], { cwd, env })).toMatchObject({ status: 0, stdout: '' });
  for (const name of names)
    expect((await on.database.query(`select count(*)::int as rows, count(distinct tenant_id)::int as tenants from ${ident(name)}`)).rows).toEqual([
      { rows: 40, tenants: 2 },
    ]);
  expect(await partywall(['rollback', '--to', 'nothing', '--yes'], { cwd, env })).toMatchObject({ status: 0 });
});

test('servers outside PostgreSQL 15 to 18 are refused by name', () => {
  for (const version of [140_012, 90_624, 190_000]) {
    expect(() => refuseUnsupported(version, 'me@db:5432/crm')).toThrow(
      `connecting to me@db:5432/crm: the server is PostgreSQL ${Math.floor(version / 10_000)}`,
    );
  }
  for (const version of [150_000, 160_014, 180_004]) expect(() => refuseUnsupported(version, 'x')).not.toThrow();
});
