import { beforeAll, describe, expect, test } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { PartywallError } from '../../src/errors.ts';
import { assertModelComplete, checkModel, describeDifference } from '../../src/model/check.ts';
import type { DifferenceKind } from '../../src/model/difference.ts';
import { parseModel, type TenancyConfig, type TenancyModel } from '../../src/model/model.ts';
import { inferring, named } from './inferring.ts';

const { catalog, read, database } = await inferring();

const schema = `create table tenants (id uuid primary key, status text);
  create table customers (id uuid primary key, tenant_id uuid not null references tenants, reference text constraint customers_reference unique);
  create table contacts (id int primary key, customer_id uuid not null references customers);
  create table countries (code text primary key); create table users (id int primary key, email text); create table schema_migrations (version text);
  create view overview as select * from customers`;

const config = {
  tenant: { table: 'tenants', status: { column: 'status', values: { gone: 'cancelled' } } },
  roles: { owner: 'postgres', app: 'shop_app', system: 'shop_system', service: 'shop_service' },
  tables: {
    customers: { scope: 'scoped', column: 'tenant_id', uniques: { customers_reference: 'per tenant' } },
    contacts: { scope: 'scoped', through: { table: 'customers', columns: 'customer_id' } },
    countries: { scope: 'shared' },
    users: { scope: 'platform', access: 'write' },
    schema_migrations: { scope: 'platform' },
  },
} satisfies TenancyConfig;

const model = parseModel(config);

/** The model with other lines for some tables. */
function modelWith(tables: TenancyConfig['tables'], rest: Partial<TenancyConfig> = {}): TenancyModel {
  return parseModel({ ...config, ...rest, tables: { ...config.tables, ...tables } });
}

function told(given: TenancyModel, against: Catalog): string[] {
  return checkModel(given, against).map((difference) => `${difference.severity} ${difference.kind}: ${describeDifference(difference)}`);
}

let sound: Catalog;
beforeAll(async () => {
  sound = await catalog(schema);
});

test('a model and a database that agree differ in nothing', () => {
  expect(checkModel(model, sound)).toEqual([]);
  expect(() => assertModelComplete(model, sound)).not.toThrow();
});

describe('what the database has and the model does not', () => {
  const cases: [string, string, string[]][] = [
    ['a table', 'create table invoices (id int)', ['error unknown: public.invoices is not in the model']],
    [
      'a foreign table',
      'create extension if not exists postgres_fdw schema public; create server if not exists far foreign data wrapper postgres_fdw; create foreign table remote (id int) server far',
      ['error unknown: public.remote is not in the model'],
    ],
    ['a materialised view', 'create materialized view totals as select count(*) from customers', ['error unknown: public.totals is not in the model']],
    [
      'a table of another schema with a key to a tenant',
      'create schema crm; create table crm.deals (customer_id uuid references public.customers)',
      ['error outside: crm.deals is in schema crm, which the model does not name, but deals_customer_id_fkey refers to public.customers'],
    ],
    [
      'a table of another schema with a column like one',
      'create schema crm; create table crm.deals ("tenantId" uuid)',
      ['error outside: crm.deals is in schema crm, which the model does not name, but its column tenantId is named like a tenant column'],
    ],
  ];
  test.each(cases)('%s is named', async (_case, sql, expected) => {
    expect(told(model, await catalog(`${schema}; ${sql}`))).toEqual(expected);
  });

  test.each([
    [
      'a partition',
      'drop table countries; create table countries (code text primary key) partition by list (code); create table countries_eu partition of countries default',
    ],
    ['a child', 'create table more_countries (note text) inherits (countries)'],
    ['a view', 'create view more as select 1'],
    [
      'a table of an extension',
      'create extension pg_stat_statements schema public; create table owned (id int); alter extension pg_stat_statements add table owned',
    ],
    ['a table of another schema without a tenant', 'create schema other; create table other.things (id int)'],
  ])('%s needs no line', async (_case, sql) => {
    expect(told(model, await catalog(`${schema}; ${sql}`))).toEqual([]);
  });
});

