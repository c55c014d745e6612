import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, suffix } from '../../../../test/support/database.ts';
import { parseModel, type TenancyConfig, type TenancyModel } from '../../src/model/model.ts';
import { changeSeal } from '../../src/seal/change-seal.ts';
import { type VerifyReport, verifyExit } from '../../src/verify/report.ts';
import { type VerifyProgress, verify } from '../../src/verify/verify.ts';
import { applyWall } from '../../src/wall/apply.ts';
import { runtimeSql } from '../../src/wall/runtime.ts';
import { hasPgBouncer, startPgBouncer } from './pgbouncer.ts';
import { createSoundDatabase, type SoundDatabase } from './sound-database.ts';

let sound: SoundDatabase;
beforeAll(async () => {
  sound = await createSoundDatabase();
});

function notPassed({ checks }: Pick<VerifyReport, 'checks'>): string[] {
  return checks.filter((check) => check.outcome !== 'pass').map((check) => `${check.rule} ${check.outcome}`);
}

/** The runtime as a role that may or may not protect the context installs it. */
async function installRuntime(isProtected: boolean): Promise<void> {
  for (const statement of runtimeSql({ keyType: 'uuid', isProtected })) await sound.database.query(statement);
}

const options = () => ({ model: sound.model, adminUrl: sound.database.url, appUrl: sound.appUrl, systemUrl: sound.systemUrl });

