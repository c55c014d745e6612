import { setTimeout } from 'node:timers/promises';
import { createWalledPool, run as inTenant } from '@partywall/wall';
import pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import crmTenancy from '../../../../examples/crm/partywall.config.ts';
import { demoTenants } from '../../../../examples/crm/src/demo-tenants.ts';
import { randomStream } from '../../../../examples/crm/src/random.ts';
import { loadCrm } from '../../../../examples/crm/src/seed.ts';
import { type LegacyReport, runLegacyWorkload } from '../../../../examples/crm/test/legacy-app.ts';
import { createDatabase, type TestDatabase } from '../../../../test/support/database.ts';
import { parseModel } from '../../src/model/model.ts';
import { apply, fixtureTemplate, loadOwned, onDatabase, rollback, template, testRoles } from './databases.ts';
import { fixtureModel, keyKinds } from './fixture.ts';
import { type Writing, type WritingReport, writeOn } from './legacy-writer.ts';

const roles = testRoles();
const tenants = keyKinds.uuid.ids.slice(0, 2);

/** Writes as both tenants while `work` runs, and for a while before and after. */
async function writingWhile(url: string, moved: boolean, work: () => Promise<unknown>): Promise<void> {
  const pool = new pg.Pool({ connectionString: url, max: 4 });
  const stop = new AbortController();
  const rounds = new Map<string, number>();
  const run =
    (tenant: string): Writing['run'] =>
    async (operation) => {
      const client = await pool.connect();
      try {
        await client.query('begin');
        if (moved) await client.query('select partywall.enter($1)', [tenant]);
        await operation(client);
        await client.query('commit');
        rounds.set(tenant, (rounds.get(tenant) ?? 0) + 1);
      } catch (error) {
        await client.query('rollback');
        throw error;
      } finally {
        client.release();
      }
    };
  try {
    const writers = tenants.map((tenant) => writeOn({ tenant, run: run(tenant), moved, signal: stop.signal }).finally(() => stop.abort()));
    const further = async (operations: number) => {
      const before = new Map(rounds);
      const slowest = () => Math.min(...tenants.map((tenant) => (rounds.get(tenant) ?? 0) - (before.get(tenant) ?? 0)));
      while (slowest() < operations && !stop.signal.aborted) await setTimeout(5);
    };
    const worked = further(20)
      .then(work)
      .then(() => further(20))
      .finally(() => stop.abort());
    // Writers end early where one of their statements fails, which says more than what was waited for.
    const reports = await Promise.all(writers);
    expectSound(reports);
    await worked;
  } finally {
    stop.abort();
    await pool.end();
  }
}

function expectSound(reports: readonly WritingReport[]): void {
  for (const { operations, errors } of reports) {
    expect(errors).toEqual([]);
    expect(Object.keys(operations).sort()).toEqual(
      ['customers', 'cycle', 'delete', 'events', 'notes', 'others', 'renamed', 'seats', 'settings', 'upsert'].sort(),
    );
  }
}

describe('an application that knows nothing of a wall', () => {
  const model = fixtureModel(roles);
  let fixture: string;
  beforeAll(async () => {
    fixture = await fixtureTemplate(roles);
  });

  test('writes through expand as the owner and through contract inside a tenant, without an error, and every row has the right tenant', async () => {
    const database = await createDatabase({ template: fixture });
    await writingWhile(database.urlAs(roles.owner), false, async () => {
      const { troubled } = await apply(database.url, model, 'expand');
      expect(troubled).toEqual([]);
    });
    expect((await apply(database.url, model, 'expand')).troubled).toEqual([]);
    await writingWhile(database.urlAs(roles.app), true, () => apply(database.url, model, 'contract'));
    // Whoever wrote a row named its tenant in the only text of it.
    const { rows } = await database.query(
      "select count(*)::int as rows from contacts k join customers c on c.id = k.customer_id where c.code like '%-%-%-%-%-%' and not starts_with(c.code, k.tenant_id::text)",
    );
    expect(rows).toEqual([{ rows: 0 }]);
  });

  test('writes through a rollback inside a tenant, and afterwards as the owner without one', async () => {
    const database = await createDatabase({ template: fixture });
    await apply(database.url, model, 'expand');
    await apply(database.url, model, 'contract');
    await writingWhile(database.urlAs(roles.app), true, () => rollback(database.url, model, 'expanded'));
    await writingWhile(database.urlAs(roles.owner), false, () => rollback(database.url, model, 'nothing'));
  });
});

describe('the CRM', () => {
  const model = parseModel({ ...crmTenancy, roles });
  let loaded: string;
  beforeAll(async () => {
    loaded = await template(async (url) => {
      await onDatabase(url, async (client) => void (await loadCrm(client)));
      await loadOwned(url, 'select 1', roles.owner);
    });
  });

  async function workingWhile(pool: pg.Pool, moved: boolean, work: () => Promise<unknown>): Promise<LegacyReport[]> {
    const stop = new AbortController();
    const working = demoTenants.map(({ id, slug }) => {
      const options = { tenantId: id, rng: randomStream(7, `${slug} ${moved}`), signal: stop.signal, afterContract: moved };
      return moved ? inTenant({ tenant: id }, () => runLegacyWorkload(pool, options)) : runLegacyWorkload(pool, options);
    });
    await work().finally(() => stop.abort());
    return Promise.all(working);
  }

  test('as it was works through expand on plain pg, and through contract with nothing but a walled pool around it', async () => {
    const database: TestDatabase = await createDatabase({ template: loaded });
    const plain = new pg.Pool({ connectionString: database.urlAs(roles.owner), max: 6 });
    const before = await workingWhile(plain, false, () => apply(database.url, model, 'expand')).finally(() => plain.end());
    const walled = createWalledPool({ connectionString: database.urlAs(roles.app), max: 6 });
    const after = await workingWhile(walled, true, () => apply(database.url, model, 'contract')).finally(() => walled.end());
    for (const report of [...before, ...after]) {
      expect(report.errors).toEqual([]);
      expect(report.iterations).toBeGreaterThan(0);
    }
  });
});
