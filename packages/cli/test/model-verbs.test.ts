import fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { createDatabase } from '../../../test/support/database.ts';
import { folder, json, partywall } from './support/command.ts';
import { configText, portal } from './support/portal.ts';

describe('init', () => {
  test('writes a config that check accepts, and sums up what it found', async () => {
    const { env } = await portal();
    const cwd = await folder();
    const init = await partywall(['init'], { cwd, env });
    expect(init).toMatchObject({ status: 0, stderr: '' });
    expect(init.stdout).toBe(
      `wrote ${cwd}/partywall.config.ts\ntenant root public.tenants; 2 scoped, 1 shared, 0 platform, 0 unclassified\nnext: read it, then \`partywall check\`\n`,
    );
    expect(await fs.readFile(path.join(cwd, 'partywall.config.ts'), 'utf8')).toMatch(/^import \{ defineTenancy \} from 'partywall';\n/);
    expect(await partywall(['check'], { cwd, env })).toMatchObject({ status: 0 });
  });

  test('does not write over a config; --force does', async () => {
    const { cwd, env } = await portal();
    const before = await fs.readFile(path.join(cwd, 'partywall.config.ts'), 'utf8');
    const refused = await partywall(['init', '--json'], { cwd, env });
    expect(refused.status).toBe(2);
    expect(json(refused)).toMatchObject({ error: { code: 'config_exists', hint: expect.stringContaining('--update') } });
    expect(await fs.readFile(path.join(cwd, 'partywall.config.ts'), 'utf8')).toBe(before);
    expect((await partywall(['init', '--force'], { cwd, env })).status).toBe(0);
    expect(await fs.readFile(path.join(cwd, 'partywall.config.ts'), 'utf8')).not.toBe(before);
  });

  test('--update keeps what a person wrote, adds new tables and marks those that are gone', async () => {
    const on = await portal();
    const answer = { scope: 'platform', access: 'read', why: 'the sales team edits it' };
    const cwd = await folder({ 'partywall.config.ts': configText(on.roles, { 'public.countries': answer, 'public.ghosts': { scope: 'shared' } }) });
    await on.database.query('create table invoices (id int primary key, customer_id bigint not null references customers)');
    const result = await partywall(['init', '--update', '--json'], { cwd, env: on.env });
    expect(json(result)).toMatchObject({ added: ['public.invoices'], vanished: ['public.ghosts'], decided: [], scoped: 3 });
    const text = await fs.readFile(path.join(cwd, 'partywall.config.ts'), 'utf8');
    expect(text).toContain('the sales team edits it');
    expect(text).toContain('vanished: there is no public.ghosts');
    expect(text).toContain(on.roles.app);
  });

  test('--update leaves comments and layout alone', async () => {
    const on = await portal();
    await partywall(['init', '--force'], { cwd: on.cwd, env: on.env });
    const written = await fs.readFile(path.join(on.cwd, 'partywall.config.ts'), 'utf8');
    const commented = written.replace("    'public.customers'", "    // asked sales in March: every customer has one account\n    'public.customers'");
    expect(commented).not.toBe(written);
    await fs.writeFile(path.join(on.cwd, 'partywall.config.ts'), commented);
    await on.database.query('create table invoices (id int primary key, customer_id bigint not null references customers)');
    const { status } = await partywall(['init', '--update'], { cwd: on.cwd, env: on.env });
    const text = await fs.readFile(path.join(on.cwd, 'partywall.config.ts'), 'utf8');
    expect(status).toBe(0);
    expect(text).toContain("'public.invoices'");
    const kept = commented.split('\n').filter((line) => !text.includes(line));
    expect(kept).toEqual([]);
    expect(await fs.readdir(on.cwd)).toEqual(['partywall.config.ts']);
  });

  test('--dry-run prints the config and writes nothing', async () => {
    const { env } = await portal();
    const cwd = await folder();
    const { status, stdout } = await partywall(['init', '--dry-run'], { cwd, env });
    expect(status).toBe(0);
    expect(stdout).toContain('export default defineTenancy({');
    expect(await fs.readdir(cwd)).toEqual([]);
  });

  test('leaves open what it cannot tell, lists it, and check fails until it is decided', async () => {
    const on = await portal();
    await on.database.query('create table blobs (id int primary key, owner_type text, owner_id bigint, body text)');
    const cwd = await folder();
    const init = await partywall(['init'], { cwd, env: on.env });
    expect(init).toMatchObject({ status: 1, stdout: expect.stringMatching(/a person must decide:\n {2}public\.blobs\n$/) });
    const check = await partywall(['check'], { cwd, env: on.env });
    expect(check).toMatchObject({ status: 1, stdout: expect.stringContaining('public.blobs is unclassified') });
  });

  test('asks for the root where nothing tells it, and takes the one that is named', async () => {
    const database = await createDatabase();
    await database.query('create table one (id int primary key); create table two (id int primary key)');
    const env = { DATABASE_URL: database.url };
    const cwd = await folder();
    const asked = await partywall(['init', '--json'], { cwd, env });
    expect(asked.status).toBe(2);
    expect(json(asked)).toMatchObject({ error: { code: 'root_undecided', hint: expect.stringContaining('--root') } });
    expect(await fs.readdir(cwd)).toEqual([]);
    const named = await partywall(['init', '--root', 'public.one', '--json'], { cwd, env });
    expect(json(named)).toMatchObject({ tenant: 'public.one' });
    const wrong = await partywall(['init', '--force', '--root', 'a.b.c'], { cwd, env });
    expect(wrong).toMatchObject({ status: 2, stderr: expect.stringContaining('not a table name: "a.b.c"') });
  });

  test('a folder that cannot be written to is one line, and nothing is left behind', async () => {
    const { env } = await portal();
    const cwd = await folder({ file: '' });
    const { status, stderr } = await partywall(['init', '--config', 'file/partywall.config.ts'], { cwd, env });
    expect(status).toBe(2);
    expect(stderr).toMatch(/^partywall: (?:reading|writing) .*file\/partywall\.config\.ts.*\n {2}hint: /);
    expect(await fs.readdir(cwd)).toEqual(['file']);
  });
});