describe('a walled database', () => {
  it('is sound: every walled table was attacked and every check has an answer', async () => {
    const stages = new Set<VerifyProgress['stage']>();
    const report = await verify({ ...options(), onProgress: ({ stage }) => stages.add(stage) });
    expect(report.findings).toEqual([]);
    expect(report.couldNotRun).toEqual([]);
    expect(notPassed(report)).toEqual(['escape.seal not applicable']);
    expect(report.checks.find((check) => check.rule === 'read.rows')?.targets).toBe(11);
    expect(report.suite.map(({ name, outcome }) => `${outcome} ${name}`)).toEqual([
      'pass Customers reject null tenant_id',
      'pass Cross-tenant insert blocked',
      'pass Valid context accepted',
      'pass Orphaned data view exists',
      'pass Recovery map table exists',
      'pass Demo seed log table exists',
      'pass Query performance acceptable',
      'pass RLS enabled on tenant tables',
    ]);
    expect([...stages]).toEqual(['catalog', 'data', 'direct']);
    expect(verifyExit(report)).toBe(0);
  });

  it('is sound when it is sealed, and then no SQL of the application can name another tenant', async () => {
    const client = new pg.Client(sound.database.url);
    await client.connect();
    const actor = { kind: 'operator', id: 'test' } as const;
    try {
      for (const kind of ['rotate', 'on'] as const) await changeSeal(client, sound.model, { kind }, { actor });
      const report = await verify(options());
      expect(report.findings).toEqual([]);
      expect(report.couldNotRun).toEqual([]);
      expect(notPassed(report)).toEqual([]);
      expect(report.residuals.map(({ id }) => id)).not.toContain('residual.unsealed-context');
    } finally {
      await changeSeal(client, sound.model, { kind: 'off' }, { actor });
      await client.end();
    }
  });

  it('is sound where the context cannot be protected, and says what that leaves', async () => {
    await installRuntime(false);
    try {
      const report = await verify(options());
      expect(report.findings).toEqual([]);
      expect(report.couldNotRun).toEqual([]);
      expect(notPassed(report)).toEqual(['escape.context not applicable', 'escape.seal not applicable']);
      expect(report.residuals.find(({ id }) => id === 'residual.unsealed-context')?.message).toContain('any role may set');
    } finally {
      await installRuntime(true);
    }
  });

  it('names the risks that stay, with what they concern here', async () => {
    const { residuals } = await verify({ ...options(), staticOnly: true });
    const named = new Map(residuals.map((residual) => [residual.id, residual.targets]));
    expect(named.get('residual.platform-open')).toEqual(['public.job_queue (select, insert, update, delete)', 'public.sessions (select)']);
    expect(named.get('residual.platform-reference')).toEqual(['sessions_customer_id_fkey on public.sessions']);
    expect(named.get('residual.shared-writable')).toEqual(['public.settings']);
    expect(named.get('residual.leakproof')).toEqual([
      'customers_reference_like on public.customers',
      'files_meta on public.files',
      'slots_during_excl on public.slots',
    ]);
    expect(named.get('residual.constraint')).toHaveLength(2);
    expect([...named.keys()]).toEqual(
      expect.arrayContaining(['residual.unsealed-context', 'residual.primary-key', 'residual.sequences', 'residual.notify', 'residual.large-objects']),
    );
    expect(named.has('residual.new-tables')).toBe(false);
  });

  it('names what a role may do to itself, and that is so', async () => {
    const { residuals } = await verify({ ...options(), staticOnly: true, only: ['residual.same-role'] });
    expect(residuals).toHaveLength(1);
    const [app, other] = [new pg.Client(sound.appUrl), new pg.Client(sound.appUrl)];
    await Promise.all([app.connect(), other.connect()]);
    const ended = new Promise((resolve) => other.on('error', resolve));
    try {
      const { rows } = await other.query<{ pid: number }>('select pg_backend_pid() as pid');
      await app.query(`begin; alter role current_user password 'known'; alter role current_user set standard_conforming_strings = off`);
      await app.query(`select pg_logical_emit_message(true, 'anybody', 'hears this')`);
      await app.query('rollback');
      await app.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
      await ended;
    } finally {
      await app.end();
    }
  });

  it('is sound without an index on the tenant too, where every row is scanned', async () => {
    await sound.database.query('begin');
    const { rows } = await sound.database.query<{ name: string }>(
      "select indexrelid::regclass::text as name from pg_index where indrelid = 'log_lines'::regclass",
    );
    await sound.database.query(`drop index ${rows[0]?.name}`);
    await sound.database.query('commit');
    try {
      await sound.database.query('analyze');
      const report = await verify(options());
      expect(report.findings.map((finding) => `${finding.rule} ${finding.target}`)).toEqual(['tenant.no-index public.log_lines']);
      expect(report.couldNotRun).toEqual([]);
    } finally {
      await applyWall({ url: sound.database.url, model: sound.model, phase: 'expand' });
    }
  });

  it('looks at the rules that are asked for alone', async () => {
    const report = await verify({ ...options(), only: ['policy.changed', 'write.delete', 'residual.notify'] });
    expect(report.checks.map((check) => `${check.rule} ${check.surface}`)).toEqual(['policy.changed catalog', 'write.delete direct']);
    expect(report.residuals.map((residual) => residual.id)).toEqual(['residual.notify']);
  });

  it('names a waiver as unused only where its rule was looked at, or is no rule', async () => {
    const waiver = (rule: string) => ({ rule, target: 'public.t', reason: 'x', until: '2999-01-01' });
    const model = { ...sound.model, waivers: [waiver('rls.off'), waiver('read.rows'), waiver('rls.of')] };
    const unused = async (more: Partial<Parameters<typeof verify>[0]>) =>
      (await verify({ ...options(), model, ...more })).unusedWaivers.map(({ rule }) => rule);
    expect(await unused({ staticOnly: true })).toEqual(['rls.off', 'rls.of']);
    expect(await unused({ only: ['read.rows'] })).toEqual(['read.rows', 'rls.of']);
  });

  it('stops when it is told to', async () => {
    const controller = new AbortController();
    const running = verify({ ...options(), signal: controller.signal, onProgress: ({ stage }) => stage === 'direct' && controller.abort(new Error('enough')) });
    await expect(running).rejects.toThrow('enough');
  });

  it('is sound where texts have a form that checks ask for, in empty tables too', async () => {
    const { model, url, appUrl } = await walledFrom(
      `create table tenants (id uuid primary key);
create domain slug as text check (value ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(value) between 3 and 40);
create table papers (id bigint generated always as identity primary key, tenant uuid not null references tenants, slug slug not null,
  code varchar(9) not null check (code ~ '^[A-Z]{3}-\\d{4}$'), iban text not null check (iban ~ '^DE\\d+$' and length(iban) = 22),
  file text check (file like 'a/%.pdf'), country text not null, zip text not null,
  check (country = 'DE' and zip ~ '^\\d{5}$' or country = 'NL' and zip ~ '^\\d{4} [A-Z]{2}$'), check (num_nonnulls(file) = 1),
  unique (tenant, code), unique (tenant, iban), unique (tenant, slug));
insert into tenants select gen_random_uuid() from generate_series(1, 2)`,
      { tenant: { table: 'tenants' }, column: 'tenant', tables: { papers: { scope: 'scoped', column: 'tenant' } } },
    );
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(report.couldNotRun).toEqual([]);
    expect(report.findings).toEqual([]);
    expect(report.checks.find(({ rule }) => rule === 'read.rows')).toMatchObject({ outcome: 'pass', targets: 2 });
  });

  it.each(['bigint', 'integer', 'text', 'varchar(12)'])('is sound with tenant keys of type %s', async (type) => {
    const { model, url, appUrl } = await keyedDatabase(type, 2);
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(report.findings).toEqual([]);
    expect(report.couldNotRun).toEqual([]);
    expect(verifyExit(report)).toBe(0);
  });
});

