import { readFile } from 'node:fs/promises';
import { exportDocument as documentSchema } from '@partywall/engine';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { exportDocument, exportText, sealed } from './documents.ts';

const fixture = await controlDatabase();

test('the published JSON Schema is the one that documents are read by', async () => {
  const file = new URL('../../../../../docs/formats/tenant-export.schema.json', import.meta.url);
  expect(JSON.parse(await readFile(file, 'utf8'))).toEqual(z.toJSONSchema(documentSchema, { io: 'input' }));
});

test('an export is what the page on its format says: order, values, hashes', async () => {
  const tenant = await fixture.tenant('Alder');
  await fixture.database.query(`insert into customers (id, tenant_id, name, revenue, created_at) values
    ('00000000-0000-4000-8000-000000000002', '${tenant}', 'b', null, '2024-01-02 03:04:05+02'), ('00000000-0000-4000-8000-000000000001', '${tenant}', 'a', 12.5, 'infinity')`);
  const operation = fixture.operation();
  const text = await exportText(operation, tenant);
  const document = await exportDocument(operation, tenant);

  expect(documentSchema.parse(document)).toMatchObject({ header: { tenant: { id: tenant, name: 'Alder', status: 'active', plan: 'pro' } } });
  expect(document.header.tables.map(({ name }) => name)).toEqual(['public.tenants', 'public.users', 'public.customers', 'public.files', 'public.notes']);
  // Neither generated columns nor what belongs to the lifecycle.
  expect(Object.keys(document.tables['public.tenants']?.[0] ?? {})).toEqual(['id', 'name', 'slug']);
  expect(document.tables['public.customers']).toMatchObject([
    { name: 'a', revenue: '12.50', created_at: 'infinity', parent_id: null },
    { name: 'b', revenue: null, created_at: '2024-01-02 01:04:05+00' },
  ]);
  expect(document.tables['public.customers']?.[0]).not.toHaveProperty('search');
  expect(JSON.parse(sealed(document)).trailer).toEqual(document.trailer);
  expect(JSON.parse(text).trailer).toEqual(document.trailer);
});
