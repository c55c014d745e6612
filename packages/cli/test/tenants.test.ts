import { afterAll, describe, expect, test } from 'vitest';
import { folder, json, partywall } from './support/command.ts';
import { configText, portal } from './support/portal.ts';

const on = await portal();
const tenancy = { tenant: { table: 'public.tenants', key: 'id', profile: { name: 'name' } } };
const cwd = await folder({ 'partywall.config.ts': configText(on.roles, {}, tenancy) });
const owner = { cwd, env: { DATABASE_URL: on.database.url } };
for (const phase of ['expand', 'contract']) await partywall(['apply', '--phase', phase, '--yes', '--skip-gate'], owner);
afterAll(() => on.database.query(`drop database if exists "${on.database.name}_partywall" with (force)`));
const operator = { cwd, env: { PARTYWALL_SERVICE_URL: on.database.urlAs(on.roles.service), PARTYWALL_OPERATOR: 'kari' } };
const run = (...args: string[]) => partywall(['tenants', ...args], operator);
const acme = '11111111-1111-4111-8111-111111111111';
const globex = '22222222-2222-4222-8222-222222222222';

describe('partywall migrate', () => {
  test('says what is missing and changes nothing, then installs it, then has nothing to do', async () => {
    expect(await run('list')).toMatchObject({ status: 2, stderr: expect.stringContaining('run `partywall migrate`') });
    const plan = await partywall(['migrate', '--dry-run', '--json'], owner);
    expect(json(plan)).toMatchObject({
      dryRun: true,
      migrations: expect.arrayContaining(['0001_tenants', '0008_lifecycle']),
      systemDatabase: { name: `${on.database.name}_partywall`, created: true },
    });
    expect((await on.database.query("select to_regnamespace('partywall_control') as schema")).rows).toEqual([{ schema: null }]);
    expect(await partywall(['migrate'], owner)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining(`created: database ${on.database.name}_partywall`),
    });
    expect(await partywall(['migrate'], owner)).toMatchObject({ status: 0, stdout: 'the control plane is up to date\n' });
  });

  test('run by several at once it leaves one of each', async () => {
    const runs = await Promise.all(Array.from({ length: 4 }, () => partywall(['migrate', '--json'], owner)));
    for (const done of runs) expect(json(done)).toMatchObject({ migrations: [], systemDatabase: { created: false } });
  });
});

