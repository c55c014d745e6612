import { describe, expect, test } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { PartywallError } from '../../src/errors.ts';
import { inferModel } from '../../src/model/infer.ts';
import { inferring, named, told } from './inferring.ts';

const { catalog, model } = await inferring();

/** A root with two tables that hold its key. */
function holders(root: string, column: string, type = 'uuid'): string {
  return `create table ${root} (id ${type} primary key);
    create table a (id ${type} primary key, ${column} ${type} not null references ${root});
    create table b (id ${type} primary key, ${column} ${type} not null references ${root});`;
}

describe('the tenant root', () => {
  test.each([
    ['tenants', 'tenant_id'],
    ['"Tenant"', '"tenantId"'],
    ['organizations', 'organization_id'],
    ['organisations', 'organisation_id'],
    ['orgs', 'org_id'],
    ['"Workspace"', '"workspaceId"'],
    ['companies', 'company_id'],
    ['accounts', 'account_id'],
    ['teams', 'team_id'],
    ['"TENANTS"', '"TENANT_ID"'],
  ])('is found in %s, whose key is held by %s', async (root, column) => {
    const inferred = await model(holders(root, column));
    expect(inferred.model.tenant).toMatchObject({ table: named(`public.${root}`), key: 'id' });
    expect(told(inferred, 'a')).toBe(`scoped by ${column.replaceAll('"', '')}`);
  });

  test('is found without a single foreign key, by columns named after it', async () => {
    const inferred = await model(
      'create table tenants (id uuid primary key); create table a (id uuid, tenant_id uuid not null); create table b ("tenantId" uuid)',
    );
    expect(inferred.model.tenant.table).toBe('public.tenants');
    expect(told(inferred, 'a')).toBe('scoped by tenant_id');
    expect(told(inferred, 'b')).toBe('scoped by tenantId');
  });

  test('is the table above others of such names: projects of an organization are its rows', async () => {
    const inferred = await model(`create table organizations (id uuid primary key);
      create table projects (id uuid primary key, organization_id uuid not null references organizations);
      create table teams (id uuid primary key, organization_id uuid not null references organizations);
      create table tasks (id uuid primary key, project_id uuid not null references projects, team_id uuid not null references teams);
      create table notes (id uuid primary key, project_id uuid not null references projects, team_id uuid references teams)`);
    expect(inferred.model.tenant.table).toBe('public.organizations');
  });

  test('has the key that foreign keys reference, not always the primary one', async () => {
    const inferred = await model(`create table tenants (record_id bigint primary key, code text not null unique);
      create table a (id int primary key, tenant_code text not null references tenants (code)); create table b (id int primary key, tenant_code text not null references tenants (code))`);
    expect(inferred.model.tenant.key).toBe('code');
    expect(told(inferred, 'a')).toBe('scoped by tenant_code');
  });

  test('is not a table of people, nor of their sign-in accounts', async () => {
    const inferred = await model(`create table users (id uuid primary key, email text not null unique);
      create table accounts (id uuid primary key, user_id uuid not null references users, provider text not null, access_token text);
      create table teams (id uuid primary key);
      create table members (team_id uuid not null references teams, user_id uuid not null references users, primary key (team_id, user_id));
      create table posts (id uuid primary key, team_id uuid not null references teams, author_id uuid references users);
      create table likes (id uuid primary key, post_id uuid not null references posts, user_id uuid not null references users)`);
    expect(inferred.model.tenant.table).toBe('public.teams');
  });

  test('is the one that is asked for', async () => {
    const inferred = await model(holders('clinics', 'clinic_id'), { root: named('clinics') });
    expect(inferred.model.tenant.table).toBe('public.clinics');
    expect(told(inferred, 'b')).toBe('scoped by clinic_id');
  });

  test('is left to a person where two tables are as likely, and both are named', async () => {
    const given = await catalog(`create table companies (id uuid primary key); create table accounts (id uuid primary key);
      create table a (id uuid, company_id uuid not null references companies); create table b (id uuid, company_id uuid not null references companies);
      create table c (id uuid, account_id uuid not null references accounts); create table d (id uuid, account_id uuid not null references accounts)`);
    const error = refusal(given);
    expect(error.code).toBe('root_undecided');
    expect(error.message).toContain('public.companies, public.accounts');
    expect(error.hint).toContain('--root public.companies');
    expect(error.details).toEqual(['public.companies: 2 tables refer to it', 'public.accounts: 2 tables refer to it']);
  });

  test('is left to a person where only a word of many meanings speaks for it', async () => {
    const error = refusal(await catalog(holders('projects', 'project_id')));
    expect(error.code).toBe('root_undecided');
    expect(error.message).toContain('public.projects');
  });

  test('is missing in a database of one tenant, and the error says how to begin', async () => {
    const error = refusal(await catalog('create table lessons (id int primary key); create table students (id int primary key)'));
    expect(error.code).toBe('root_undecided');
    expect(error.message).toContain('no table looks like the tenants');
    expect(error.hint).toContain('--bootstrap');
  });

  test.each([
    ['public.nothing', 'there is no such table'],
    ['public.shown', 'it is a view'],
    ['public.keyless', 'it has no key of one column'],
  ])('cannot be %s', async (root, reason) => {
    const given = await catalog('create table keyless (a int); create view shown as select 1 as id');
    const error = refusal(given, root);
    expect(error.code).toBe('model_invalid');
    expect(error.message).toContain(reason);
  });
});

describe('the status of a tenant', () => {
  test('is read from the values that a check lists', async () => {
    const inferred =
      await model(`create table tenants (id uuid primary key, status text not null check (status in ('active', 'suspended', 'it''s closed', 'cancelled')));
      create table a (tenant_id uuid references tenants)`);
    expect(inferred.model.tenant.status).toEqual({ column: 'status', values: { suspended: 'suspended', cancelled: 'cancelled' } });
  });

  test('is read from the labels of an enum type, in the spelling of the application', async () => {
    const inferred = await model(`create type tenant_state as enum ('ACTIVE', 'READ_ONLY', 'Blocked');
      create table tenants (id uuid primary key, "State" tenant_state not null); create table a (tenant_id uuid references tenants)`);
    expect(inferred.model.tenant.status).toEqual({ column: 'State', values: { READ_ONLY: 'read_only', Blocked: 'suspended' } });
  });

  test('is read from a flag', async () => {
    const inferred = await model(
      'create table tenants (id uuid primary key, is_suspended boolean not null); create table a (tenant_id uuid references tenants)',
    );
    expect(inferred.model.tenant.status).toEqual({ column: 'is_suspended', values: { true: 'suspended' } });
  });

  test('is not read from a state of the union', async () => {
    const inferred = await model('create table tenants (id uuid primary key, state text); create table a (tenant_id uuid references tenants)');
    expect(inferred.model.tenant.status).toBeUndefined();
  });
});

function refusal(given: Catalog, root?: string): PartywallError {
  try {
    inferModel(given, root === undefined ? {} : { root: named(root) });
  } catch (error) {
    if (error instanceof PartywallError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
