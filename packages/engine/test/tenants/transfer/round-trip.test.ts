import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { contentHash, exportDocument, exportText, importText } from './documents.ts';

const fixture = await controlDatabase();
const { database } = fixture;

test('what was changed and deleted since comes back as it was, and a neighbour stays as it is', async () => {
  const operation = fixture.operation();
  const alder = await populated('Alder');
  const birch = await populated('Birch');
  const before = await exportText(operation, alder);
  const neighbour = await contentHash(operation, birch);
  await database.query(`delete from users where tenant_id = '${alder}' and role = 'member'`);
  await database.query(`update customers set name = 'changed ' || name, revenue = null where tenant_id = '${alder}'`);
  await database.query(`delete from customers where tenant_id = '${alder}' and parent_id is not null`);
  await database.query(`insert into files (tenant_id, name, size_bytes) values ('${alder}', 'new', 5)`);
  expect(await contentHash(operation, alder)).not.toBe(JSON.parse(before).trailer.sha256);

  const report = await importText(operation, before);

  expect(report).toMatchObject({ tenant: alder, applied: true, hashEqual: true, corrected: 0 });
  expect(report.tables.find(({ table }) => table === 'public.files')).toMatchObject({ inserted: 0, updated: 0, deleted: 1, unchanged: 2 });
  expect(await exportDocument(operation, alder)).toMatchObject({ tables: JSON.parse(before).tables, trailer: JSON.parse(before).trailer });
  expect(await contentHash(operation, birch)).toBe(neighbour);
});

async function populated(name: string): Promise<string> {
  const id = await fixture.tenant(name);
  await database.query(
    `insert into users (tenant_id, email, name, role) select '${id}', n || '@x.example', 'User ' || n, case n when 1 then 'admin' else 'member' end from generate_series(1, 5) n`,
  );
  await database.query(
    `insert into customers (tenant_id, owner_id, country_code, name, revenue) select '${id}', u.id, 'NO', E'C\\u00e9\\t"' || u.name || E'\\n\\\\', 12.50 from users u where u.tenant_id = '${id}'`,
  );
  await database.query(
    `insert into customers (tenant_id, parent_id, name) select '${id}', c.id, 'child of ' || c.name from customers c where c.tenant_id = '${id}'`,
  );
  await database.query(`insert into notes (customer_id, body, partywall_tenant_id) select c.id, 'note', '${id}' from customers c where c.tenant_id = '${id}'`);
  await database.query(`insert into files (tenant_id, name, size_bytes) values ('${id}', 'a', 10), ('${id}', 'b', 20)`);
  return id;
}
