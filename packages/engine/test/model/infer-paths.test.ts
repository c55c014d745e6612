import { describe, expect, test } from 'vitest';
import { derivationOrder, parseModel } from '../../src/model/model.ts';
import { inferring, ruleOf, told } from './inferring.ts';

const { model } = await inferring();

const tenants = 'create table tenants (id uuid primary key); create table customers (id uuid primary key, tenant_id uuid not null references tenants);';
const why = (inferred: Awaited<ReturnType<typeof model>>, table: string) => ruleOf(inferred, table).why ?? '';

describe('a table with a tenant column', () => {
  test('is scoped by it, with or without a foreign key', async () => {
    const inferred = await model(`${tenants} create table logs (id int, "tenantId" uuid not null)`);
    expect(told(inferred, 'customers')).toBe('scoped by tenant_id');
    expect(told(inferred, 'logs')).toBe('scoped by tenantId');
    expect(why(inferred, 'logs')).toContain('no foreign key holds it');
  });

  test('is told when the column may be null', async () => {
    const inferred = await model(`${tenants} create table templates (id int, tenant_id uuid references tenants)`);
    expect(told(inferred, 'templates')).toBe('scoped by tenant_id');
    expect(why(inferred, 'templates')).toContain('may be null');
  });

  test('is left to a person when the column has another type than the key', async () => {
    const inferred = await model(`${tenants} create table imports (id int, tenant_id text not null)`);
    expect(told(inferred, 'imports')).toBe('unclassified');
    expect(why(inferred, 'imports')).toContain('type text where public.tenants has uuid');
  });

  test('is scoped by it although the column is called differently, as long as it alone refers to the root', async () => {
    const inferred = await model(
      `${tenants} create table invoices (id int, billed_org uuid not null references tenants); create table transfers (id int, payer uuid not null references tenants, payee uuid not null references tenants)`,
    );
    expect(told(inferred, 'invoices')).toBe('scoped by billed_org');
    expect(told(inferred, 'transfers')).toBe('unclassified');
    expect(ruleOf(inferred, 'transfers')).toMatchObject({
      candidates: expect.arrayContaining([expect.stringContaining("column: 'payer'"), expect.stringContaining("column: 'payee'")]),
    });
  });

  test('keeps it beside a second reference to a tenant, which is told', async () => {
    const inferred = await model(
      `${tenants} create table shares (id int, tenant_id uuid not null references tenants, partner_tenant_id uuid references tenants)`,
    );
    expect(told(inferred, 'shares')).toBe('scoped by tenant_id');
    expect(why(inferred, 'shares')).toContain('partner_tenant_id may name another tenant');
  });

  test('is not scoped by a pointer at the tenant one looked at last', async () => {
    const inferred = await model(`${tenants} create table preferences (id int primary key, theme text, current_tenant_id uuid references tenants)`);
    expect(told(inferred, 'preferences')).toBe('unclassified');
    expect(why(inferred, 'preferences')).toContain('does not say whose the row is');
    const always = await model(`${tenants} create table desks (id int primary key, current_tenant_id uuid not null references tenants)`);
    expect(told(always, 'desks')).toBe('scoped by current_tenant_id');
  });

  test('names it by the composite key to its parent', async () => {
    const inferred = await model(`${tenants} alter table customers add unique (tenant_id, id);
      create table contacts (id int primary key, owner uuid not null, customer uuid not null, foreign key (owner, customer) references customers (tenant_id, id));
      create table calls (id int primary key, contact int not null references contacts)`);
    expect(told(inferred, 'contacts')).toBe('scoped by owner');
    expect(told(inferred, 'calls')).toBe('scoped through public.contacts(contact)');
  });

  test('is another column than the one of a different table called tenant', async () => {
    const inferred = await model(
      `create table workspaces (id uuid primary key); create table tenants (id uuid primary key, workspace_id uuid not null references workspaces);
      create table flats (id int primary key, workspace_id uuid not null references workspaces); create table leases (id int primary key, tenant_id uuid not null references tenants);
      create table payments (id int primary key, workspace_id uuid not null references workspaces, tenant_id uuid not null references tenants)`,
      { root: 'public.workspaces' as never },
    );
    expect(told(inferred, 'leases')).toBe('scoped through public.tenants(tenant_id)');
    expect(told(inferred, 'payments')).toBe('scoped by workspace_id');
  });
});

