import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { folder, json, partywall } from './support/command.ts';
import { configText, type Portal, portal } from './support/portal.ts';

/** Keeps a session of the given role open, as the application's pool would. */
async function applicationAs(on: Portal, role: string): Promise<void> {
  const client = new pg.Client({ connectionString: on.database.urlAs(role), application_name: 'portal' });
  await client.connect();
  onTestFinished(() => client.end());
}

async function walls(on: Portal): Promise<string[]> {
  const { rows } = await on.database.query<{ name: string }>(
    "select relname as name from pg_class where relnamespace = 'public'::regnamespace and relforcerowsecurity order by 1",
  );
  return rows.map((row) => row.name);
}

test('diff prints SQL with reasons and changes nothing; its exit status says that steps remain', async () => {
  const { cwd, env, database } = await portal();
  const { status, stdout, stderr } = await partywall(['diff'], { cwd, env });
  expect(status).toBe(1);
  expect(stdout).toMatch(/^-- expand: \d+ steps$/m);
  expect(stdout).toMatch(/^-- contract: \d+ steps$/m);
  expect(stdout).toContain('--   because ');
  expect(stdout).toContain('alter table "public"."notes" add column "tenant_id" uuid');
  expect(stderr).toMatch(/^t_\S+: \d+ expand, the switch, \d+ contract\n$/);
  const { rows } = await database.query("select 1 from pg_namespace where nspname = 'partywall'");
  expect(rows).toEqual([]);
});

test('diff --json lists the steps with their SQL, and --phase keeps one phase', async () => {
  const { cwd, env } = await portal();
  const result = await partywall(['diff', '--json', '--phase', 'expand'], { cwd, env });
  const answer = json(result) as { steps: { id: string; phase: string; table: string | null; sql: string[] }[]; blockers: unknown[] };
  expect(answer.blockers).toEqual([]);
  expect(new Set(answer.steps.map((step) => step.phase))).toEqual(new Set(['expand']));
  expect(answer.steps.every((step) => step.sql.length > 0 && step.id.startsWith('expand/'))).toBe(true);
});

test('the phases carry a database over: expand, the gate, contract, nothing left to do', async () => {
  const on = await portal();
  const { cwd, env, roles } = on;

  const expand = await partywall(['apply', '--phase', 'expand'], { cwd, env });
  expect(expand.status).toBe(0);
  expect(expand.stdout).toMatch(/^expand: \d+ steps applied\n$/);
  expect(expand.stderr).toMatch(/^\[1\/\d+\] /);
  expect((await partywall(['apply', '--phase', 'expand'], { cwd, env })).stdout).toBe('expand: nothing to do\n');

  // The helper's own superuser session has not switched and stays, so it is allowed by name.
  const early = await partywall(['apply', '--phase', 'switch', '--allow', 'postgres'], { cwd, env });
  expect(early).toMatchObject({ status: 1, stdout: expect.stringContaining(`no connection as ${roles.app} yet`) });
  await applicationAs(on, roles.app);
  const seen = await partywall(['apply', '--phase', 'switch'], { cwd, env });
  expect(seen).toMatchObject({ status: 1, stdout: expect.stringMatching(/not switched +1 × postgres/) });
  const gate = await partywall(['apply', '--phase', 'switch', '--allow', 'postgres', '--json'], { cwd, env });
  expect(gate.status).toBe(0);
  expect(json(gate)).toMatchObject({ passed: true, switched: [{ role: roles.app, application: 'portal', count: 1 }] });

  const refused = await partywall(['apply', '--phase', 'contract', '--yes', '--json'], { cwd, env });
  expect(refused.status).toBe(1);
  expect(json(refused)).toMatchObject({ error: { code: 'switch_incomplete', details: [expect.stringContaining('1 × postgres')] } });
  expect(await walls(on)).toEqual([]);

  const contract = await partywall(['apply', '--phase', 'contract', '--yes', '--allow', 'postgres'], { cwd, env });
  expect(contract).toMatchObject({ status: 0, stdout: expect.stringMatching(/^contract: \d+ steps applied\n$/) });
  expect(await walls(on)).toEqual(['customers', 'notes', 'tenants']);
  expect(await partywall(['diff'], { cwd, env })).toMatchObject({ status: 0, stdout: '' });
  expect((await partywall(['apply', '--phase', 'contract', '--yes'], { cwd, env })).stdout).toBe('contract: nothing to do\n');
});

test('contract without a terminal prints its plan, names --yes and changes nothing', async () => {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  const { status, stdout, stderr } = await partywall(['apply', '--phase', 'contract'], on);
  expect(status).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toContain('-- contract: ');
  expect(stderr).toMatch(/not confirmed, nothing was changed\n {2}hint: .*--yes/);
  expect(await walls(on)).toEqual([]);
});

