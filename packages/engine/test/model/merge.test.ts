import { describe, expect, test } from 'vitest';
import { checkModel } from '../../src/model/check.ts';
import { modelFingerprint } from '../../src/model/fingerprint.ts';
import { updateModel } from '../../src/model/merge.ts';
import { parseModel, type TenancyConfig } from '../../src/model/model.ts';
import { renderConfig } from '../../src/model/render-config.ts';
import { inferring, named } from './inferring.ts';

const { catalog, model } = await inferring();

const schema = `create table organizations (id uuid primary key); create table customers (id uuid primary key, organization_id uuid not null references organizations, code text constraint code unique);
  create table settings (id int primary key, theme text); create table setting_values (id int primary key, settings_id int not null references settings);
  create table orders (id int primary key, customer_id uuid not null references customers, settings_id int references settings);`;

const written: TenancyConfig = {
  tenant: { table: 'organizations', why: 'asked the founders' },
  column: 'org',
  roles: { owner: 'me', app: 'a', system: 's', service: 'v' },
  tables: {
    customers: { scope: 'scoped', column: 'organization_id', uniques: { code: 'global' }, why: 'mine' },
    orders: { scope: 'scoped', through: { table: 'customers', columns: 'customer_id' } },
    settings: { scope: 'scoped', through: { table: 'orders', columns: 'id', references: 'settings_id' }, why: 'an order owns its settings' },
    setting_values: { scope: 'unclassified' },
    dropped: { scope: 'shared', why: 'still in the other database' },
  },
  waivers: [{ rule: 'view.owner-rights', target: 'public.v', reason: 'report', until: '2027-01-01' }],
};

describe('an update', () => {
  test('keeps every line that a person wrote', async () => {
    const existing = parseModel(written);
    const { inferred, vanished } = updateModel(await catalog(schema), existing);
    const { tables, ...rest } = inferred.model;
    const { tables: before, ...restBefore } = existing;
    expect(rest).toEqual(restBefore);
    for (const table of ['customers', 'orders', 'settings', 'dropped'].map(named)) expect(tables.get(table)).toEqual(before.get(table));
    expect(vanished).toEqual(['public.dropped']);
  });

  test('takes its answers as facts: what was open and now leads to a tenant is scoped', async () => {
    const { inferred, decided } = updateModel(await catalog(schema), parseModel(written));
    expect(decided).toEqual(['public.setting_values']);
    expect(inferred.model.tables.get(named('setting_values'))).toMatchObject({ scope: 'scoped', column: 'org', paths: [{ table: 'public.settings' }] });
  });

  test('adds tables, schemas and unique constraints that are new, and marks new and vanished lines', async () => {
    const given = await catalog(`${schema} create schema crm; create table crm.deals (id int primary key, customer_id uuid not null references customers);
      alter table customers add reference text constraint reference unique; create table countries (code text primary key)`);
    const { inferred, added, vanished } = updateModel(given, parseModel(written));
    expect(added).toEqual(['crm.deals', 'public.countries']);
    expect(inferred.model.schemas).toEqual(['public', 'crm']);
    const customers = inferred.model.tables.get(named('customers'));
    expect(customers?.scope === 'scoped' && [...customers.uniques]).toEqual(
      expect.arrayContaining([
        ['code', 'global'],
        ['reference', 'per tenant'],
      ]),
    );
    const text = renderConfig(inferred, { added: new Set(added), vanished: new Set(vanished), database: given.database });
    expect(text).toMatch(/new since this file was written\n {4}'crm\.deals'/);
    expect(text).toMatch(new RegExp(`vanished: there is no public\\.dropped in ${given.database}[^\\n]*\\n {4}'public\\.dropped'`));
    expect(checkModel(inferred.model, given).filter(({ kind, severity }) => severity === 'error' && kind !== 'vanished')).toEqual([]);
  });

  test('takes a new table that carries the added column, or a key with it, as it is', async () => {
    const given = await catalog(`${schema} alter table orders add org uuid not null references organizations; alter table orders add unique (org, id);
      create table parcels (id int primary key, org uuid not null); create table labels (id int primary key, owner uuid not null, order_id int not null, foreign key (owner, order_id) references orders (org, id))`);
    const { inferred } = updateModel(given, parseModel(written));
    expect(inferred.model.tables.get(named('parcels'))).toMatchObject({ scope: 'scoped', column: 'org', added: false });
    expect(inferred.model.tables.get(named('labels'))).toMatchObject({ scope: 'scoped', column: 'owner', added: false });
  });

  test('of a model that was inferred changes nothing', async () => {
    const first = await model(schema);
    const given = await catalog(schema);
    const again = updateModel(given, first.model);
    expect(renderConfig({ ...again.inferred, why: first.why, uniqueWhy: first.uniqueWhy })).toBe(renderConfig(first));
    expect(again).toMatchObject({ added: [], decided: [], vanished: [] });
  });
});

describe('the fingerprint of a model', () => {
  const existing = parseModel(written);
  const of = (config: TenancyConfig) => modelFingerprint(parseModel(config));

  test('is the same in whatever order the lines are, and whatever the reasons', () => {
    const reordered: TenancyConfig = {
      ...written,
      tenant: { table: 'organizations' },
      waivers: [],
      tables: Object.fromEntries(
        Object.entries(written.tables)
          .reverse()
          .map(([table, rule]) => [table, { ...rule, why: 'else' }]),
      ),
    };
    expect(of(reordered)).toBe(modelFingerprint(existing));
  });

  test.each<[string, Partial<TenancyConfig>]>([
    ['the root', { tenant: { table: 'customers2' } }],
    ['the key', { tenant: { table: 'organizations', key: 'code' } }],
    ['the added column', { column: 'tenant' }],
    ['a role', { roles: { owner: 'me', app: 'b', system: 's', service: 'v' } }],
    ['the schemas', { schemas: ['public', 'crm'] }],
    ['the bootstrap tenant', { bootstrap: 'x' }],
    ['a scope', { tables: { ...written.tables, dropped: { scope: 'platform' } } }],
    ['a path', { tables: { ...written.tables, orders: { scope: 'scoped', through: { table: 'customers', columns: 'other_id' } } } }],
    ['a unique', { tables: { ...written.tables, customers: { scope: 'scoped', column: 'organization_id', uniques: { code: 'per tenant' } } } }],
  ])('changes with %s', (_what, change) => {
    expect(of({ ...written, ...change })).not.toBe(modelFingerprint(existing));
  });
});