describe('what the model has and the database does not', () => {
  const cases: [string, string, string[]][] = [
    ['a table', 'drop table countries', [`error vanished: public.countries is shared in the model but not in the database DATABASE`]],
    ['the root', 'drop table tenants cascade', ['error vanished: public.tenants is the tenant root but not in the database DATABASE']],
    ['the key of the root', 'alter table tenants rename id to key', ['error changed: public.tenants has no column id, which the model names as its key']],
    [
      'a unique key of the root',
      'alter table tenants drop constraint tenants_pkey cascade',
      ['error changed: public.tenants does not keep id unique, so it cannot be the tenant key'],
    ],
    ['the status of the root', 'alter table tenants drop status', ['error changed: public.tenants has no column status, which the model names as its status']],
    [
      'a tenant column',
      'alter table customers drop tenant_id cascade',
      ['error changed: public.customers expected column tenant_id is not there: the migration that adds it has not run on database DATABASE'],
    ],
    [
      'a column of a path',
      'alter table contacts drop customer_id',
      [
        'error changed: public.contacts expected column customer_id is not there: the way through public.customers needs it; its migration has not run on database DATABASE',
      ],
    ],
    [
      'a column that a path references',
      'alter table customers rename id to key',
      ['error changed: public.contacts goes through public.customers, which has no column id'],
    ],
    [
      'the parent of a path',
      'drop table customers cascade',
      [
        'error changed: public.contacts goes through public.customers, which is not in the database DATABASE',
        'error vanished: public.customers is scoped in the model but not in the database DATABASE',
      ],
    ],
    [
      'a unique constraint',
      'alter table customers drop constraint customers_reference',
      ['error changed: public.customers has no unique constraint or index customers_reference, which the model names'],
    ],
    [
      'a foreign key under a path',
      'alter table contacts drop constraint contacts_customer_id_fkey',
      ['warning changed: public.contacts goes through public.customers by customer_id, which no foreign key holds'],
    ],
  ];
  test.each(cases)('%s is named', async (_case, sql, expected) => {
    expect(told(model, await catalog(`${schema}; ${sql}`))).toEqual(expected.map((line) => line.replace('DATABASE', database.name)));
  });

  test('a whole schema is named as such', () => {
    const [difference] = checkModel(modelWith({ 'crm.deals': { scope: 'platform' } }), sound);
    expect(difference?.message).toContain('which has no schema crm at all');
  });
});

describe('what is there but not as the model says', () => {
  const cases: [string, string, string[]][] = [
    [
      'a tenant column of another type',
      'drop view overview; alter table customers drop constraint customers_tenant_id_fkey, alter tenant_id type text',
      ['error changed: public.customers has tenant_id of type text, the tenant key is uuid'],
    ],
    [
      'a shared table with a key to a tenant',
      'alter table countries add by uuid references customers',
      ["error hole: public.countries is shared, but countries_by_fkey refers to public.customers, which is a tenant's"],
    ],
    [
      'a shared table with a column like a tenant column',
      'alter table countries add "tenantId" text',
      ['error hole: public.countries is shared, but its column tenantId is named like a tenant column'],
    ],
    [
      'a shared table with a child that names a tenant',
      'create table local (tenant_id uuid) inherits (countries)',
      ['error hole: public.countries is shared, but its child public.local names a tenant'],
    ],
    [
      'a platform table that the application reads and that refers to a tenant',
      'alter table users add picked uuid references customers',
      ["warning hole: public.users is the platform's and open to the application, but users_picked_fkey refers to public.customers, which is a tenant's"],
    ],
    [
      'a view under the name of a table',
      'drop table countries; create view countries as select 1',
      ['error changed: public.countries is a view, and views follow what they read'],
    ],
    [
      'a materialised view under the name of a scoped table',
      'drop table contacts; create materialized view contacts as select id as customer_id from customers',
      ['error changed: public.contacts is a materialised view, which cannot hold a wall'],
    ],
    [
      'a table that an extension took',
      'create extension pg_stat_statements schema public; alter extension pg_stat_statements add table countries',
      ['error changed: public.countries belongs to the extension pg_stat_statements'],
    ],
    [
      'a column that the model would add',
      'alter table contacts add tenant_id uuid',
      ['error changed: public.contacts has a column tenant_id already, which the model would add'],
    ],
    [
      'a path whose columns refer elsewhere',
      'create table firms (id uuid primary key); alter table contacts drop constraint contacts_customer_id_fkey, add foreign key (customer_id) references firms',
      [
        'error changed: public.contacts goes through public.customers, but by contacts_customer_id_fkey the same columns refer to public.firms',
        'error unknown: public.firms is not in the model',
      ],
    ],
    [
      'a path over columns of different types',
      'alter table contacts drop constraint contacts_customer_id_fkey, alter customer_id type text',
      ['error changed: public.contacts goes through public.customers by customer_id, whose type does not match'],
    ],
  ];
  test.each(cases)('%s is named', async (_case, sql, expected) => {
    expect(told(model, await catalog(`${schema}; ${sql}`))).toEqual(expected);
  });

  test('another owner of a scoped table is a warning', async () => {
    const other = parseModel({ ...config, roles: { ...config.roles, owner: 'nobody_else' } });
    expect(told(other, sound)).toEqual(
      ['contacts', 'customers', 'tenants'].map((table) => `warning changed: public.${table} is owned by postgres, not by nobody_else`),
    );
  });

  test('an unclassified table stays an error until a person has answered, and the hint has the answers', () => {
    const [difference, ...more] = checkModel(modelWith({ users: { scope: 'unclassified', candidates: ['platform', 'scoped'], why: 'who knows' } }), sound);
    expect(more).toEqual([]);
    expect(difference).toMatchObject({
      kind: 'unclassified',
      severity: 'error',
      message: 'is unclassified: who knows',
      hint: expect.stringContaining('platform | scoped'),
    });
  });

  test('a tenant column that may be null again after contract is an error', async () => {
    await catalog(schema);
    await database.query(
      `create schema partywall; create table partywall.facts (name text primary key, value jsonb); insert into partywall.facts values ('phase', '"contract"'); alter table customers alter tenant_id drop not null`,
    );
    expect(told(model, await read())).toEqual([
      'error changed: public.contacts expected column tenant_id is not there: Partywall had added it; run `partywall apply` again',
      'error changed: public.customers allows null in its tenant column tenant_id again',
    ]);
    await database.query('drop schema partywall cascade');
  });

  test('a path against the foreign key is held by it', async () => {
    const given = await catalog(`${schema}; create table settings (id int primary key); alter table customers add settings_id int references settings`);
    expect(told(modelWith({ settings: { scope: 'scoped', through: { table: 'customers', columns: 'id', references: 'settings_id' } } }), given)).toEqual([]);
  });
});

