import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { createDatabase, suffix } from '../../../../test/support/database.ts';
import { sealOf } from '../../../wall/src/seal/seal-keys.ts';
import { literal } from '../../src/db/sql.ts';
import { hmacBlocks } from '../../src/seal/seal-key.ts';
import { contextOf } from '../../src/wall/context-sql.ts';
import { entering } from '../../src/wall/entering.ts';
import { runtimeGrants, runtimeSql } from '../../src/wall/runtime.ts';

const kinds = [
  { keyType: 'uuid', tenants: ['00000000-0000-4000-8000-00000000000a', '00000000-0000-4000-8000-00000000000b'] },
  { keyType: 'bigint', tenants: ['-9223372036854775808', '7'] },
  { keyType: 'integer', tenants: ['-1', '1'] },
  { keyType: 'smallint', tenants: ['-32768', '32767'] },
  { keyType: 'text', tenants: ['a,b\n\'"$%ä😀', 'a'] },
] as const;
const cases = kinds.flatMap((kind) => [true, false].map((isProtected) => ({ ...kind, isProtected, how: isProtected ? 'protected' : 'plain' })));

describe.each(cases)('a context of a $keyType, $how', async ({ keyType, tenants, isProtected }) => {
  const [tenant, other] = tenants;
  const app = `ctx_app_${suffix()}`;
  const database = await createDatabase();
  await database.query(`create role ${app} login`);
  for (const statement of [...runtimeSql({ keyType, unitType: 'text', isProtected }), ...runtimeGrants(app)]) await database.query(statement);
  for (const id of tenants) await database.query('insert into partywall.registry (tenant_id) values ($1)', [id]);
  await database.query(`create table notes (tenant_id ${keyType} not null, unit text, body int); create index on notes (tenant_id);
    insert into notes select case when n % 2 = 0 then ${literal(tenant)} else ${literal(other)} end::${keyType}, null, n from generate_series(1, 20000) n;
    alter table notes enable row level security; create policy p on notes using (tenant_id = partywall.tenant_id());
    grant select on notes to ${app}; analyze notes`);
  const [client, admin] = [new pg.Client(database.urlAs(app)), new pg.Client(database.url)];
  await Promise.all([client.connect(), admin.connect()]);
  afterAll(async () => {
    await Promise.all([client.end(), admin.end()]);
    await database.query(`drop owned by ${app}; drop role ${app}`);
  });
  const inside = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    await client.query('begin');
    try {
      return await work();
    } finally {
      await client.query('rollback');
    }
  };
  const who = async (): Promise<unknown> => (await client.query('select partywall.tenant_id()::text as tenant, partywall.unit_id() as unit')).rows[0];
  const state = (text: string, values: unknown[] = []): Promise<string> =>
    client.query(text, values).then(
      () => 'done',
      (error: pg.DatabaseError) => error.code ?? '',
    );

  test('is what was entered, with its unit, until the transaction ends', async () => {
    await inside(async () => {
      await client.query('select partywall.enter($1)', [tenant]);
      expect(await who()).toEqual({ tenant, unit: null });
    });
    for (const unit of ['u', 'ü,"1"\n', '-']) {
      await inside(async () => {
        await client.query('select partywall.enter($1, $2)', [tenant, unit]);
        expect(await who()).toEqual({ tenant, unit });
      });
    }
    expect(await state('select partywall.tenant_id()')).toBe('PW001');
    expect((await client.query('select partywall.unit_id() as unit')).rows).toEqual([{ unit: null }]);
  });

  test.each(['enter($1, $2)', 'enter_unit($1, $2, null)'])('changes neither tenant nor unit in one transaction, by %s', async (call) => {
    for (const [id, unit] of [
      [other, 'u'],
      [tenant, 'v'],
      [tenant, null],
    ]) {
      await inside(async () => {
        await client.query(`select partywall.${call}`, [tenant, 'u']);
        expect(await state(`select partywall.${call}`, [tenant, 'u'])).toBe('done');
        expect(await state(`select partywall.${call}`, [id, unit])).toBe('PW007');
      });
    }
  });

  test('goes with a savepoint, and RESET ALL leaves none', async () => {
    await inside(async () => {
      await client.query('savepoint a');
      await client.query('select partywall.enter($1)', [tenant]);
      await client.query('rollback to a');
      await client.query('select partywall.enter($1)', [other]);
      expect(await who()).toEqual({ tenant: other, unit: null });
    });
    await inside(async () => {
      await client.query('select partywall.enter($1)', [tenant]);
      await client.query('reset all');
      expect(await state('select count(*) from notes')).toBe('PW001');
    });
  });

  test('is seen by parallel workers, and is an index condition', async () => {
    await inside(async () => {
      await client.query(`select partywall.enter(${literal(tenant)}, 'u')`);
      const { rows } = await client.query<{ 'QUERY PLAN': string }>('explain (costs off) select body from notes where body = 1');
      expect(rows.map((row) => row['QUERY PLAN']).join('\n')).not.toMatch(/SubPlan|InitPlan/);
      await client.query('set local enable_seqscan = off');
      const plan = await client.query<{ 'QUERY PLAN': string }>('explain (costs off) select body from notes');
      expect(plan.rows.map((row) => row['QUERY PLAN']).join('\n')).toMatch(/Index Cond: \(tenant_id = /);
      await client.query(`set local enable_seqscan = on; set local enable_indexscan = off; set local enable_bitmapscan = off; set local enable_indexonlyscan = off;
        set local max_parallel_workers_per_gather = 2; set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0; set local min_parallel_table_scan_size = 0;
        set local parallel_leader_participation = off`);
      expect((await client.query('select count(*)::int as n from notes')).rows).toEqual([{ n: 10_000 }]);
      const parallel = await client.query<{ 'QUERY PLAN': string }>('explain (analyze, costs off, timing off) select count(*) from notes');
      expect(parallel.rows.map((row) => row['QUERY PLAN']).join('\n')).toMatch(/Workers Launched: [12]/);
    });
  });

  test(isProtected ? 'cannot be set by the application' : 'can be set by whoever may run SQL, which verify says', async () => {
    const context = contextOf({ keyType }, other);
    const set = isProtected ? 'backtrace_functions' : 'partywall.tenant_id';
    await inside(async () => {
      await client.query('select partywall.enter($1)', [tenant]);
      expect(await state('select set_config($1, $2, true)', [set, context])).toBe(isProtected ? '42501' : 'done');
    });
  });

  test('is entered with a seal of the application’s, made of any text, and with none that was changed', async () => {
    const key = { id: 1, secret: randomBytes(32) };
    const { ipad, opad } = hmacBlocks(key);
    await database.query('insert into partywall.seal_keys (id, ipad, opad) values (1, $1, $2)', [ipad, opad]);
    const expires = Math.floor(Date.now() / 1_000) + 60;
    const enter = 'select partywall.enter_sealed($1, $2, null, $3, $4, $5)';
    for (const unit of [null, 'u', '1:ü😀\nx']) {
      const mac = sealOf(key, { tenant, unit, expires });
      await inside(async () => {
        await client.query(enter, [tenant, unit, 1, expires, mac]);
        expect(await who()).toEqual({ tenant, unit });
      });
      const flipped = Buffer.from(mac.map((byte, at) => (at === 0 ? byte ^ 1 : byte)));
      for (const values of [
        [other, unit, 1, expires, mac],
        [tenant, `${unit ?? ''}x`, 1, expires, mac],
        [tenant, unit, 1, expires + 1, mac],
        [tenant, unit, 2, expires, mac],
        [tenant, unit, 1, expires, flipped],
        [tenant, unit, 1, expires, mac.subarray(1)],
        [tenant, unit, 1, expires, null],
        [tenant, unit, 1, null, mac],
        [tenant, unit, null, expires, mac],
      ]) {
        expect(await inside(() => state(enter, values))).toBe('PW009');
      }
    }
    for (const [at, what] of [
      [-1, 'expired'],
      [700, 'longer'],
    ] as const) {
      const end = Math.floor(Date.now() / 1_000) + at;
      await expect(inside(() => client.query(enter, [tenant, null, 1, end, sealOf(key, { tenant, unit: null, expires: end })]))).rejects.toThrow(what);
    }
  });

  test('is entered with the database’s own seal, which the application cannot make', async () => {
    const { text, values } = await entering(admin, tenant, 'u');
    await inside(async () => {
      await client.query(text, [...values]);
      expect(await who()).toEqual({ tenant, unit: 'u' });
    });
    for (const call of ["make_seal('x')", "make_stand_in('x', 1)", "set_context('x')"]) expect(await state(`select partywall.${call}`)).toBe('42501');
    expect(await state('select id from partywall.seal_keys')).toBe('42501');
  });

  test('is taken on by a stand-in of this session alone', async () => {
    const standIn = async (process: unknown): Promise<unknown[]> => {
      const context = contextOf({ keyType }, other);
      const { rows } = await database.query<{ expires: string; mac: Buffer }>('select expires, mac from partywall.make_stand_in($1, $2)', [context, process]);
      return [context, rows[0]?.expires, rows[0]?.mac];
    };
    const own = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0;
    await inside(async () => {
      await client.query('select partywall.stand_in($1, $2, $3)', await standIn(own));
      expect(await who()).toEqual({ tenant: other, unit: null });
    });
    expect(await inside(async () => state('select partywall.stand_in($1, $2, $3)', await standIn(own + 1)))).toBe('PW009');
  });
});