describe('check', () => {
  test('lists unknown, vanished and changed tables with what to do, and exits 1', async () => {
    const on = await portal();
    await on.database.query('create table invoices (id int primary key, customer_id bigint references customers)');
    const cwd = await folder({
      'partywall.config.ts': configText(on.roles, { 'public.ghosts': { scope: 'shared' }, 'public.customers': { scope: 'scoped', column: 'organisation_id' } }),
    });
    const human = await partywall(['check'], { cwd, env: on.env });
    expect(human.status).toBe(1);
    expect(human.stdout).toContain('public.invoices is not in the model');
    expect(human.stdout).toMatch(/^error {4}public\.ghosts .*\n +→ /m);
    const result = await partywall(['check', '--json'], { cwd, env: on.env });
    const answer = json(result) as { ok: boolean; differences: { kind: string; table: string }[] };
    expect(answer.ok).toBe(false);
    expect(answer.differences.map(({ kind, table }) => `${kind} ${table}`)).toEqual(
      expect.arrayContaining(['unknown public.invoices', 'vanished public.ghosts', 'changed public.customers']),
    );
  });

  test('--expect names the migration that has not run on this database', async () => {
    const { cwd, env, database } = await portal();
    expect((await partywall(['check', '--expect', 'public.notes:body', 'public.customers'], { cwd, env })).status).toBe(0);
    const missing = await partywall(['check', '--expect', 'public.notes:organization_id', 'public.orders'], { cwd, env });
    expect(missing.status).toBe(1);
    expect(missing.stdout).toContain(
      `public.notes expected column organization_id is not there: the migration that adds it has not run on database ${database.name}`,
    );
    expect(missing.stdout).toContain('public.orders expected table is not there');
  });
});
