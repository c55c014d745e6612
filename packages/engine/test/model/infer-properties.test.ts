import vm from 'node:vm';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { checkModel } from '../../src/model/check.ts';
import { modelFingerprint } from '../../src/model/fingerprint.ts';
import { type InferredModel, inferModel } from '../../src/model/infer.ts';
import { updateModel } from '../../src/model/merge.ts';
import { derivationOrder, parseModel } from '../../src/model/model.ts';
import { renderConfig } from '../../src/model/render-config.ts';
import { type TableName, tableName } from '../../src/model/table-name.ts';
import { type WrittenTable, writtenCatalog } from './written-catalog.ts';

const root = tableName('public', 'tenants');

/** Names that the rules know beside names that nobody knows, in spellings of several frameworks. */
const tableNames = fc.oneof(
  fc.constantFrom(
    'countries',
    'currencies',
    'plans',
    'units',
    'languages',
    'settings',
    'users',
    'sessions',
    'accounts',
    'members',
    'jobs',
    'versions',
    'schema_migrations',
    'Orders',
    'user',
    'order.items',
    'constructor',
    '__proto__',
    'toString',
    'audit_logs',
  ),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((name) => !name.includes('\0')),
);
const columnNames = fc.oneof(
  fc.constantFrom(
    'code',
    'name',
    'email',
    'customer_id',
    'owner_type',
    'owner_id',
    'user_id',
    'token',
    'created_by',
    'tenant_ids',
    'constructor',
    'payload',
    'order_id',
  ),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }).filter((name) => !name.includes('\0')),
);

interface Shape {
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly type: string; readonly notNull: boolean }[];
  /** Tables it refers to, by position; -1 is the root. */
  readonly refers: readonly { readonly to: number; readonly notNull: boolean }[];
  readonly unique: boolean;
}

const shapes: fc.Arbitrary<Shape[]> = fc.uniqueArray(
  fc.record({
    name: tableNames,
    columns: fc.uniqueArray(fc.record({ name: columnNames, type: fc.constantFrom('uuid', 'text', 'integer', 'jsonb', 'uuid[]'), notNull: fc.boolean() }), {
      maxLength: 5,
      selector: ({ name }) => name,
    }),
    refers: fc.array(fc.record({ to: fc.integer({ min: -1, max: 11 }), notNull: fc.boolean() }), { maxLength: 3 }),
    unique: fc.boolean(),
  }),
  { minLength: 1, maxLength: 12, selector: ({ name }) => name },
);

function catalogOf(given: readonly Shape[]): Catalog {
  const all = given.filter(({ name }) => name !== 'tenants' && name !== 'anchor');
  const tables = all.map((shape): WrittenTable => {
    const own = shape.columns.filter(({ name }) => name !== 'id' && !name.startsWith('ref'));
    const refers = shape.refers.filter(({ to }) => to < all.length);
    return {
      name: shape.name,
      columns: [{ name: 'id' }, ...own, ...refers.map(({ notNull }, at) => ({ name: `ref${at}`, notNull }))],
      keys: refers.map(({ to }, at) => ({ columns: [`ref${at}`], table: to < 0 ? root : tableName('public', all[to]?.name ?? ''), references: ['id'] })),
      uniques: shape.unique ? [[own[0]?.name ?? 'id']] : [],
    };
  });
  const anchor: WrittenTable = {
    name: 'anchor',
    columns: [{ name: 'id' }, { name: 'tenant_id', notNull: true }],
    keys: [{ columns: ['tenant_id'], table: root, references: ['id'] }],
  };
  return writtenCatalog([{ name: 'tenants', columns: [{ name: 'id' }] }, anchor, ...tables]);
}

/** Everything from which foreign keys lead to the root, however long the way. */
function leadToRoot(catalog: Catalog): Set<TableName> {
  const found = new Set([root]);
  for (let size = 0; size !== found.size; ) {
    size = found.size;
    for (const { table, constraints } of catalog.relations.values())
      if (constraints.some(({ foreign }) => foreign && found.has(foreign.table))) found.add(table);
  }
  return found;
}

function read(inferred: InferredModel): ReturnType<typeof parseModel> {
  const source = renderConfig(inferred).replace("import { defineTenancy } from 'partywall';", '').replace('export default defineTenancy(', '(');
  return parseModel(vm.runInNewContext(source, {}));
}

const runs = { numRuns: 400, seed: 20_261_121 };

describe('for any schema', () => {
  test('no table from which foreign keys lead to the tenant is shared, nor one that such a table refers to without being reference data', () => {
    fc.assert(
      fc.property(shapes, (given) => {
        const catalog = catalogOf(given);
        const { model } = inferModel(catalog, { root });
        const leading = leadToRoot(catalog);
        const shared = [...model.tables].filter(([, rule]) => rule.scope === 'shared').map(([table]) => table);
        expect(shared.filter((table) => leading.has(table))).toEqual([]);
        expect(shared.filter((table) => !/^public\.(countries|currencies|plans|languages|units)$/.test(table))).toEqual([]);
      }),
      runs,
    );
  });

  test('every table gets a rule with a reason, and paths never lead in a circle', () => {
    fc.assert(
      fc.property(shapes, (given) => {
        const catalog = catalogOf(given);
        const { model } = inferModel(catalog, { root });
        expect(new Set([root, ...model.tables.keys()])).toEqual(new Set(catalog.relations.keys()));
        expect([...model.tables.values()].filter(({ why }) => !why)).toEqual([]);
        expect(() => derivationOrder(model)).not.toThrow();
      }),
      runs,
    );
  });

  test('the written config reads back as the same model, and the same database gives the same text', () => {
    fc.assert(
      fc.property(shapes, (given) => {
        const catalog = catalogOf(given);
        const inferred = inferModel(catalog, { root });
        const again = read(inferred);
        expect(modelFingerprint(again)).toBe(modelFingerprint(inferred.model));
        expect(renderConfig({ ...inferred, model: again })).toBe(renderConfig(inferred));
        expect(renderConfig(inferModel(catalogOf([...given]), { root }))).toBe(renderConfig(inferred));
      }),
      runs,
    );
  });

  test('check finds nothing in it but the open questions, and an update changes nothing', () => {
    fc.assert(
      fc.property(shapes, (given) => {
        const catalog = catalogOf(given);
        const { model } = inferModel(catalog, { root });
        const errors = checkModel(model, catalog).filter(({ severity, kind }) => severity === 'error' && kind !== 'unclassified');
        expect(errors).toEqual([]);
        const merged = updateModel(catalog, model);
        expect(modelFingerprint(merged.inferred.model)).toBe(modelFingerprint(model));
        expect(merged).toMatchObject({ added: [], decided: [], vanished: [] });
      }),
      runs,
    );
  });
});