describe('a table that reaches the tenant over foreign keys', () => {
  test('of any length goes through its parent', async () => {
    const links = Array.from(
      { length: 12 },
      (_, at) =>
        `create table link${at + 1} (id int primary key, up ${at === 0 ? 'uuid' : 'int'} not null references ${at === 0 ? 'customers' : `link${at}`});`,
    );
    const inferred = await model(`${tenants} ${links.join('\n')}`);
    expect(told(inferred, 'link1')).toBe('scoped through public.customers(up)');
    expect(told(inferred, 'link12')).toBe('scoped through public.link11(up)');
  });

  test('takes the way that is never null before a shorter one, and names the ways that may disagree', async () => {
    const inferred = await model(`${tenants} create table orders (id int primary key, customer_id uuid not null references customers);
      create table lines (id int primary key, customer_id uuid references customers, order_id int not null references orders)`);
    expect(told(inferred, 'lines')).toBe('scoped through public.orders(order_id)');
    expect(why(inferred, 'lines')).toContain('rows on which customer_id (public.customers) disagree are listed');
  });

  test('takes the shorter of two that are never null', async () => {
    const inferred = await model(`${tenants} create table orders (id int primary key, customer_id uuid not null references customers);
      create table notes (id int primary key, order_id int not null references orders, customer_id uuid not null references customers)`);
    expect(told(inferred, 'notes')).toBe('scoped through public.customers(customer_id)');
  });

  test('tries all ways that may be null, whoever acted last', async () => {
    const inferred = await model(`${tenants} create table users (id int primary key, email text, tenant_id uuid not null references tenants);
      create table deals (id int primary key, customer_id uuid not null references customers); create table contacts (id int primary key, customer_id uuid not null references customers);
      create table activities (id int primary key, created_by int references users, deal_id int references deals, contact_id int references contacts)`);
    expect(told(inferred, 'activities')).toBe('scoped through public.deals(deal_id), public.contacts(contact_id), public.users(created_by)');
    expect(why(inferred, 'activities')).toContain('may be missing');
  });

  test('over one nullable key says so', async () => {
    const inferred = await model(`${tenants} create table notes (id int primary key, customer_id uuid references customers)`);
    expect(told(inferred, 'notes')).toBe('scoped through public.customers(customer_id)');
    expect(why(inferred, 'notes')).toContain('may be missing');
  });

  test('takes a key that is not proven for old rows as one that may be null', async () => {
    const inferred = await model(`${tenants} create table orders (id int primary key, customer_id uuid not null references customers);
      create table notes (id int primary key, customer_id uuid not null, order_id int not null references orders); alter table notes add foreign key (customer_id) references customers not valid`);
    expect(told(inferred, 'notes')).toBe('scoped through public.orders(order_id)');
  });

  test('does not go through itself, nor in a circle', async () => {
    const inferred = await model(`${tenants}
      create table folders (id int primary key, parent_id int references folders, customer_id uuid not null references customers);
      create table alone (id int primary key, parent_id int references alone);
      create table chicken (id int primary key, customer_id uuid references customers); create table egg (id int primary key, chicken_id int references chicken);
      alter table chicken add egg_id int references egg`);
    expect(told(inferred, 'folders')).toBe('scoped through public.customers(customer_id)');
    expect(told(inferred, 'alone')).toBe('unclassified');
    expect(told(inferred, 'egg')).toBe('scoped through public.chicken(chicken_id)');
    expect(told(inferred, 'chicken')).toBe('scoped through public.customers(customer_id)');
    expect(() => derivationOrder(inferred.model)).not.toThrow();
  });

  test('over several columns goes through all of them', async () => {
    const inferred =
      await model(`${tenants} create table sites (region text, number int, customer_id uuid not null references customers, primary key (region, number));
      create table meters (id int primary key, site_region text not null, site_number int not null, foreign key (site_region, site_number) references sites)`);
    expect(told(inferred, 'meters')).toBe('scoped through public.sites(site_region,site_number = region,number)');
  });

  test('by another unique column than the key of the root goes through the root', async () => {
    const inferred = await model(
      'create table tenants (id uuid primary key, slug text unique); create table a (tenant_id uuid not null references tenants); create table pages (id int, site text not null references tenants (slug))',
    );
    expect(told(inferred, 'pages')).toBe('scoped through public.tenants(site = slug)');
  });

  test('of a many-to-many goes through the first of both', async () => {
    const inferred = await model(`${tenants} create table tags (id int primary key, tenant_id uuid not null references tenants);
      create table customer_tags (customer_id uuid references customers, tag_id int references tags, primary key (customer_id, tag_id));
      create table "_CustomerToTag" ("A" uuid not null references customers, "B" int not null references tags)`);
    expect(told(inferred, 'customer_tags')).toBe('scoped through public.customers(customer_id)');
    expect(told(inferred, '"_CustomerToTag"')).toBe('scoped through public.customers(A)');
  });

  test('in other schemas counts as in one', async () => {
    const inferred = await model(`create schema crm; create schema "Billing"; ${tenants}
      create table crm.deals (id int primary key, customer_id uuid not null references public.customers);
      create table "Billing"."Invoices" (id int primary key, deal int not null references crm.deals)`);
    expect(told(inferred, '"Billing"."Invoices"')).toBe('scoped through crm.deals(deal)');
    expect(inferred.model.schemas).toEqual(['public', 'Billing', 'crm']);
  });

  test('that are not there is scoped by names only where a wrong match is out of the question', async () => {
    const inferred = await model(`${tenants} create table orders (id bigint primary key, tenant_id uuid not null);
      create table contacts (id uuid primary key, customer_id uuid not null); create table lines (id int primary key, order_id bigint not null)`);
    expect(told(inferred, 'contacts')).toBe('scoped through public.customers(customer_id)');
    expect(why(inferred, 'contacts')).toContain('no foreign key holds');
    expect(told(inferred, 'lines')).toBe('unclassified');
    expect(why(inferred, 'lines')).toContain('small numbers match any table');
  });

  test('takes the tenant of the one row that refers to it where its own ways may be null', async () => {
    const inferred = await model(`${tenants} create table mails (id int primary key, customer_id uuid not null references customers);
      create table settings (id int primary key, mail_id int references mails); alter table tenants add settings_id int unique references settings`);
    expect(told(inferred, 'settings')).toBe('scoped through public.mails(mail_id), public.tenants(id = settings_id)');
  });

  test('in a column that both may be: of a group or of a project', async () => {
    const inferred = await model(`${tenants} create table projects (id int primary key, tenant_id uuid not null references tenants);
      create table labels (id int primary key, group_id uuid references tenants, project_id int references projects)`);
    expect(told(inferred, 'labels')).toBe('scoped through public.tenants(group_id), public.projects(project_id)');
  });
});