it('plants rows under checks over several columns, triggers, one-to-one references and uniques with few values', async () => {
  const { model, url, appUrl } = await walledFrom(
    `create type shade as enum ('light', 'mid', 'dark');
create table tenants (id uuid primary key default gen_random_uuid());
create table people (id uuid primary key default gen_random_uuid());
create table folders (id uuid primary key default gen_random_uuid(), tenant_id uuid not null references tenants, parent_id uuid not null references folders, name text not null, shade shade not null);
create unique index folder_name on folders (tenant_id, lower(name));
create unique index folder_shade on folders (tenant_id, shade);
create table pages (id text primary key, folder_id uuid not null unique references folders on delete cascade, published_at timestamptz, status text not null, token text not null unique check (length(token) = 64),
  summary text generated always as (left(token, 4)) stored unique, check ((status = 'published') = (published_at is not null)), check (status in ('draft!', 'published')));
create table links (id bigserial primary key, page_id text references pages, folder_id uuid references folders, labels text[] not null default '{}', check (num_nonnulls(page_id, folder_id) = 1), check (folder_id is null or cardinality(labels) > 0));
create table readers (page_id text not null references pages, person_id uuid not null references people, primary key (page_id, person_id));
create function stay() returns trigger language plpgsql as $$ begin
  if new.tenant_id is distinct from old.tenant_id then raise exception 'folders do not move'; end if; return new; end $$;
create trigger stay before update on folders for each row execute function stay();
create function only_one() returns trigger language plpgsql as $$ begin
  if exists (select from readers where page_id = new.page_id) then raise exception 'one reader is enough' using errcode = '23514'; end if; return new; end $$;
create trigger only_one before insert on readers for each row execute function only_one();
insert into tenants select from generate_series(1, 2);
insert into people select from generate_series(1, 3);`,
    {
      tenant: { table: 'tenants' },
      tables: {
        people: { scope: 'platform' },
        folders: { scope: 'scoped', column: 'tenant_id' },
        pages: { scope: 'scoped', through: { table: 'folders', columns: 'folder_id' } },
        links: {
          scope: 'scoped',
          through: [
            { table: 'folders', columns: 'folder_id' },
            { table: 'pages', columns: 'page_id' },
          ],
        },
        readers: { scope: 'scoped', through: { table: 'pages', columns: 'page_id' } },
      },
    },
  );
  const report = await verify({ model, adminUrl: url, appUrl });
  expect(report.couldNotRun).toEqual([]);
  expect(report.findings).toEqual([]);
  expect(report.checks.find((check) => check.rule === 'reference.attach' && check.surface === 'direct')?.targets).toBe(5);
});

it('is sound as the service role sees it, which is no superuser', async () => {
  const report = await verify({ ...options(), adminUrl: sound.database.urlAs(sound.model.roles.service) });
  expect(report.findings).toEqual([]);
  expect(report.couldNotRun).toEqual([]);
});

