import { expect, test } from 'vitest';
import { PartywallError } from '../../src/errors.ts';
import { checkModel, describeDifference } from '../../src/model/check.ts';
import { modelFingerprint } from '../../src/model/fingerprint.ts';
import { inferModel } from '../../src/model/infer.ts';
import { updateModel } from '../../src/model/merge.ts';
import { parseModel, type TenancyConfig } from '../../src/model/model.ts';
import { patchConfig } from '../../src/model/patch-config.ts';
import { renderConfig } from '../../src/model/render-config.ts';
import { inferring } from './inferring.ts';

const { catalog } = await inferring();

const schema = `create table tenants (id uuid primary key);
  create table business_units (id uuid primary key, tenant_id uuid not null references tenants);
  create table contracts (id int primary key, tenant_id uuid not null references tenants, business_unit_id uuid references business_units, title text)`;
const config = {
  tenant: { table: 'tenants' },
  unit: { table: 'public.business_units' },
  roles: { owner: 'postgres', app: 'a', system: 's', service: 'v' },
  tables: {
    business_units: { scope: 'scoped', column: 'tenant_id' },
    contracts: { scope: 'scoped', column: 'tenant_id', unit: 'business_unit_id' },
  },
} satisfies TenancyConfig;
const model = parseModel(config);

const contractsOf = (unit: string) => ({ ...config.tables, contracts: { ...config.tables.contracts, unit } });

test('units are a table with a key, and a column on the tables that belong to them', () => {
  expect(model.unit).toEqual({ table: 'public.business_units', key: 'id' });
  expect(parseModel({ ...config, unit: { table: 'business_units', key: 'code' } }).unit?.key).toBe('code');
  expect(model.tables.get('public.contracts' as never)).toMatchObject({ unit: 'business_unit_id' });
});

test('lines about units that contradict each other are refused', () => {
  const refused = (written: TenancyConfig): string => {
    try {
      parseModel(written);
    } catch (error) {
      return error instanceof PartywallError ? error.message.replace('reading the tenancy config: ', '') : String(error);
    }
    return 'not refused';
  };
  const { unit: _, ...without } = config;
  const { business_units: __, ...others } = config.tables;
  expect(refused(without)).toBe('public.contracts names the unit column business_unit_id, and there is no `unit` that says which table the units are');
  expect(refused({ ...config, tables: others })).toBe('unit names public.business_units, which is not a scoped table');
  expect(refused({ ...config, tables: { ...config.tables, business_units: { scope: 'shared' } } })).toBe(
    'unit names public.business_units, which is not a scoped table',
  );
  expect(refused({ ...config, tables: { ...config.tables, business_units: { ...config.tables.business_units, unit: 'id' } } })).toBe(
    'public.business_units is the table of the units; its own unit is its key, so it names no unit column',
  );
  expect(refused({ ...config, tables: contractsOf('tenant_id') })).toBe('public.contracts names tenant_id as tenant column and as unit column');
});

test('the fingerprint knows units, and that of a model without them is as it was', () => {
  const { unit: _, ...without } = config;
  const plain = parseModel({ ...without, tables: { ...config.tables, contracts: { scope: 'scoped', column: 'tenant_id' } } });
  const prints = [
    plain,
    model,
    parseModel({ ...config, unit: { table: 'business_units', key: 'code' } }),
    parseModel({ ...config, tables: contractsOf('other') }),
  ].map(modelFingerprint);
  expect(new Set(prints).size).toBe(4);
  expect(modelFingerprint(parseModel({ ...config, unit: { table: 'business_units', key: 'id' } }))).toBe(prints[1]);
});

test('a model and a database that agree on units differ in nothing', async () => {
  expect(checkModel(model, await catalog(schema))).toEqual([]);
});

test('differences about units are told with the table that has them', async () => {
  const told = async (given: TenancyConfig, sql = schema): Promise<string[]> =>
    checkModel(parseModel(given), await catalog(sql)).map((difference) => `${difference.severity}: ${describeDifference(difference)}`);
  expect(await told({ ...config, unit: { table: 'business_units', key: 'code' } })).toContain(
    'error: public.business_units has no column code, which the model names as the key of the units',
  );
  expect(
    await told(config, schema.replace('business_units (id uuid primary key', 'business_units (id uuid').replace(' references business_units', '')),
  ).toEqual([
    'error: public.business_units does not keep id unique, so it cannot be the key of the units',
    'warning: public.contracts has units in business_unit_id, which no foreign key holds',
  ]);
  expect(await told({ ...config, tables: contractsOf('nothing') })).toEqual(['error: public.contracts expected column nothing, its unit, is not there']);
  expect(await told({ ...config, tables: contractsOf('title') })).toEqual(['error: public.contracts has title of type text, the key of the units is uuid']);
});

test('a written config keeps its units through updates, and lines that are added know none', async () => {
  const live = await catalog(`${schema}; create table notes (id int primary key, contract_id int not null references contracts)`);
  const merged = updateModel(live, model);
  expect(merged.added).toEqual(['public.notes']);
  const text = renderConfig(merged.inferred);
  expect(text).toContain("unit: { table: 'public.business_units', key: 'id' }");
  expect(text).toContain("unit: 'business_unit_id'");
  const source = `export default defineTenancy({ tenant: { table: 'tenants' }, unit: { table: 'business_units' }, roles: {},\n  tables: {\n    contracts: { scope: 'scoped', column: 'tenant_id', unit: 'business_unit_id' },\n  },\n});\n`;
  const patched = patchConfig(source, model, merged, 'shop');
  expect(patched).toContain("contracts: { scope: 'scoped', column: 'tenant_id', unit: 'business_unit_id' },");
  expect(patched).toContain("'public.notes': {");
});

test('what looks like units is proposed as a comment with its reason, and never put in', async () => {
  const inferred = inferModel(await catalog(schema));
  expect(inferred.model.unit).toBeUndefined();
  const text = renderConfig(inferred);
  expect(text).toMatch(/\/\/ Units inside a tenant\? public\.business_units is named like them, and one table refers to it/);
  expect(text).toMatch(/\/\/ unit: \{ table: 'public\.business_units', key: 'id' \}, .*unit: 'business_unit_id' on public\.contracts/);
});

test('nothing is proposed for a table that nothing refers to, or of another name', async () => {
  expect(renderConfig(inferModel(await catalog(schema.replace(' references business_units', ''))))).not.toContain('Units inside');
  expect(renderConfig(inferModel(await catalog(schema.replaceAll('business_unit', 'customer'))))).not.toContain('Units inside');
});
