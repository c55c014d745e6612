import { describe, expect, test } from 'vitest';
import { PartywallError } from '../../src/errors.ts';
import { derivationOrder, parseModel, type TenancyConfig } from '../../src/model/model.ts';
import { named } from './inferring.ts';

const roles = { owner: 'o', app: 'a', system: 's', service: 'v' };
const config: TenancyConfig = {
  tenant: { table: 'tenants' },
  roles,
  tables: {
    'crm.notes': {
      scope: 'scoped',
      through: [
        { table: 'crm.deals', columns: 'deal_id' },
        { table: 'customers', columns: ['a', 'b'], references: ['x', 'y'] },
      ],
    },
    'crm.deals': { scope: 'scoped', through: { table: 'customers', columns: 'customer_id' } },
    customers: { scope: 'scoped', column: 'tenantId' },
    countries: { scope: 'shared' },
    '"order"': { scope: 'platform' },
  },
};

describe('a config', () => {
  test('is parsed into a model with its defaults', () => {
    const model = parseModel(config);
    expect(model).toMatchObject({
      tenant: { table: 'public.tenants', key: 'id' },
      column: 'tenant_id',
      schemas: ['public'],
      waivers: [],
      bootstrap: undefined,
    });
    expect(model.tables.get(named('crm.notes'))).toMatchObject({
      column: 'tenant_id',
      added: true,
      paths: [{ references: ['id'] }, { columns: ['a', 'b'], references: ['x', 'y'] }],
    });
    expect(model.tables.get(named('customers'))).toMatchObject({ column: 'tenantId', added: false, paths: [] });
    expect(model.tables.get(named('countries'))).toMatchObject({ access: 'read' });
    expect(model.tables.get(named('order'))).toMatchObject({ access: 'none' });
  });

  test('orders its scoped tables so that each comes after those it goes through', () => {
    const order = derivationOrder(parseModel(config)).map(({ table }) => table);
    expect(order).toEqual(['public.customers', 'crm.deals', 'crm.notes']);
  });

  const wrong: [string, unknown, PartywallError['code'], string][] = [
    ['nothing', undefined, 'config_malformed', 'expected object'],
    ['no tenant', { roles, tables: {} }, 'config_malformed', 'tenant'],
    ['a scope that is none', { ...config, tables: { a: { scope: 'private' } } }, 'config_malformed', 'tables.a'],
    ['a misspelt property', { ...config, tables: { a: { scope: 'shared', acces: 'read' } } }, 'config_malformed', 'acces'],
    ['a name that is no table', { ...config, tables: { 'a.b.c': { scope: 'shared' } } }, 'config_malformed', 'not a table name: "a.b.c"'],
    ['a root that is no table', { ...config, tenant: { table: 'a b' } }, 'config_malformed', 'not a table name: "a b"'],
    ['a column name that PostgreSQL would cut', { ...config, column: 'x'.repeat(64) }, 'config_malformed', 'column'],
    [
      'a table twice',
      { ...config, tables: { customers: { scope: 'shared' }, 'public.customers': { scope: 'shared' } } },
      'model_invalid',
      'public.customers is listed twice',
    ],
    [
      'the root as a table',
      { ...config, tables: { tenants: { scope: 'shared' } } },
      'model_invalid',
      'public.tenants is the tenant root and is listed under tables too',
    ],
    ['two roles that are one', { ...config, roles: { ...roles, app: 'o' } }, 'model_invalid', 'must be different roles'],
    ['a scoped table without a way', { ...config, tables: { a: { scope: 'scoped' } } }, 'model_invalid', 'public.a is scoped and names neither'],
    [
      'a way through a table that is not scoped',
      { ...config, tables: { a: { scope: 'scoped', through: { table: 'b', columns: 'c' } }, b: { scope: 'shared' } } },
      'model_invalid',
      'public.a goes through public.b, which is not a scoped table',
    ],
    [
      'a way through a table that is unknown',
      { ...config, tables: { a: { scope: 'scoped', through: { table: 'b', columns: 'c' } } } },
      'model_invalid',
      'public.a goes through public.b',
    ],
    [
      'a way of two columns to one',
      { ...config, tables: { a: { scope: 'scoped', through: { table: 'tenants', columns: ['b', 'c'] } } } },
      'model_invalid',
      '2 columns for 1',
    ],
    [
      'ways in a circle',
      { ...config, tables: { a: { scope: 'scoped', through: { table: 'b', columns: 'c' } }, b: { scope: 'scoped', through: { table: 'a', columns: 'c' } } } },
      'model_invalid',
      'public.a → public.b → public.a',
    ],
    [
      'a way through nothing without a bootstrap tenant',
      { ...config, tables: { a: { scope: 'scoped', through: [] } } },
      'model_invalid',
      'there is no bootstrap tenant',
    ],
    ['a waiver without an end', { ...config, waivers: [{ rule: 'r', target: 't', reason: 'x' }] }, 'config_malformed', 'waivers.0.until'],
  ];

  test.each(wrong)('with %s is one clear error', (_case, given, code, text) => {
    try {
      parseModel(given);
    } catch (error) {
      if (!(error instanceof PartywallError)) throw error;
      expect(error.code).toBe(code);
      expect(error.message).toContain(text);
      return;
    }
    throw new Error('nothing was refused');
  });

  test('names every mistake, one detail each', () => {
    try {
      parseModel({ ...config, roles: { owner: 'o' }, tables: { a: { scope: 'x' } } });
    } catch (error) {
      expect(error).toBeInstanceOf(PartywallError);
      expect(error instanceof PartywallError && error.details.length).toBe(4);
    }
    expect.assertions(2);
  });
});