test('a dry run prints the plan that the real run follows, and changes nothing', async () => {
  const on = await portal();
  const dry = json(await partywall(['apply', '--phase', 'expand', '--dry-run', '--json'], on)) as { steps: { id: string }[] };
  const { rows } = await on.database.query("select 1 from pg_namespace where nspname = 'partywall'");
  expect(rows).toEqual([]);
  const real = json(await partywall(['apply', '--phase', 'expand', '--json'], on)) as { applied: string[] };
  expect(real.applied).toEqual(dry.steps.map((step) => step.id));
});

test('contract before expand is refused and says what is missing', async () => {
  const on = await portal();
  const result = await partywall(['apply', '--phase', 'contract', '--yes', '--json'], on);
  expect(result.status).toBe(1);
  expect(json(result)).toMatchObject({
    error: { code: 'phase_refused', message: expect.stringContaining('expand has'), details: expect.arrayContaining([expect.stringContaining('expand/')]) },
  });
});

test('rows in trouble are listed after expand, stop contract, and go aside only with --quarantine', async () => {
  const on = await portal();
  // An order of the other tenant: the plain key allows it.
  await on.database.query(
    'create table orders (id int primary key, tenant_id uuid not null references tenants, customer_id bigint not null references customers)',
  );
  await on.database.query(
    "insert into orders select 7, '22222222-2222-4222-8222-222222222222', id from customers where tenant_id = '11111111-1111-4111-8111-111111111111' limit 1",
  );
  const cwd = await folder({ 'partywall.config.ts': configText(on.roles, { 'public.orders': { scope: 'scoped', column: 'tenant_id' } }) });
  const { env } = on;

  const expand = await partywall(['apply', '--phase', 'expand'], { cwd, env });
  expect(expand.status).toBe(0);
  expect(expand.stdout).toMatch(
    /rows to repair before contract \(or pass --quarantine\):\n {2}public\.orders: 1 row .*another tenant.* by orders_customer_id_fkey: 7$/m,
  );
  const contract = await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate', '--json'], { cwd, env });
  expect(contract.status).toBe(1);
  expect(json(contract)).toMatchObject({ error: { code: 'rows_cross_tenants', details: [expect.stringContaining('public.orders')] } });
  expect((await on.database.query('select id from orders')).rows).toEqual([{ id: 7 }]);

  const settled = await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate', '--quarantine'], { cwd, env });
  expect(settled).toMatchObject({ status: 0, stdout: expect.stringContaining('quarantined: 1 rows of public.orders') });
  expect((await on.database.query('select id from orders')).rows).toEqual([]);
  expect((await on.database.query("select relation, row ->> 'id' as id from partywall.quarantine")).rows).toEqual([{ relation: 'public.orders', id: '7' }]);
});

test('rollback prints what it would do and what stays, refuses without --yes, and then takes the wall down', async () => {
  const on = await portal();
  await partywall(['apply', '--phase', 'expand'], on);
  await partywall(['apply', '--phase', 'contract', '--yes', '--skip-gate'], on);

  const dry = await partywall(['rollback', '--dry-run'], on);
  expect(dry.status).toBe(0);
  expect(dry.stdout).toContain('drop policy');
  expect(dry.stdout).toMatch(/^-- stays: roles /m);
  const refused = await partywall(['rollback'], on);
  expect(refused.status).toBe(2);
  expect(refused.stderr).toContain('drop policy');
  expect(await walls(on)).toEqual(['customers', 'notes', 'tenants']);

  const down = await partywall(['rollback', '--yes'], on);
  expect(down).toMatchObject({ status: 0, stdout: expect.stringMatching(/^rollback: \d+ steps applied\n {2}stays: /) });
  expect(await walls(on)).toEqual([]);
  expect((await partywall(['rollback', '--to', 'nothing', '--yes'], on)).status).toBe(0);
  const { rows } = await on.database.query("select column_name from information_schema.columns where table_name = 'notes' and column_name = 'tenant_id'");
  expect(rows).toEqual([]);
  expect((await partywall(['rollback', '--to', 'nothing', '--yes'], on)).stdout).toMatch(/^rollback: nothing to do\n/);
});

test('passwords for the roles come from the environment and reach the server as verifiers only', async () => {
  const on = await portal();
  const { cwd, env, roles, database } = on;
  const secret = 'correct horse battery';
  const { status, stdout, stderr } = await partywall(['apply', '--phase', 'expand'], { cwd, env: { ...env, PARTYWALL_APP_PASSWORD: secret } });
  expect(status).toBe(0);
  expect(stdout + stderr).not.toContain(secret);
  const { rows } = await database.query('select rolname, rolpassword from pg_authid where rolname = any($1) order by 1', [[roles.app, roles.system]]);
  expect(rows).toEqual([
    { rolname: roles.app, rolpassword: expect.stringMatching(/^SCRAM-SHA-256\$/) },
    { rolname: roles.system, rolpassword: null },
  ]);
});
