import { run } from '@partywall/wall';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, suffix, type TestDatabase } from '../../../test/support/database.ts';
import { demoTenants } from '../src/demo-tenants.ts';
import { randomStream } from '../src/random.ts';
import { loadCrm } from '../src/seed.ts';
import { type LegacyOptions, type LegacyStatement, legacyStatements, runLegacyWorkload } from './legacy-app.ts';
import { walledCrm } from './walled-crm.ts';

const [tenant] = demoTenants;

describe('the legacy workload on the un-hardened database', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await loadedDatabase();
  });

  it('runs every statement it declares without an error, for three tenants at once', async () => {
    const pool = new pg.Pool({ connectionString: database.url, max: 6 });
    try {
      const reports = await Promise.all(
        demoTenants.map(({ id, slug }) => runLegacyWorkload(pool, { tenantId: id, rng: randomStream(1, slug), iterations: 12 })),
      );
      for (const [index, report] of reports.entries()) {
        expect(report.errors).toEqual([]);
        expect(report.iterations).toBe(12);
        expect(Object.entries(report.operations).filter(([, count]) => count === 0)).toEqual([]);
        const left = await database.query('select distinct tenant_id from customers where id = any($1)', [report.customers]);
        expect(left.rows).toEqual([{ tenant_id: demoTenants[index]?.id }]);
      }
    } finally {
      await pool.end();
    }
  });

  it('ends when it is told to and not before', async () => {
    const pool = new pg.Pool({ connectionString: database.url, max: 2 });
    try {
      const before = (await database.query('select max(id) from notes')).rows[0]?.['max'];
      const stop = new AbortController();
      const running = runLegacyWorkload(pool, { tenantId: tenant.id, rng: randomStream(2, 'abort'), signal: stop.signal });
      await expect.poll(async () => (await database.query('select from notes where id > $1', [before])).rowCount, { timeout: 10_000 }).toBeGreaterThan(5);
      stop.abort();
      const report = await running;
      expect(report.errors).toEqual([]);
      expect(report.iterations).toBeGreaterThan(0);
      await expect(runLegacyWorkload(pool, { tenantId: tenant.id, rng: randomStream(2, 'endless') })).rejects.toThrow('needs an end');
    } finally {
      await pool.end();
    }
  });
});

describe('the legacy workload behind the wall', () => {
  it('runs on, in the context of each of three tenants at once', async () => {
    const { database, pool } = await walledCrm();
    const reports = await Promise.all(
      demoTenants.map(({ id, slug, firstUser }) =>
        run({ tenant: id, user: firstUser.id }, () =>
          runLegacyWorkload(pool, { tenantId: id, rng: randomStream(6, slug), iterations: 12, afterContract: true }),
        ),
      ),
    );
    for (const [index, report] of reports.entries()) {
      expect(report.errors).toEqual([]);
      expect(report.iterations).toBe(12);
      expect(Object.entries(report.operations).filter(([, count]) => count === 0)).toEqual([['importCustomer', 0]]);
      const left = await database.query(
        'select distinct c.tenant_id, n.partywall_tenant_id as note from customers c join notes n on n.customer_id = c.id where c.id = any($1)',
        [report.customers],
      );
      expect(left.rows).toEqual([{ tenant_id: demoTenants[index]?.id, note: demoTenants[index]?.id }]);
    }
  });
});

describe('what the legacy workload knows', () => {
  it('names a tenant column only for the tables that always had one', () => {
    const own: readonly LegacyStatement[] = [
      'listCustomers',
      'listStages',
      'listUsers',
      'listOpenDeals',
      'touchUser',
      'insertCustomer',
      'importCustomer',
      'importCustomerOnce',
      'upsertTag',
    ];
    const naming = Object.entries(legacyStatements).filter(([, text]) => text.includes('tenant'));
    expect(naming.map(([name]) => name)).toEqual(own);
    for (const [name, text] of naming) expect(text, name).not.toMatch(/(into|update) (contacts|deals|activities|notes|files|customer_tags)/);
  });
});

describe('the legacy workload notices', () => {
  it('a new column that its inserts do not fill', async () => {
    const database = await loadedDatabase();
    await database.query('alter table notes add column tenant_id uuid not null default gen_random_uuid(); alter table notes alter tenant_id drop default');
    expect(await firstErrors(database.url)).toEqual([expect.objectContaining({ statement: 'insertNote', code: '23502' })]);
  });

  it('a new column whose name its joins already use', async () => {
    const database = await loadedDatabase();
    await database.query('alter table deals add column tenant_id uuid');
    expect(await firstErrors(database.url)).toEqual([expect.objectContaining({ statement: 'listOpenDeals', code: '42702' })]);
  });

  it('a policy that lets an update touch nothing without an error', async () => {
    const database = await loadedDatabase();
    const role = `legacy_${suffix()}`;
    await database.query(
      `create role ${role} login; grant all on all tables in schema public to ${role}; grant all on all sequences in schema public to ${role}`,
    );
    try {
      await database.query(`alter table activities enable row level security;
        create policy r on activities for select using (true); create policy w on activities for insert with check (true)`);
      expect(await firstErrors(database.urlAs(role))).toEqual([{ statement: 'finishActivity', code: 'rows', message: 'touched 0 rows, expected 1' }]);
    } finally {
      await database.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  it('a unique that is no longer what it upserts by, and leaves it out after contract', async () => {
    const database = await loadedDatabase();
    await database.query('alter table customers drop constraint customers_reference_key, add unique (tenant_id, reference)');
    expect(await firstErrors(database.url)).toEqual([expect.objectContaining({ statement: 'importCustomer', code: '42P10' })]);
    expect(await firstErrors(database.url, { afterContract: true, rng: randomStream(4, 'errors') })).toEqual([]);
  });

  it('a composite key whose SET NULL also empties the tenant', async () => {
    const database = await loadedDatabase();
    await database.query(`alter table customers drop constraint customers_parent_id_fkey, add unique (tenant_id, id),
      add foreign key (tenant_id, parent_id) references customers (tenant_id, id) on delete set null`);
    expect(await firstErrors(database.url, { iterations: 6 })).toEqual([expect.objectContaining({ statement: 'deleteCustomer', code: '23502' })]);
  });

  it('a database that is gone', async () => {
    const report = await firstErrors('postgresql://postgres@127.0.0.1:1/none');
    expect(report).toEqual([expect.objectContaining({ statement: 'listCustomers', code: 'ECONNREFUSED' })]);
  });
});

async function loadedDatabase(): Promise<TestDatabase> {
  const database = await createDatabase();
  const client = new pg.Client(database.url);
  await client.connect();
  await loadCrm(client);
  await client.end();
  return database;
}

async function firstErrors(url: string, options: Partial<LegacyOptions> = {}) {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  try {
    return (await runLegacyWorkload(pool, { tenantId: tenant.id, rng: randomStream(3, 'errors'), iterations: 1, ...options })).errors;
  } finally {
    await pool.end();
  }
}
