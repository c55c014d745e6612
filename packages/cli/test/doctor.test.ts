import { expect, test } from 'vitest';
import { createDatabase, suffix } from '../../../test/support/database.ts';
import { folder, json, partywall } from './support/command.ts';
import { configText, type Portal, portal } from './support/portal.ts';

interface Line {
  readonly id: string;
  readonly status: 'pass' | 'fail' | 'skip';
  readonly message: string;
  readonly hint?: string;
}

async function doctor(
  on: { cwd: string; env?: Readonly<Record<string, string>> },
  args: readonly string[] = [],
): Promise<{ status: number | null; lines: Line[]; line: (id: string) => Line | undefined }> {
  const result = await partywall(['doctor', '--json', ...args], on);
  // The shape that doctor prints; the assertions below read it.
  const { lines } = json(result) as { lines: Line[] };
  return { status: result.status, lines, line: (id) => lines.find((line) => line.id === id) };
}

/** A role with the given attributes on the shared cluster, with or without ownership of the portal's tables. */
async function role(on: Portal, attributes: string, owns: boolean): Promise<string> {
  const name = `operator_${suffix()}`;
  await on.database.query(`create role ${name} login ${attributes}`);
  if (owns) for (const table of ['tenants', 'customers', 'notes', 'countries']) await on.database.query(`alter table ${table} owner to ${name}`);
  return name;
}

test('a portal that can be hardened passes every line', async () => {
  const on = await portal();
  const { status, lines, line } = await doctor(on);
  expect(lines.filter(({ status: outcome }) => outcome === 'fail')).toEqual([]);
  expect(status).toBe(0);
  expect(line('config')?.message).toBe(`${on.cwd}/partywall.config.ts`);
  expect(line('database')?.message).toMatch(new RegExp(`^PostgreSQL \\d+\\.\\d+, postgres@127\\.0\\.0\\.1:\\d+/${on.database.name}$`));
  expect(line('wall')?.message).toContain('no wall yet');
  expect(line('roles')).toMatchObject({ status: 'skip', message: expect.stringContaining('`partywall apply --phase expand` makes them') });
  expect(line('app-connection')).toMatchObject({ status: 'skip' });
});

test('the lines follow the wall through its phases', async () => {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  expect((await doctor(on)).line('wall')?.message).toContain('expand is applied or under way');
  await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], on);
  const { line } = await doctor({ ...on, env: { ...on.env, PARTYWALL_APP_URL: on.database.urlAs(on.roles.app) } });
  expect(line('wall')?.message).toContain('the wall stands');
  expect(line('roles')).toMatchObject({ status: 'pass', message: expect.stringContaining(`binds ${on.roles.app}`) });
  expect(line('app-connection')).toMatchObject({ status: 'pass', message: expect.stringContaining(`row level security binds ${on.roles.app}`) });
});

test('a wall whose functions somebody replaced is told from one that stands', async () => {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], on);
  expect((await doctor(on)).line('schema')).toMatchObject({ status: 'pass' });
  await on.database.query(`alter function partywall.tenant_id() immutable; grant execute on function partywall.set_state(text, text, text) to ${on.roles.app}`);
  const { status, line } = await doctor(on);
  expect(status).toBe(1);
  expect(line('schema')).toMatchObject({
    status: 'fail',
    message: 'function partywall.tenant_id() is not as Partywall makes it: it is immutable, not stable, and 1 more',
  });
  await partywall(['apply', '--phase', 'expand'], on);
  expect((await doctor(on)).line('schema')).toMatchObject({ status: 'pass' });
});

test('a missing config and a missing connection string are two failed lines, not an error', async () => {
  const { status, line } = await doctor({ cwd: await folder() });
  expect(status).toBe(1);
  expect(line('config')).toMatchObject({ status: 'fail', message: expect.stringContaining('there is none') });
  expect(line('database')).toMatchObject({ status: 'fail', message: expect.stringContaining('none given') });
});

