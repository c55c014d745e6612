import { expect, test } from 'vitest';
import { inferModel } from '../../src/model/infer.ts';
import { mergeModel } from '../../src/model/merge.ts';
import { parseModel } from '../../src/model/model.ts';
import { renderConfig } from '../../src/model/render-config.ts';
import { writtenCatalog } from './written-catalog.ts';

const written = {
  tenant: { table: 'public.tenants' },
  roles: { owner: 'a', app: 'b', system: 'c', service: 'd' },
  tables: { 'public.users': { scope: 'scoped', column: 'tenant_id' }, 'public.countries': { scope: 'shared' } },
};

const rules = {
  'public.tenants': { slug: 'suffix' },
  'public.users': {
    email: 'suffix',
    token: 'random',
    external: 'null',
    payload: 'ids',
    note: 'keep',
    position: { sql: 's.position + 1000' },
    friend_id: { reference: 'public.users' },
    subject_id: { reference: { by: 'subject_type', tables: { user: 'public.users', tenant: 'public.tenants' } } },
  },
};

test('rules of a clone are read, and written as they were read', () => {
  const model = parseModel({ ...written, clone: rules });
  expect(model.clone.get(model.tenant.table)?.get('slug')).toEqual({ kind: 'suffix' });
  const catalog = writtenCatalog([
    {
      name: 'tenants',
      columns: [
        { name: 'id', type: 'uuid', notNull: true },
        { name: 'name', type: 'text' },
      ],
    },
  ]);
  const inferred = inferModel(catalog, { root: model.tenant.table });
  const text = renderConfig(mergeModel(model, inferred, catalog).inferred);
  const source = /defineTenancy\((?<config>[\s\S]*)\);/.exec(text)?.groups?.['config'] ?? '';
  expect(parseModel(new Function(`return ${source}`)()).clone).toEqual(model.clone);
});

test.each([
  [{ 'public.countries': { code: 'suffix' } }, 'clone names public.countries, which is not a scoped table'],
  [{ 'no"name': { code: 'suffix' } }, 'not a table name'],
  [{ 'public.users': { email: 'double' } }, 'clone'],
  [{ 'public.users': { email: { sql: '' } } }, 'clone'],
])('a rule that cannot be meant is refused', (clone, message) => {
  expect(() => parseModel({ ...written, clone })).toThrow(message);
});