describe('a migration that changed nothing', () => {
  test('is named by what was expected of it, and by the database it has not reached', () => {
    const expected = [{ table: named('customers'), columns: ['tenant_id', 'organization_id'] }, { table: named('lessons') }];
    const differences = checkModel(model, sound, { expected });
    expect(differences.map(describeDifference)).toEqual([
      `public.customers expected column organization_id is not there: the migration that adds it has not run on database ${database.name}`,
      `public.lessons expected table is not there: the migration that adds it has not run on database ${database.name}`,
    ]);
    expect(differences.every(({ kind, hint }) => kind === 'expected' && hint.includes('working directory and migration journal'))).toBe(true);
  });
});

describe('start-up', () => {
  const refusal = (given: TenancyModel, against: Catalog): PartywallError => {
    try {
      assertModelComplete(given, against);
    } catch (error) {
      if (error instanceof PartywallError) return error;
      throw error;
    }
    throw new Error('nothing was refused');
  };

  test('fails on a table that the model does not know, naming each', async () => {
    const error = refusal(model, await catalog(`${schema}; create table invoices (id int); create table leads (id int)`));
    expect(error.code).toBe('model_unclassified');
    expect(error.message).toBe(`comparing the tenancy model with ${database.name}: public.invoices is not in the model and 1 more`);
    expect(error.details).toEqual(['public.invoices is not in the model', 'public.leads is not in the model']);
  });

  test('fails on a table that is unclassified', () => {
    expect(refusal(modelWith({ users: { scope: 'unclassified' } }), sound).code).toBe('model_unclassified');
  });

  test('fails on drift', async () => {
    expect(refusal(model, await catalog(`${schema}; drop table countries`)).code).toBe('model_drift');
  });

  test('goes on with warnings', async () => {
    const given = await catalog(`${schema}; alter table users add picked uuid references customers`);
    expect(() => assertModelComplete(model, given)).not.toThrow();
  });
});

test('differences come errors first, then by table, whatever the order of the model', async () => {
  const given = await catalog(
    `${schema}; drop table countries; create table zoo (id int); create table apples (id int); alter table users add picked uuid references customers`,
  );
  const reversed: TenancyModel = { ...model, tables: new Map([...model.tables].reverse()) };
  const kinds: DifferenceKind[] = checkModel(model, given).map(({ kind }) => kind);
  expect(kinds).toEqual(['unknown', 'vanished', 'unknown', 'hole']);
  expect(checkModel(reversed, given)).toEqual(checkModel(model, given));
});