describe('verifying leaves nothing behind', () => {
  it('in a sound database: rows, sequences and catalog are as before', async () => {
    const before = await everything(sound.database.url);
    await verify(options());
    expect(await everything(sound.database.url)).toEqual(before);
  });

  it('in an open one, where attacks get through', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2);
    const admin = new pg.Client(url);
    await admin.connect();
    await admin.query(
      `alter table notes disable row level security; alter table people disable row level security; grant truncate, trigger on notes to ${model.roles.app}; grant create on schema public to ${model.roles.app}`,
    );
    await admin.end();
    const before = await everything(url);
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(new Set(report.findings.map((finding) => finding.rule))).toEqual(
      new Set([
        ...[
          'context.garbage',
          'context.none',
          'context.row-security',
          'escape.create',
          'escape.ddl',
          'escape.shadow',
          'escape.truncate',
          'privilege.trigger',
          'privilege.truncate',
          'read.rows',
        ],
        ...['rls.off-with-policies', 'schema.create', 'session.prepared', 'write.delete', 'write.insert', 'write.move', 'write.update', 'write.upsert'],
      ]),
    );
    expect(await everything(url)).toEqual(before);
  });
});

describe('what could not be asked is a failure of its own', () => {
  const reasons = (report: Awaited<ReturnType<typeof verify>>) => report.couldNotRun.map((entry) => entry.reason);

  it('without the application’s connection', async () => {
    const { appUrl: _none, ...rest } = options();
    const report = await verify(rest);
    expect(reasons(report)).toEqual(['no connection string of the application was given: nothing was attacked']);
    expect(verifyExit(report)).toBe(2);
  });

  it('with a connection string that leads nowhere', async () => {
    const report = await verify({ ...options(), appUrl: 'postgresql://nobody@127.0.0.1:1/nothing' });
    expect(reasons(report)).toEqual([expect.stringMatching(/^connecting as the application: .*ECONNREFUSED/)]);
    expect(report.checks.filter((check) => check.kind === 'attack' && check.surface === 'direct').every((check) => check.outcome === 'could not run')).toBe(
      true,
    );
    expect(verifyExit(report)).toBe(2);
  });

  it('with another role’s connection string', async () => {
    const report = await verify({ ...options(), appUrl: sound.systemUrl });
    expect(reasons(report)).toEqual([
      `the connection string of the application logs in as ${sound.model.roles.system}, and the model names ${sound.model.roles.app}`,
    ]);
  });

  it('with a connection string to another database', async () => {
    const other = await keyedDatabase('uuid', 2);
    const report = await verify({
      ...options(),
      model: other.model,
      adminUrl: other.url,
      appUrl: sound.appUrl.replace(sound.model.roles.app, other.model.roles.app),
      only: ['read.rows'],
    });
    expect(reasons(report)[0]).toMatch(/^the application's connection string leads to another database/);
  });

  it('with the system client’s connection string of another role', async () => {
    const report = await verify({ ...options(), systemUrl: sound.appUrl, only: ['system.bound'] });
    expect(reasons(report)).toEqual([`its connection string logs in as ${sound.model.roles.app}`]);
    expect(verifyExit(report)).toBe(2);
  });

  it('with one tenant: there is no other to attack', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 1);
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(report.findings).toEqual([]);
    expect(reasons(report)).toEqual(['attacks need two active tenants, and the database has 1']);
    expect(verifyExit(report)).toBe(2);
  });

  it('for a table that nothing can be planted in and that has no rows', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2, 'check (md5(body || id::text) = body)');
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(report.findings).toEqual([]);
    expect(reasons(report)).toContainEqual(
      expect.stringMatching(/^no row to attack: planting: 23514 .*; existing rows: no tenant has a row; one that is committed is enough$/),
    );
    expect(verifyExit(report)).toBe(2);
  });

  it('for a column that no value was found for, and names its checks', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2, 'constraint spelled check (md5(body) = body)');
    const report = await verify({ model, adminUrl: url, appUrl, only: ['read.rows'] });
    expect(reasons(report)).toEqual([
      'no row to attack: planting: no value that is tried for body (text) passes spelled, CHECK ((md5(body) = body)); existing rows: no tenant has a row; one that is committed is enough',
    ]);
    const waived = await verify({
      ...{ model: { ...model, waivers: [{ rule: 'read.rows', target: 'public.notes', reason: 'a hash of itself', until: '2999-01-01' }] } },
      ...{ adminUrl: url, appUrl, only: ['read.rows'] },
    });
    expect(waived.couldNotRun).toEqual([]);
  });

  it('but not for one that has rows of two tenants: those are attacked', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2, 'check (md5(body || id::text) = body or char_length(body) = 12345 and person is not null)');
    const admin = new pg.Client(url);
    await admin.connect();
    await admin.query(
      `insert into notes (id, tenant, person, body) select n, p.tenant, p.id, repeat('x', 12345) from people p, generate_series(1, 1) n where p.tenant = (select min(tenant::text)::uuid from people)`,
    );
    await admin.end();
    const report = await verify({ model, adminUrl: url, appUrl, only: ['read.rows', 'write.delete'] });
    expect(report.findings).toEqual([]);
    expect(report.couldNotRun).toEqual([]);
    expect(report.checks.map((check) => `${check.rule} ${check.outcome} ${check.targets}`)).toEqual(['read.rows pass 3', 'write.delete pass 3']);
  });

  it('where a control fails: a tenant that does not see its own row', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2);
    const admin = new pg.Client(url);
    await admin.connect();
    await admin.query("create policy blind on notes as restrictive using (body = 'never')");
    await admin.end();
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(report.findings).toEqual([]);
    expect(report.couldNotRun.map((entry) => entry.target)).toContain('public.notes');
    expect(verifyExit(report)).toBe(2);
  });

  it('where the administrator is bound, instead of counting too few rows', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2);
    const admin = new pg.Client(url);
    await admin.connect();
    await admin.query(`grant usage on schema partywall to ${model.roles.owner}; grant select on partywall.facts, partywall.registry to ${model.roles.owner}`);
    await admin.end();
    const bound = url.replace('postgres@', `${model.roles.owner}@`);
    const report = await verify({ model, adminUrl: bound, appUrl, only: ['data.crossed', 'data.no-tenant', 'data.unknown-tenant'] });
    expect(report.checks.every((check) => check.outcome === 'could not run')).toBe(true);
    expect(verifyExit(report)).toBe(2);
  });

  it('on a database without a wall, beside the findings', async () => {
    const { model, url, appUrl } = await keyedDatabase('uuid', 2, '', false);
    const report = await verify({ model, adminUrl: url, appUrl });
    expect(report.findings.map((finding) => finding.rule)).toEqual(expect.arrayContaining(['role.missing', 'runtime.missing', 'rls.off', 'key.plain']));
    expect(reasons(report)).toEqual(['the wall is not built here: there is nothing to attack']);
    expect(verifyExit(report)).toBe(1);
  });
});

