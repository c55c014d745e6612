import { expect, test } from 'vitest';
import type { Catalog } from '../../src/catalog/catalog.ts';
import { checkModel } from '../../src/model/check.ts';
import { inferModel } from '../../src/model/infer.ts';
import { renderConfig } from '../../src/model/render-config.ts';
import { type TableName, tableName } from '../../src/model/table-name.ts';
import { type WrittenTable, writtenCatalog } from './written-catalog.ts';

/** A schema whose every table refers to several earlier ones, half of the keys nullable: the worst case for finding paths. */
function tangled(size: number): Catalog {
  const root: WrittenTable = { name: 'tenants', columns: [{ name: 'id' }] };
  const own: WrittenTable = {
    name: 'customers',
    columns: [{ name: 'id' }, { name: 'tenant_id', notNull: true }],
    keys: [{ columns: ['tenant_id'], table: tableName('public', 'tenants'), references: ['id'] }],
  };
  const names = Array.from({ length: size - 2 }, (_, at) => `table${at}`);
  const tables = names.map((name, at): WrittenTable => {
    const targets: TableName[] =
      at % 10 === 9 ? [] : [3, 7, 31, 101].map((step) => tableName('public', names[(at + (at % 2 ? step : size - step)) % names.length] ?? 'customers'));
    if (at % 50 === 0) targets.push(tableName('public', 'customers'));
    return {
      name,
      columns: [
        { name: 'id' },
        ...Array.from({ length: 15 }, (_, number) => ({ name: `column_${number}`, type: 'text' })),
        ...targets.map((_, number) => ({ name: `ref_${number}`, notNull: (at + number) % 4 === 0 })),
      ],
      keys: targets.map((table, number) => ({ columns: [`ref_${number}`], table, references: ['id'] })),
      uniques: [['column_1'], ['column_2', 'column_3']],
    };
  });
  return writtenCatalog([root, own, ...tables]);
}

function cpuMs(work: () => void): number {
  const start = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

test.each([
  [150, 1000],
  [1000, 3000],
])('a tangled schema of %i tables is inferred, written and checked within %i ms of processor time', (tables, limitMs) => {
  const catalog = tangled(tables);
  const spent = cpuMs(() => {
    const inferred = inferModel(catalog);
    expect(renderConfig(inferred).length).toBeGreaterThan(tables * 50);
    expect(checkModel(inferred.model, catalog).filter(({ kind, severity }) => severity === 'error' && kind !== 'unclassified')).toEqual([]);
  });
  expect(spent).toBeLessThan(limitMs);
});
