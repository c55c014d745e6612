import { createHash } from 'node:crypto';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { type CrmRows, crmTables, generateCrm } from '../src/generate.ts';
import { defaultSeed, loadCrm } from '../src/seed.ts';

const sha256 = (value: unknown) => createHash('sha256').update(JSON.stringify(value)).digest('hex');

describe('the generator', () => {
  it('gives the same rows for the same seed, on every machine', () => {
    expect(sha256(generateCrm(defaultSeed))).toBe('569789ff7f879969541fd37fa11f196c42a46b8c5bacf658d96cc2e4ab4661a2');
  });

  it('gives other rows for another seed, but the same tenants and first users', () => {
    const [one, other] = [generateCrm(1), generateCrm(2)];
    expect(one.customers).not.toEqual(other.customers);
    expect(one.tenants).toEqual(other.tenants);
    for (const rows of [one, other]) {
      for (const { id, firstUser } of demoTenants) {
        expect(rows.users.find((user) => user['tenant_id'] === id)).toMatchObject({ id: firstUser.id, email: firstUser.email, role: 'admin' });
      }
    }
  });

  it('makes at least 20,000 rows for three tenants of unequal size', () => {
    const rows = generateCrm(defaultSeed);
    expect(crmTables.reduce((sum, table) => sum + rows[table].length, 0)).toBeGreaterThanOrEqual(20_000);
    const sizes = demoTenants.map(({ id }) => rows.customers.filter((customer) => customer['tenant_id'] === id).length);
    expect(sizes).toEqual([1300, 560, 140]);
  });

  it('lets no row lead from one tenant to another, for any of ten seeds', () => {
    for (let seed = 1; seed <= 10; seed += 1) expect(crossings(generateCrm(seed)), `seed ${seed}`).toEqual([]);
  });
});

describe('loading the CRM', () => {
  it('fills an empty database and says so; a second load changes nothing and says that', async () => {
    const database = await createDatabase();
    const first = await load(database);
    expect(first).toMatchObject({ loaded: true, message: `loaded the CRM: 26210 rows in 14 tables from seed ${defaultSeed}` });
    const before = await contents(database);
    expect(await load(database, 7)).toEqual({
      loaded: false,
      message: `the CRM is already there (demo data, seed ${defaultSeed}); nothing was changed`,
      rows: {},
    });
    expect(await contents(database)).toEqual(before);
    for (const table of crmTables) expect(before.counts[table], table).toBe(first.rows[table]);
  });

  it('gives two databases the same contents', async () => {
    const [one, other] = [await createDatabase(), await createDatabase()];
    await load(one);
    await load(other);
    expect(await contents(one)).toEqual(await contents(other));
  });

  it('leaves no wall: no policy, no tenant column on the children, foreign keys of one column', async () => {
    const database = await createDatabase();
    await load(database);
    const walls = await database.query("select relname from pg_class where relnamespace = 'public'::regnamespace and (relrowsecurity or relforcerowsecurity)");
    expect(walls.rows).toEqual([]);
    const scoped = await database.query<{ name: string }>(
      "select table_name as name from information_schema.columns where table_schema = 'public' and column_name = 'tenant_id' order by 1",
    );
    expect(scoped.rows.map(({ name }) => name)).toEqual(['customer_overview', 'customers', 'pipelines', 'tags', 'users']);
    const composite = await database.query("select conname from pg_constraint where contype = 'f' and cardinality(conkey) > 1");
    expect(composite.rows).toEqual([]);
  });

  it('leaves the counters behind the rows, so the first insert of an application succeeds', async () => {
    const database = await createDatabase();
    const { rows } = await load(database);
    const note = await database.query("insert into notes (customer_id, body) select id, 'x' from customers limit 1 returning id::int");
    expect(note.rows).toEqual([{ id: (rows.notes ?? 0) + 1 }]);
    const tag = await database.query("insert into tags (tenant_id, name) select id, 'x' from tenants limit 1 returning id");
    expect(tag.rows).toEqual([{ id: (rows.tags ?? 0) + 1 }]);
  });

  it('loads once when two start at the same time', async () => {
    const database = await createDatabase();
    const results = await Promise.all([load(database), load(database)]);
    expect(results.map(({ loaded }) => loaded).sort()).toEqual([false, true]);
  });

  it("refuses a database whose tables are somebody else's and leaves it as it was", async () => {
    const database = await createDatabase();
    await database.query('create table customers (id int)');
    await expect(load(database)).rejects.toThrow('loading the CRM: relation "customers" already exists; give it a database of its own');
    const tables = await database.query("select relname from pg_class where relnamespace = 'public'::regnamespace");
    expect(tables.rows).toEqual([{ relname: 'customers' }]);
  });
});

async function load(database: TestDatabase, seed?: number) {
  const client = new pg.Client(database.url);
  await client.connect();
  try {
    return await loadCrm(client, seed === undefined ? {} : { seed });
  } finally {
    await client.end();
  }
}

/** Counts, and one hash over every row of every table. */
async function contents(database: TestDatabase) {
  const counts: Record<string, number> = {};
  const hash = createHash('sha256');
  await database.query("set timezone = 'UTC'");
  for (const table of [...crmTables, 'schema_migrations']) {
    const { rows } = await database.query<{ line: string }>(`select t::text as line from ${table} t order by t::text collate "C"`);
    counts[table] = rows.length;
    for (const { line } of rows) hash.update(`${table} ${line}\n`);
  }
  return { counts, hash: hash.digest('hex') };
}

/** Every reference of the schema, followed to its tenant from both ends. */
function crossings(rows: CrmRows): string[] {
  const owner = new Map<unknown, unknown>();
  for (const tenant of rows.tenants) owner.set(tenant['id'], tenant['id']);
  for (const row of [...rows.users, ...rows.customers, ...rows.pipelines]) owner.set(row['id'], row['tenant_id']);
  for (const tag of rows.tags) owner.set(`tag ${tag['id']}`, tag['tenant_id']);
  for (const stage of rows.deal_stages) owner.set(stage['id'], owner.get(stage['pipeline_id']));
  for (const row of [...rows.contacts, ...rows.deals]) owner.set(row['id'], owner.get(row['customer_id']));
  const tenantsOf = (table: keyof CrmRows, references: (row: CrmRows[typeof table][number]) => unknown[]) =>
    rows[table].flatMap((row) => {
      const tenants = new Set(
        references(row)
          .filter((reference) => reference !== null)
          .map((reference) => owner.get(reference) ?? `nobody's ${String(reference)}`),
      );
      return tenants.size === 1 && [...tenants].every((tenant) => demoTenants.some(({ id }) => id === tenant)) ? [] : [`${table} ${JSON.stringify(row)}`];
    });
  return [
    ...tenantsOf('sessions', (row) => [row['user_id']]),
    ...tenantsOf('customers', (row) => [row['tenant_id'], row['parent_id'], row['owner_id']]),
    ...tenantsOf('deals', (row) => [row['customer_id'], row['stage_id'], row['owner_id']]),
    ...tenantsOf('activities', (row) => [row['deal_id'], row['contact_id'], row['user_id']]),
    ...tenantsOf('notes', (row) => [row['customer_id'], row['author_id']]),
    ...tenantsOf('customer_tags', (row) => [row['customer_id'], `tag ${row['tag_id']}`]),
    ...tenantsOf('files', (row) => [row['dealId'], row['uploadedBy']]),
  ];
}