describe('partywall tenants', () => {
  test('lists and shows', async () => {
    const listed = await run('list', '--search', 'GLOB');
    expect(listed).toMatchObject({ status: 0, stdout: `${globex}  active     free        globex\n` });
    expect(await run('show', globex)).toMatchObject({ status: 0, stdout: expect.stringMatching(/name +globex\n[\s\S]*wall +active/) });
    expect(await run('show', 'nobody')).toMatchObject({ status: 2, stderr: expect.stringContaining('there is none') });
  });

  test('moves a tenant as the API does, and records the operator and the reason', async () => {
    expect(await run('suspend', globex, '--reason', 'unpaid')).toMatchObject({ status: 0, stdout: expect.stringContaining('is now suspended') });
    expect(await run('suspend', globex)).toMatchObject({ status: 0, stdout: expect.stringContaining('was already suspended') });
    expect(await run('restore', globex)).toMatchObject({ status: 1, stderr: expect.stringContaining('possible now: reactivate, cancel, delete') });
    expect(json(await run('reactivate', globex, '--json'))).toMatchObject({ changed: true, tenant: { status: 'active' } });
    const { rows } = await on.database.query(
      'select actor_kind, actor_id, action, reason from partywall_control.audit_records where tenant_id = $1 order by seq limit 1',
      [globex],
    );
    expect(rows).toEqual([{ actor_kind: 'operator', actor_id: 'kari', action: 'tenant.suspend', reason: 'unpaid' }]);
  });

  test('provisions with a password of the environment, never of the command line', async () => {
    const asked = ['tenants', 'provision', 'New \u001b[31mCompany', '--contact-email', 'c@new.example', '--admin-name', 'A', '--admin-email', 'a@new.example'];
    expect(await partywall(asked, operator)).toMatchObject({ status: 2, stderr: expect.stringContaining('PARTYWALL_ADMIN_PASSWORD is not set') });
    const withPassword = { ...operator, env: { ...operator.env, PARTYWALL_ADMIN_PASSWORD: 'secure_password' } };
    const made = await partywall(asked, withPassword);
    // What a tenant is called does not reach the terminal as it is.
    expect(made).toMatchObject({ status: 0, stdout: expect.stringMatching(/^provisioned: New \ufffd\[31mCompany \(/) });
    expect(await partywall([...asked, '--json'], withPassword)).toMatchObject({ status: 0, stdout: expect.stringContaining('"created": false') });
  });

  test('deletes softly and restores', async () => {
    expect(await run('delete', globex)).toMatchObject({ status: 0, stdout: expect.stringContaining('it can be restored until') });
    expect(await run('restore', globex)).toMatchObject({ status: 0, stdout: expect.stringContaining('is now active') });
  });

  test('purges whom the retention has released', async () => {
    expect(await run('purge', '--dry-run')).toMatchObject({ status: 0, stdout: '0 are due\n' });
    expect(await run('purge')).toMatchObject({ status: 0, stdout: 'visited 0 of 0: 0 erased, 0 under a legal hold, 0 failed\n' });
    await run('delete', globex);
    await on.database.query('update partywall_control.directory set retained_until = now() where tenant_id = $1', [globex]);
    expect(await run('purge', '--dry-run')).toMatchObject({ status: 0, stdout: `1 are due\n  ${globex}  globex\n` });
    expect(json(await run('purge', '--json'))).toMatchObject({ due: 1, visited: 1, erased: [globex], held: [], failed: [] });
  });

  test('deletes for good only with the name, says before what goes and leaves a certificate', async () => {
    expect(await run('hold', acme, '--reason', 'case 1')).toMatchObject({ status: 0, stdout: expect.stringContaining('is under a legal hold') });
    expect(await run('delete', acme, '--hard', '--force', '--confirm', 'acme')).toMatchObject({ status: 1, stderr: expect.stringContaining('legal hold') });
    await run('unhold', acme, '--reason', 'over');
    expect(await run('delete', acme, '--hard', '--confirm', 'acme')).toMatchObject({ status: 1, stderr: expect.stringContaining('that takes force') });
    const plan = json(await run('delete', acme, '--hard', '--force', '--dry-run', '--json'));
    expect(plan).toMatchObject({
      dryRun: true,
      refusal: null,
      tables: [
        { table: 'public.notes', rows: 60 },
        { table: 'public.customers', rows: 20 },
        { table: 'public.tenants', rows: 1 },
      ],
    });
    for (const confirm of [[], ['--confirm', 'globex'], ['--confirm', 'ACME']]) {
      const refused = await run('delete', acme, '--hard', '--force', ...confirm);
      expect(refused).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(/public\.notes +60[\s\S]*nothing was changed/) });
    }
    expect(await run('show', acme)).toMatchObject({ status: 0 });
    const done = await run('delete', acme, '--hard', '--force', '--confirm', 'acme', '--reason', 'contract ended');
    expect(done).toMatchObject({ status: 0, stdout: expect.stringMatching(/^erased: acme[\s\S]*valid: certificate 2, 81 rows of 3 tables/) });
    expect(await run('show', acme)).toMatchObject({ status: 2 });
    expect(json(await run('certificate', acme, '--json'))).toMatchObject({ valid: true, body: { reason: 'contract ended', requestedBy: { id: 'kari' } } });
    await on.database.query('update partywall_control.certificates set body = replace(body, \'"before":60\', \'"before":61\')');
    expect(await run('certificate', acme)).toMatchObject({ status: 1, stdout: expect.stringContaining('NOT VALID: the signature is not of this text') });
  });
});
