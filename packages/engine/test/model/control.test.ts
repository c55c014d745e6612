import { expect, test } from 'vitest';
import { createDatabase } from '../../../../test/support/database.ts';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { connect } from '../../src/db/connect.ts';
import { checkModel, describeDifference } from '../../src/model/check.ts';
import { inferModel } from '../../src/model/infer.ts';
import { parseModel } from '../../src/model/model.ts';
import { renderConfig } from '../../src/model/render-config.ts';

const database = await createDatabase();
await database.query(`
create table organizations (id bigint primary key generated always as identity, "Display_Name" text, slug varchar(80), tier text, billing_email text);
create table org_users (id bigint primary key generated always as identity, organization_id bigint not null references organizations,
  "emailAddress" text not null, full_name text, role text not null check (role in ('owner', 'viewer')));
create table attachments (id uuid primary key, organization_id bigint not null references organizations, "fileSize" integer not null);
create table invoices (id uuid primary key, organization_id bigint not null references organizations, size text)`);

async function inferred() {
  const client = await connect(database.url, { purpose: 'test' });
  return readCatalog(client)
    .then((catalog) => inferModel(catalog))
    .finally(() => client.end());
}

test('profile, people and quotas come from the names of columns, in whatever case', async () => {
  const { model } = await inferred();
  expect(model.tenant.profile).toEqual({ name: 'Display_Name', slug: 'slug', plan: 'tier', contactEmail: 'billing_email' });
  expect(model.people).toEqual({
    table: 'public.org_users',
    email: 'emailAddress',
    name: 'full_name',
    role: { column: 'role', admin: 'owner', member: 'viewer' },
  });
  expect([...model.quotas]).toEqual([
    ['users', { kind: 'rows', table: 'public.org_users' }],
    ['storage', { kind: 'bytes', tables: new Map([['public.attachments', 'fileSize']]) }],
  ]);
});

test('what is written to the config reads back as it was inferred', async () => {
  const found = await inferred();
  const text = renderConfig(found);
  const written = /defineTenancy\((?<config>[\s\S]*)\);/.exec(text)?.groups?.['config'] ?? '';
  const { tenant, people, quotas } = parseModel(new Function(`return ${written}`)());
  expect({ profile: tenant.profile, people, quotas }).toEqual({
    profile: found.model.tenant.profile,
    people: found.model.people,
    quotas: found.model.quotas,
  });
});

test('check names the columns that are no longer there', async () => {
  const { model } = await inferred();
  const client = await connect(database.url, { purpose: 'test' });
  try {
    const catalog = await readCatalog(client);
    const drifted = { ...model, tenant: { ...model.tenant, profile: { plan: 'price' } }, people: model.people && { ...model.people, email: 'mail' } };
    expect(checkModel(model, catalog).filter(({ severity }) => severity === 'error')).toEqual([]);
    expect(checkModel(drifted, catalog).map(describeDifference)).toEqual([
      'public.org_users has no column mail, which the model names as people.email',
      'public.organizations has no column price, which the model names as tenant.profile.plan',
    ]);
  } finally {
    await client.end();
  }
});

const minimal = {
  tenant: { table: 'public.tenants' },
  roles: { owner: 'a', app: 'b', system: 'c', service: 'd' },
  tables: { 'public.users': { scope: 'scoped', column: 'tenant_id' }, 'public.countries': { scope: 'shared' } },
};

test.each([
  [{ quotas: { countries: { rows: 'public.countries' } } }, 'quotas.countries names public.countries, which is not a scoped table'],
  [{ quotas: { storage: { bytes: { 'public.nowhere': '*' } } } }, 'quotas.storage names public.nowhere, which is not a scoped table'],
  [{ people: { table: 'public.people', email: 'email' } }, 'people names public.people, which is not a scoped table'],
  [{ quotas: { api_calls: { rows: 'public.users' } } }, 'api_calls is counted by Partywall itself'],
  [{ quotas: { 'a b': { rows: 'public.users' } } }, 'lower-case letters, digits and _'],
  [{ quotas: { both: { rows: 'public.users', bytes: {} } } }, 'names either rows or bytes'],
  [{ quotas: { storage: { bytes: { 'no"name': '*' } } } }, 'not a table name'],
])('a control part that names no scoped table, or no quota, is refused', (changes, message) => {
  expect(() => parseModel({ ...minimal, ...changes })).toThrow(message);
});