test('a database that is not there, and a server that is not, are named', async () => {
  const on = await portal();
  const gone = on.database.url.replace(on.database.name, 'no_such_database');
  expect((await doctor(on, ['--url', gone])).line('database')?.message).toContain('database "no_such_database" does not exist');
  expect((await doctor(on, ['--url', 'postgresql://me@127.0.0.1:1/crm'])).line('database')?.message).toContain('ECONNREFUSED');
});

test.each([
  ['BYPASSRLS', 'createrole nobypassrls', true],
  ['CREATEROLE', 'nocreaterole bypassrls', true],
  ['who own 4 tables', 'createrole bypassrls', false],
  ['CREATE on database', 'createrole bypassrls', true],
])('a role that lacks something is told so: %s', async (lack, attributes, owns) => {
  const on = await portal();
  const name = await role(on, attributes, owns);
  const { status, line } = await doctor(on, ['--url', on.database.urlAs(name)]);
  expect(status).toBe(1);
  expect(line('privileges')).toMatchObject({ status: 'fail', message: expect.stringContaining(lack) });
});

test('a role that passes can apply every phase, as doctor says', async () => {
  const on = await portal();
  const name = await role(on, 'createrole bypassrls', true);
  await on.database.query(`grant create on database ${on.database.name} to ${name}; grant create on schema public to ${name}`);
  // Before PostgreSQL 16 only a superuser makes a role with BYPASSRLS.
  const { rows } = await on.database.query<{ old: boolean }>("select current_setting('server_version_num')::int < 160000 as old");
  if (rows[0]?.old) for (const made of [on.roles.system, on.roles.service]) await on.database.query(`create role ${made} login bypassrls`);
  const env = { DATABASE_URL: on.database.urlAs(name) };
  const { lines } = await doctor({ cwd: on.cwd, env });
  expect(lines.filter(({ status }) => status === 'fail')).toEqual([]);
  expect(await partywall(['apply', '--phase', 'expand'], { cwd: on.cwd, env })).toMatchObject({ status: 0 });
  expect(await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], { cwd: on.cwd, env })).toMatchObject({ status: 0 });
});

test('a database that holds nothing of the model is told apart from one that has drifted', async () => {
  const on = await portal();
  const other = await createDatabase();
  expect((await doctor(on, ['--url', other.url])).line('model')).toMatchObject({
    status: 'fail',
    message: expect.stringContaining(`${other.name} is not the database of the model`),
  });
});

test('a table that the model does not know is counted', async () => {
  const on = await portal();
  await on.database.query('create table invoices (id int primary key)');
  expect((await doctor(on)).line('model')).toMatchObject({ status: 'fail', message: 'the model and the database differ: 1 error' });
});

test('an application connection to another database, or past the policies, fails', async () => {
  const on = await portal();
  const other = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  const elsewhere = await doctor({ ...on, env: { ...on.env, PARTYWALL_APP_URL: other.database.urlAs(on.roles.app) } });
  expect(elsewhere.line('app-connection')).toMatchObject({ status: 'fail', message: expect.stringContaining(`which is not ${on.database.name}`) });
  const unbound = await doctor({ ...on, env: { ...on.env, PARTYWALL_APP_URL: on.database.url } });
  expect(unbound.line('app-connection')).toMatchObject({ status: 'fail', message: expect.stringContaining('which row level security does not bind') });
});

test('an app role that was given BYPASSRLS fails', async () => {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  await on.database.query(`alter role ${on.roles.app} bypassrls`);
  expect((await doctor(on)).line('roles')).toMatchObject({ status: 'fail', message: expect.stringContaining('it is BYPASSRLS') });
});

test('an owner role that does not exist fails', async () => {
  const on = await portal();
  const cwd = await folder({ 'partywall.config.ts': configText({ ...on.roles, owner: 'nobody_here' }) });
  expect((await doctor({ ...on, cwd })).line('roles')).toMatchObject({ status: 'fail', message: 'the owner role nobody_here does not exist' });
});

const journal = (entries: readonly { tag: string; when: number }[]): string => JSON.stringify({ version: '7', dialect: 'postgresql', entries });
const both = [
  { tag: '0007_tenant_organizations', when: 1_700_000_007_000 },
  { tag: '0008_contract', when: 1_700_000_008_000 },
];