describe.runIf(hasPgBouncer || process.env['PARTYWALL_NO_SKIPS'] === '1')('through PgBouncer in transaction mode', () => {
  it('makes every attack again, and says that the pooler keeps session state', async () => {
    const pooler = await startPgBouncer(sound.database.url, ['postgres', sound.model.roles.app]);
    try {
      const report = await verify({ ...options(), poolerUrl: pooler.urlOf(sound.appUrl) });
      expect(report.findings).toEqual([]);
      expect(report.couldNotRun).toEqual([]);
      const pooled = report.checks.filter((check) => check.surface === 'pooler');
      expect(notPassed({ checks: pooled })).toEqual(['escape.seal not applicable']);
      expect(pooled).toHaveLength(report.checks.filter((check) => check.surface === 'direct').length);
      expect(report.residuals.map((residual) => residual.id)).toContain('residual.pooler-state');
    } finally {
      await pooler.stop();
    }
  });

  it('finds a context that somebody left in a pooled session', async () => {
    const pooler = await startPgBouncer(sound.database.url, ['postgres', sound.model.roles.app]);
    try {
      const careless = new pg.Client(pooler.urlOf(sound.appUrl));
      await careless.connect();
      await careless.query('select set_config($1, $2, false)', ['partywall.tenant_id', sound.tenants[0]]);
      await careless.end();
      const only = ['session.leftover-context'] as const;
      // Where it is protected, what somebody left is no context.
      expect((await verify({ ...options(), poolerUrl: pooler.urlOf(sound.appUrl), only })).findings).toEqual([]);
      await installRuntime(false);
      const report = await verify({ ...options(), poolerUrl: pooler.urlOf(sound.appUrl), only });
      expect(report.findings.map(({ rule, evidence }) => `${rule} ${evidence}`)).toEqual(['session.leftover-context through the pooler']);
      expect(report.checks.map((check) => `${check.surface} ${check.outcome}`)).toEqual(['direct pass', 'pooler fail']);
    } finally {
      await installRuntime(true);
      await pooler.stop();
    }
  });
});

