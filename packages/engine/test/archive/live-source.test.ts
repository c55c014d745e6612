import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { liveSource, type TenantSource } from '../../src/index.ts';

const fixture = await controlDatabase();
const { database, operation } = fixture;

async function lines(source: TenantSource, name: string): Promise<string[]> {
  const table = source.tables.find((each) => each.name === name);
  if (!table) throw new Error(`no ${name}`);
  const pieces: Buffer[] = [];
  for await (const piece of source.rows(table)) {
    expect(piece.at(-1)).toBe(0x0a);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8').split('\n').slice(0, -1);
}

test('a live source gives every row of the tenant and of no other, as of one moment', async () => {
  const tenant = await fixture.tenant('Own');
  const other = await fixture.tenant('Other');
  for (const id of [tenant, other])
    await database.query("insert into customers (tenant_id, name) select $1, $2 || repeat(E'\\n\\t\\\\', 4000) || n from generate_series(1, 30) n", [id, id]);
  const source = await liveSource(operation(), tenant);
  try {
    await database.query('delete from customers where tenant_id = $1', [tenant]);
    expect(source.tables.map(({ name, count }) => [name, count])).toEqual([
      ['public.tenants', 1],
      ['public.users', 0],
      ['public.customers', 30],
      ['public.files', 0],
      ['public.notes', 0],
    ]);
    const customers = await lines(source, 'public.customers');
    expect(customers).toHaveLength(30);
    expect(customers.every((line) => line.split('\t')[1] === tenant)).toBe(true);
    expect(customers).toEqual(customers.toSorted());
    const root = await lines(source, 'public.tenants');
    expect(root).toEqual([`${tenant}\tOwn\town\tactive\tpro`]);
  } finally {
    source.close();
  }
});

test('while a live source is open its tables cannot be truncated, and can be written', async () => {
  const tenant = await fixture.tenant('Locked');
  const source = await liveSource(operation(), tenant);
  await expect(database.query("set lock_timeout = '50ms'; truncate notes")).rejects.toMatchObject({ code: '55P03' });
  await database.query("insert into customers (tenant_id, name) values ($1, 'x')", [tenant]);
  source.close();
  await expect
    .poll(() =>
      database.query("set lock_timeout = '50ms'; truncate notes").then(
        () => true,
        () => false,
      ),
    )
    .toBe(true);
});

test('a source that is closed in the middle of a table leaves its connection to nobody', async () => {
  const tenant = await fixture.tenant('Cut');
  await database.query("insert into customers (tenant_id, name) select $1, repeat('x', 10000) || n from generate_series(1, 2000) n", [tenant]);
  for (let round = 0; round < 6; round += 1) {
    const source = await liveSource(operation(), tenant);
    const table = source.tables.find(({ name }) => name === 'public.customers');
    if (!table) throw new Error('no customers');
    for await (const _ of source.rows(table)) break;
    source.close();
    expect((await fixture.control.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  }
});