describe('partitions and children', () => {
  test('follow their parent and are not listed', async () => {
    const inferred = await model(`${tenants}
      create table events (at date not null, customer_id uuid not null references customers) partition by range (at);
      create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01') partition by range (at);
      create table events_2026_01 partition of events_2026 for values from ('2026-01-01') to ('2026-02-01');
      create table people (id int primary key, customer_id uuid not null references customers); create table staff (badge text) inherits (people);
      create table visits (id int primary key, at date, constraint v foreign key (id) references people)`);
    expect([...inferred.model.tables.keys()].filter((table) => /events_|staff/.test(table))).toEqual([]);
    expect(told(inferred, 'events')).toBe('scoped through public.customers(customer_id)');
    expect(told(inferred, 'people')).toBe('scoped through public.customers(customer_id)');
  });

  test('make their parent a question when only they name a tenant', async () => {
    const inferred = await model(
      `${tenants} create table currencies (code text primary key); create table local_currencies (customer_id uuid references customers) inherits (currencies)`,
    );
    expect(told(inferred, 'currencies')).toBe('unclassified');
    expect(why(inferred, 'currencies')).toContain('its child public.local_currencies names a tenant');
  });
});

test('the names that no other table has are given to columns that are added', async () => {
  expect(
    (
      await model(
        'create table organizations (id uuid primary key); create table a (id uuid primary key, organization_id uuid references organizations); create table b (a_id uuid not null references a)',
      )
    ).model.column,
  ).toBe('tenant_id');
  const taken = await model(`${tenants} create table notes (customer_id uuid not null references customers)`);
  expect(taken.model.column).toBe('partywall_tenant_id');
  expect(taken.why.column).toContain('ambiguous');
});

test('a model that was inferred reads back as a config would be', async () => {
  const inferred = await model(`${tenants} create table notes (customer_id uuid not null references customers)`);
  const again = parseModel({
    tenant: { table: inferred.model.tenant.table, key: inferred.model.tenant.key },
    column: inferred.model.column,
    roles: inferred.model.roles,
    tables: {
      'public.customers': { scope: 'scoped', column: 'tenant_id' },
      'public.notes': { scope: 'scoped', through: { table: 'public.customers', columns: 'customer_id' } },
    },
  });
  expect([...again.tables.keys()]).toEqual([...inferred.model.tables.keys()]);
});
