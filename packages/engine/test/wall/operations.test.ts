import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { readCatalog } from '../../src/catalog/read-catalog.ts';
import { operationsSql } from '../../src/wall/operations-sql.ts';
import { wantedWall } from '../../src/wall/shape.ts';
import { createSoundDatabase, type SoundDatabase } from '../verify/sound-database.ts';

let sound: SoundDatabase;
beforeAll(async () => {
  sound = await createSoundDatabase();
});

const summary = 'select entity_table, problem, via, row_count::int from partywall.orphaned_data_summary order by 1, 2';

/** Breaks the database in a transaction that is rolled back, and reads the summary. */
async function afterwards(statements: readonly string[], read = summary): Promise<unknown[]> {
  const client = new pg.Client(sound.database.url);
  await client.connect();
  try {
    await client.query('begin');
    for (const statement of statements) await client.query(statement);
    const { rows } = await client.query(read);
    return rows;
  } finally {
    await client.query('rollback');
    await client.end();
  }
}

const [tenantA, tenantB] = ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b'];
const asReplica = 'set local session_replication_role = replica';

describe('orphaned_data_summary', () => {
  it('has no row when every row is in its place', async () => {
    expect(await afterwards([])).toEqual([]);
  });

  it('counts rows whose parent is another tenant’s, although the key is valid', async () => {
    const rows = await afterwards([
      asReplica,
      `update contacts set tenant_id = '${tenantB}' where id in (select id from contacts where tenant_id = '${tenantA}' order by id limit 3)`,
    ]);
    expect(rows).toEqual([{ entity_table: 'public.contacts', problem: 'parent of another tenant', via: '(customer_id) → public.customers', row_count: 3 }]);
  });

  it('counts rows whose parent is gone, in a partition too', async () => {
    const rows = await afterwards([
      asReplica,
      `insert into events (tenant_id, customer_id, at, payload) values ('${tenantB}', gen_random_uuid(), '2027-03-03', '{}')`,
    ]);
    expect(rows).toEqual([{ entity_table: 'public.events', problem: 'missing parent', via: '(customer_id) → public.customers', row_count: 1 }]);
  });

  it('counts rows without a tenant and rows of a tenant that is not there, those of an inheritance child under its parent', async () => {
    const rows = await afterwards([
      asReplica,
      'alter table log_lines alter column tenant_id drop not null',
      "insert into log_lines values (null, 'lost'), (gen_random_uuid(), 'stray')",
      `insert into "documents.special" (tenant_id, title, grade) values (gen_random_uuid(), 'x', 1)`,
    ]);
    expect(rows).toEqual([
      { entity_table: 'public.documents', problem: 'unknown tenant', via: 'tenant_id', row_count: 1 },
      { entity_table: 'public.log_lines', problem: 'no tenant', via: 'tenant_id', row_count: 1 },
      { entity_table: 'public.log_lines', problem: 'unknown tenant', via: 'tenant_id', row_count: 1 },
    ]);
  });

  it('says what it could not check, and checks the rest', async () => {
    const rows = await afterwards(['drop view busy_customers, customer_overview', 'drop table contacts']);
    expect(rows).toEqual([expect.objectContaining({ entity_table: 'public.contacts', problem: 'not checked', row_count: null })].concat(rows.slice(1)));
    expect(rows.every((row) => typeof row === 'object' && row !== null && 'problem' in row && row.problem === 'not checked')).toBe(true);
  });

  it('is an error to a role that policies bind, never counts that are too low', async () => {
    const { owner } = sound.model.roles;
    const read = afterwards([
      `grant usage on schema partywall to ${owner}`,
      `grant select on partywall.orphaned_data_summary to ${owner}`,
      `grant execute on function partywall.orphaned_rows() to ${owner}`,
      `set local role ${owner}`,
    ]);
    await expect(read).rejects.toThrow(/row-level security policy/);
  });

  it('is closed to the application and open to its system client', async () => {
    const app = new pg.Client(sound.appUrl);
    const system = new pg.Client(sound.systemUrl);
    await Promise.all([app.connect(), system.connect()]);
    try {
      await expect(app.query(summary)).rejects.toThrow(/permission denied/);
      await expect(app.query('select * from partywall.orphaned_rows()')).rejects.toThrow(/permission denied/);
      expect((await system.query(summary)).rows).toEqual([]);
    } finally {
      await Promise.all([app.end(), system.end()]);
    }
  });
});

describe('what is installed', () => {
  it('is the same text before and after the wall is built, so that installing it again changes nothing', async () => {
    const client = new pg.Client(sound.database.url);
    await client.connect();
    try {
      const now = wantedWall(sound.model, await readCatalog(client));
      const { rows } = await client.query<{ value: unknown }>("select value from partywall.facts where name = 'phase'");
      expect(rows[0]?.value).toBe('contract');
      const body = operationsSql(now).find((statement) => statement.includes('orphaned_rows() returns table'));
      const live = await client.query<{ source: string }>("select prosrc as source from pg_proc where proname = 'orphaned_rows'");
      // Installed in expand, when the references were plain and the columns were missing.
      expect(body).toContain(live.rows[0]?.source);
    } finally {
      await client.end();
    }
  });

  it('can be installed any number of times', async () => {
    const client = new pg.Client(sound.database.url);
    await client.connect();
    try {
      const statements = operationsSql(wantedWall(sound.model, await readCatalog(client)));
      await client.query('begin');
      for (let time = 0; time < 3; time += 1) for (const statement of statements) await client.query(statement);
      await client.query('rollback');
    } finally {
      await client.end();
    }
  });

  it('answers the runbook’s own queries', async () => {
    const prepared = [
      `insert into partywall.recovery_map (entity_table, entity_id, match_method, match_confidence, proposed_fix) values ('public.contacts', '1', 'metadata.unitUid', 100, '{"customer_id": "x"}'), ('public.contacts', '2', 'metadata.schemeId', 50, '{}')`,
      `insert into partywall.demo_seed_log (seed_identifier, status, error) values ('abc-park-production-001', 'failed', 'no such tenant')`,
    ];
    const pending = await afterwards(
      prepared,
      "select entity_id, match_method, match_confidence::float, proposed_fix from partywall.recovery_map where status = 'pending' order by match_confidence desc",
    );
    expect(pending).toEqual([
      { entity_id: '1', match_method: 'metadata.unitUid', match_confidence: 100, proposed_fix: { customer_id: 'x' } },
      { entity_id: '2', match_method: 'metadata.schemeId', match_confidence: 50, proposed_fix: {} },
    ]);
    const failed = await afterwards(
      prepared,
      "select seed_identifier, error, created_entities from partywall.demo_seed_log where status = 'failed' order by created_at desc",
    );
    expect(failed).toEqual([{ seed_identifier: 'abc-park-production-001', error: 'no such tenant', created_entities: [] }]);
  });

  it.each([
    [
      "insert into partywall.recovery_map (entity_table, entity_id, match_method, match_confidence, proposed_fix) values ('t', '1', 'm', 101, '{}')",
      /match_confidence/,
    ],
    [
      "insert into partywall.recovery_map (entity_table, entity_id, match_method, match_confidence, proposed_fix, status) values ('t', '1', 'm', 1, '{}', 'maybe')",
      /status/,
    ],
    ["insert into partywall.demo_seed_log (seed_identifier) values ('twice'), ('twice')", /seed_identifier/],
  ])('refuses %s', async (statement, reason) => {
    await expect(afterwards([statement])).rejects.toThrow(reason);
  });
});
