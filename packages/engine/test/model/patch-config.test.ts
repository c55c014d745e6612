import vm from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { configObject } from '../../src/model/config-source.ts';
import { print } from '../../src/model/config-text.ts';
import { modelFingerprint } from '../../src/model/fingerprint.ts';
import { updateModel } from '../../src/model/merge.ts';
import { parseModel, type TenancyModel } from '../../src/model/model.ts';
import { patchConfig } from '../../src/model/patch-config.ts';
import { tableName } from '../../src/model/table-name.ts';
import { type WrittenTable, writtenCatalog } from './written-catalog.ts';

const root = tableName('public', 'tenants');
const tenants: WrittenTable = { name: 'tenants', columns: [{ name: 'id' }] };
const owned = (name: string, schema = 'public'): WrittenTable => ({
  schema,
  name,
  columns: [{ name: 'id' }, { name: 'tenant_id', notNull: true }, { name: 'code', type: 'text' }],
  keys: [{ columns: ['tenant_id'], table: root, references: ['id'] }],
  uniques: [['code']],
});
const child: WrittenTable = {
  name: 'notes',
  columns: [{ name: 'id' }, { name: 'settings_id', notNull: true }],
  keys: [{ columns: ['settings_id'], table: tableName('public', 'settings'), references: ['id'] }],
};
const settings: WrittenTable = { name: 'settings', columns: [{ name: 'id' }] };

function evaluate(source: string): TenancyModel {
  return parseModel(vm.runInNewContext(source.replace(/^import .*$/m, '').replace(/export default defineTenancy\(/, '('), {}));
}

function patched(source: string, catalog: Catalog): { text: string; fingerprint: string; wanted: string } {
  const existing = evaluate(source);
  const merged = updateModel(catalog, existing);
  const text = patchConfig(source, existing, merged, 'shop');
  if (text === undefined) throw new Error('the config was not understood');
  return { text, fingerprint: modelFingerprint(evaluate(text)), wanted: modelFingerprint(merged.inferred.model) };
}

const written = `import { defineTenancy } from 'partywall';

// Our tenancy, agreed on with { everybody }, see "the wiki".
export default defineTenancy({
  tenant: { table: 'tenants' }, /* the founders' word: 'tenant' */
  roles: { owner: \`postgres\`, app: "a", system: 's', service: 'v' },
  tables: {
    // ours, } and not theirs
    'customers': { scope: 'scoped', column: 'tenant_id', why: "it's } so, \\'honest\\'" }, // keep, please
    settings: {
      scope: 'scoped',
      through: { table: 'customers', columns: 'id', references: 'settings_id' }, // an order owns them
    },
    notes: { scope: 'unclassified', candidates: ['a, b', "c }"] },
    dropped: { scope: 'shared' } // last, without a comma
  },
});
`;

describe('a patched config', () => {
  const catalog = writtenCatalog([
    tenants,
    owned('customers'),
    settings,
    child,
    owned('orders'),
    owned('deals', 'crm'),
    { name: "odd'name */", columns: [{ name: 'id' }] },
  ]);

  test('reads back as the merged model', () => {
    const { fingerprint, wanted } = patched(written, catalog);
    expect(fingerprint).toBe(wanted);
  });

  test('keeps every line and comment that was there', () => {
    const { text } = patched(written, catalog);
    const before = written.split('\n').filter((line) => !/notes: |dropped: |'customers': |^export|^$/.test(line));
    for (const line of before) expect(text).toContain(line);
    expect(text).toContain('// keep, please');
    expect(text).toContain('// last, without a comma');
    expect(text).toContain('// an order owns them');
  });

  test('marks what is new and what has vanished, once', () => {
    const { text } = patched(written, catalog);
    expect(text.match(/new since this file was written/g)?.length).toBe(3);
    expect(text.match(/vanished: there is no public\.dropped in shop/g)?.length).toBe(1);
    expect(text).toContain("schemas: ['public', 'crm']");
    const again = patched(text, catalog);
    expect(again.text).toBe(text);
  });

  test('answers what was unclassified, and adds unique constraints that are new with their reason', () => {
    const { text } = patched(written, catalog);
    expect(text).toMatch(/'public\.notes': \{\n {6}scope: 'scoped',\n {6}through: \{ table: 'public\.settings'/);
    expect(text).toMatch(/customers_unique_0: 'per tenant', \/\/ code: each tenant may have the same/);
  });

  test('is refused where the text has no tables to work in', () => {
    const merged = updateModel(catalog, evaluate(written));
    for (const source of [
      '',
      'export default config;',
      'export default defineTenancy({ ...base })',
      'export default defineTenancy({ tables: lines })',
      "export default defineTenancy({ tables: { 'a",
    ]) {
      expect(patchConfig(source, evaluate(written), merged, 'shop')).toBeUndefined();
    }
  });

  test.each([
    [
      'on one line',
      "export default defineTenancy({ tenant: { table: 'tenants' }, roles: { owner: 'postgres', app: 'a', system: 's', service: 'v' }, tables: {} });",
    ],
    [
      'without spaces',
      "export default defineTenancy({tenant:{table:'tenants'},roles:{owner:'postgres',app:'a',system:'s',service:'v'},tables:{settings:{scope:'shared'}}});",
    ],
    [
      'in JSON',
      JSON.stringify(
        {
          tenant: { table: 'tenants' },
          roles: { owner: 'postgres', app: 'a', system: 's', service: 'v' },
          schemas: ['public'],
          tables: { customers: { scope: 'scoped', column: 'tenant_id', uniques: {} } },
        },
        null,
        4,
      )
        .replace(/^/, 'export default defineTenancy(')
        .concat(')'),
    ],
  ])('works %s', (_case, source) => {
    const { fingerprint, wanted } = patched(source, catalog);
    expect(fingerprint).toBe(wanted);
  });
});

test('entries are found past strings, templates and comments of any content', () => {
  const text = fc.string({ unit: fc.constantFrom(...'{}[](),:\'"`\\/*$ \nab'), maxLength: 20 });
  const comment = text.map((content) => (content.includes('*/') || content.endsWith('*') ? '/* { */' : `/*${content}*/`));
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text, comment), { maxLength: 6 }), (items) => {
      const lines = items.map(([key, value, note]) => `${note}${print(key)}${note}:${note}{ a: [${print(value)}, f(\`x\${${print(value)}}\`)] }${note}`);
      const span = configObject(`export default {${lines.join(',')}}`);
      expect(span?.entries.map(({ key }) => key)).toEqual(items.map(([key]) => key));
    }),
    { numRuns: 500, seed: 20_261_121 },
  );
});