/** A small database whose tenant key has the given type: people of tenants, and notes of people. */
function keyedDatabase(type: string, tenants: number, noteCheck = '', walled = true): Promise<{ model: TenancyModel; url: string; appUrl: string }> {
  const ids = type === 'uuid' ? "('00000000-0000-4000-8000-00000000000' || n)::uuid" : `n::text::${type}`;
  return walledFrom(
    `create table tenants (id ${type} primary key);
create table people (id bigint generated always as identity primary key, tenant ${type} not null references tenants, name text not null);
create table notes (id serial primary key, person bigint not null references people on delete cascade, body text not null${noteCheck === '' ? '' : `, ${noteCheck}`});
insert into tenants select ${ids} from generate_series(1, ${tenants}) n;
insert into people (tenant, name) select id, 'x' from tenants;`,
    {
      tenant: { table: 'tenants' },
      column: 'tenant',
      tables: { people: { scope: 'scoped', column: 'tenant' }, notes: { scope: 'scoped', through: { table: 'people', columns: 'person' } } },
    },
    walled,
  );
}

/** A database made by the owner's statements, and walled by the model. */
async function walledFrom(
  statements: string,
  config: Omit<TenancyConfig, 'roles'>,
  walled = true,
): Promise<{ model: TenancyModel; url: string; appUrl: string }> {
  const database = await createDatabase();
  const name = suffix();
  const roles = { owner: `own_${name}`, app: `app_${name}`, system: `sys_${name}`, service: `svc_${name}` };
  await database.query(`create role ${roles.owner} login; alter schema public owner to ${roles.owner}; set role ${roles.owner}`);
  await database.query(statements);
  await database.query('reset role');
  const model = parseModel({ ...config, roles });
  if (walled) {
    await applyWall({ url: database.url, model, phase: 'expand' });
    await applyWall({ url: database.url, model, phase: 'contract', skipGate: true });
  }
  return { model, url: database.url, appUrl: database.urlAs(roles.app) };
}

/** Every row, sequence, setting and privilege of a database, hashed by object. */
async function everything(url: string): Promise<Record<string, string>> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const tables = await client.query<{ name: string }>(
      "select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'm', 'S') and n.nspname !~ '^(pg_|information_schema)' order by 1",
    );
    const hashes: Record<string, string> = {};
    for (const { name } of tables.rows) {
      const { rows } = await client.query<{ hash: string }>(
        `select count(*) || coalesce(md5(string_agg(row(t.*)::text, '|' order by row(t.*)::text)), '') as hash from ${name} t`,
      );
      hashes[name] = rows[0]?.hash ?? '';
    }
    // Statistics and horizons of pg_class move by themselves.
    const shapes = {
      pg_class: 'row(oid, relname, relkind, relacl, relrowsecurity, relforcerowsecurity, relowner, relfilenode, relhastriggers, relhasrules)',
      ...Object.fromEntries(
        ['pg_proc', 'pg_policy', 'pg_trigger', 'pg_namespace', 'pg_constraint', 'pg_rewrite', 'pg_operator', 'pg_db_role_setting'].map((name) => [
          name,
          'row(t.*)',
        ]),
      ),
    };
    for (const [catalog, row] of Object.entries(shapes)) {
      const { rows } = await client.query<{ hash: string }>(`select md5(string_agg(${row}::text, '|' order by ${row}::text)) as hash from ${catalog} t`);
      hashes[catalog] = rows[0]?.hash ?? '';
    }
    return hashes;
  } finally {
    await client.end();
  }
}