test.each([
  ['a file that the journal does not name', [both[0]], [both[0]], '0008_contract is not in the journal, so it will never run'],
  ['an entry that the database has not recorded', both, [both[0]], '0008_contract is not recorded in t_'],
  ['a record that has no entry here', [both[0]], both, undefined],
  ['all in place', both, both, undefined],
])('Drizzle migrations, %s', async (name, entries, recorded, message) => {
  const on = await portal();
  await on.database.query('create schema drizzle');
  await on.database.query('create table drizzle.__drizzle_migrations (id serial primary key, hash text not null, created_at bigint)');
  for (const entry of recorded) await on.database.query("insert into drizzle.__drizzle_migrations (hash, created_at) values ('h', $1)", [entry?.when]);
  const files = name.startsWith('a record') ? [both[0]] : both;
  const cwd = await folder({
    'drizzle/meta/_journal.json': journal(entries.flatMap((entry) => entry ?? [])),
    ...Object.fromEntries(files.map((entry) => [`drizzle/${entry?.tag}.sql`, 'select 1'])),
  });
  const line = (await doctor({ ...on, cwd })).line('migrations');
  if (name === 'all in place') expect(line).toMatchObject({ status: 'pass', message: expect.stringMatching(/2 files, all in the journal and in t_/) });
  else if (message === undefined) expect(line).toMatchObject({ status: 'fail', message: expect.stringContaining('records 1 migrations that are not here') });
  else expect(line).toMatchObject({ status: 'fail', message: expect.stringContaining(message) });
});

test('a folder that only looks like one of migrations is none, and of a broken journal the files are said not to be in it', async () => {
  const on = await portal();
  const look = async (files: Readonly<Record<string, string>>) => (await doctor({ ...on, cwd: await folder(files) })).line('migrations');
  expect(await look({ 'store/meta': 'a file', 'store/0001_first.sql': '' })).toBeUndefined();
  expect(await look({ 'drizzle/meta/_journal.json': '{"entries": [', 'drizzle/0001_first.sql': '' })).toMatchObject({
    status: 'fail',
    message: expect.stringContaining('0001_first is not in the journal'),
  });
});

test('Prisma migrations that never ran in this database are named', async () => {
  const on = await portal();
  const cwd = await folder({ 'prisma/migrations/migration_lock.toml': '', 'prisma/migrations/20260101_init/migration.sql': 'select 1' });
  expect((await doctor({ ...on, cwd })).line('migrations')).toMatchObject({
    status: 'fail',
    message: expect.stringContaining('the database has no public._prisma_migrations'),
  });
  await on.database.query('create table _prisma_migrations (migration_name text, finished_at timestamptz, rolled_back_at timestamptz)');
  expect((await doctor({ ...on, cwd })).line('migrations')).toMatchObject({
    status: 'fail',
    message: expect.stringContaining('20260101_init is not recorded'),
  });
  await on.database.query("insert into _prisma_migrations values ('20260101_init', now(), null)");
  expect((await doctor({ ...on, cwd })).line('migrations')).toMatchObject({ status: 'pass' });
});

test('with --indexes the missing and the unused indexes of walled tables are listed', async () => {
  const on = await portal();
  await on.database.query('create index customers_email_lower on customers (lower(email))');
  await on.database.query('alter table notes add column reviewer_id bigint references customers');
  const { stdout, status } = await partywall(['doctor', '--indexes'], on);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^missing indexes:\n(?: {2}.*\n)* {2}create index concurrently on "public"\."notes" \("reviewer_id"\);/m);
  expect(stdout).toMatch(/^indexes that nothing has read since .+:\n(?: {2}.*\n)* {2}public\.customers: customers_email_lower, \d+\.\d MiB$/m);
  expect(stdout).toMatch(/^slow queries/m);
  const bare = await partywall(['doctor'], on);
  expect(bare.stdout).not.toContain('missing indexes');
});
