import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { CrossTenantError, run, StatementRefusedError, system, TenantContextError, TenantSuspendedError, UnknownTenantError } from '../src/index.ts';
import { allItemsOf, failure, ids, tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const select = 'select id from items';
const own = () => allItemsOf(1);

/** Runs `fn` with a connection in the context of tenant 1, or of the one given. */
function as<Result>(fn: (client: pg.PoolClient) => Promise<Result>, id = tenant(1), pool = shared): Promise<Result> {
  return run({ tenant: id }, async () => {
    const client = await pool.connect();
    try {
      return await fn(client);
    } finally {
      client.release();
    }
  });
}
const shared = wall.pool({ max: 1 });

describe('an explicit transaction', () => {
  test('enters the tenant before its first data statement, and commits what it writes', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query("insert into items (id, body) values (100001, 'new')");
      await client.query('commit');
      expect(ids(await client.query(select))).toEqual([...own(), 100001]);
    });
    const { rows } = await wall.database.query('select tenant_id from items where id = 100001');
    expect(rows).toEqual([{ tenant_id: tenant(1) }]);
    await wall.database.query('delete from items where id = 100001');
  });

  test('rolls back what it wrote', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query('delete from items');
      expect(ids(await client.query(select))).toEqual([]);
      await client.query('rollback');
      expect(ids(await client.query(select))).toEqual(own());
    });
  });

  test.each([
    ['BEGIN ISOLATION LEVEL SERIALIZABLE', 'serializable'],
    ['start transaction isolation level repeatable read, read only', 'repeatable read'],
  ])('%s keeps its isolation', async (begin, isolation) => {
    await as(async (client) => {
      await client.query(begin);
      expect(ids(await client.query(select))).toEqual(own());
      expect((await client.query('show transaction_isolation')).rows).toEqual([{ transaction_isolation: isolation }]);
      await client.query('commit');
    });
  });

  test('takes SET TRANSACTION, SET LOCAL and SHOW by themselves after BEGIN, as TypeORM sends them', async () => {
    await as(async (client) => {
      await client.query('START TRANSACTION');
      await client.query('SHOW transaction_isolation');
      await client.query("SET LOCAL lock_timeout = '1s'");
      await client.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
      expect(ids(await client.query(select))).toEqual(own());
      expect((await client.query('show transaction_isolation')).rows).toEqual([{ transaction_isolation: 'serializable' }]);
      await client.query('COMMIT');
    });
  });

  test('enters again after COMMIT AND CHAIN and ROLLBACK AND CHAIN', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query(select);
      for (const chain of ['commit and chain', 'rollback and chain', 'commit work and chain']) {
        await client.query(chain);
        expect(ids(await client.query(select))).toEqual(own());
      }
      await client.query('commit and no chain');
      expect(client.getTransactionStatus()).toBe('I');
      expect(ids(await client.query(select))).toEqual(own());
    });
  });

  test('keeps the tenant through savepoints, and enters again after going back to one', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query('savepoint a');
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('rollback to savepoint a');
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('savepoint b');
      await client.query('release savepoint b');
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('rollback to a');
      await client.query('release a');
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('commit');
    });
  });

  test('holds the lock on the tenant again after going back to a savepoint, so that a suspension waits for it', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query('savepoint a');
      await client.query(select);
      await client.query('rollback to a');
      await client.query(select);
      const free = await wall.database.query('select pg_try_advisory_xact_lock(hashtextextended($1, 0)) as free', [`partywall:${tenant(1)}`]);
      expect(free.rows).toEqual([{ free: false }]);
      await client.query('commit');
    });
  });

  test('sends nothing in front of a statement in the failed state, and lets it be rolled back', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query(select);
      expect(await failure(client.query('select 1/0'))).toMatchObject({ code: '22012' });
      expect(await failure(client.query(select))).toMatchObject({ code: '25P02' });
      await client.query('rollback');
      expect(ids(await client.query(select))).toEqual(own());
    });
  });

  test('recovers from a failure by its savepoint', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query('savepoint a');
      expect(await failure(client.query('select 1/0'))).toMatchObject({ code: '22012' });
      await client.query('rollback to a');
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('commit');
    });
  });

  test('answers COMMIT of a failed transaction as PostgreSQL does, with ROLLBACK', async () => {
    await as(async (client) => {
      await client.query('begin');
      expect(await failure(client.query('select 1/0'))).toMatchObject({ code: '22012' });
      expect((await client.query('commit')).command).toBe('ROLLBACK');
    });
  });

  test('takes queries that are not awaited one by one', async () => {
    await as(async (client) => {
      const results = await Promise.all([client.query('begin'), client.query(select), client.query(select), client.query('commit'), client.query(select)]);
      expect([1, 2, 4].map((at) => ids(results[at] ?? { rows: [] }))).toEqual([own(), own(), own()]);
    });
  });

  test('does not leave the tenant in an unset parameter: after it, the setting reads empty and counts as none', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query(select);
      await client.query('commit');
    });
    const client = await shared.connect();
    const { rows } = await system('look', () => client.query("select current_setting('backtrace_functions') as left"));
    expect(rows).toEqual([{ left: '' }]);
    expect(await failure(system('look', () => client.query('select partywall.tenant_id()')))).toBeInstanceOf(TenantContextError);
    client.release();
  });
});

describe('one transaction, one context', () => {
  test("another tenant's context is refused before anything is sent", async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query(select);
      const error = await failure(run({ tenant: tenant(2) }, () => client.query(select)));
      expect(error).toBeInstanceOf(CrossTenantError);
      expect(error.message).toBe(
        `sending "select" in the context of tenant "${tenant(2)}" on a connection whose transaction is in the context of tenant "${tenant(1)}"`,
      );
      // The transaction is as it was.
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('commit');
    });
  });

  test('the context of BEGIN counts, before any data statement', async () => {
    await as(async (client) => {
      await client.query('begin');
      expect(await failure(run({ tenant: tenant(2) }, () => client.query(select)))).toBeInstanceOf(CrossTenantError);
      await client.query('rollback');
    });
  });

  test('a nested context inside a savepoint cannot take the outer transaction over', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query('savepoint a');
      expect(await failure(run({ tenant: tenant(2) }, () => client.query(select)))).toBeInstanceOf(CrossTenantError);
      await client.query('release a');
      expect(ids(await client.query(select))).toEqual(own());
      await client.query('commit');
    });
  });

  test("a system context is refused in a tenant's transaction, and the other way round", async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query(select);
      expect(await failure(system('a test', () => client.query('select 1')))).toBeInstanceOf(CrossTenantError);
      await client.query('rollback');
      await system('a test', () => client.query('begin'));
      expect(await failure(client.query(select))).toBeInstanceOf(CrossTenantError);
      await system('a test', () => client.query('rollback'));
    });
  });

  test('even ROLLBACK and COMMIT belong to it', async () => {
    const pool = wall.pool({ max: 1 });
    await as(
      async (client) => {
        await client.query('begin');
        for (const end of ['commit', 'rollback']) {
          expect(await failure(run({ tenant: tenant(2) }, () => client.query(end)))).toBeInstanceOf(CrossTenantError);
        }
        await client.query('rollback');
      },
      tenant(1),
      pool,
    );
  });

  test('the next transaction may be of another tenant', async () => {
    const client = await shared.connect();
    for (const n of [1, 2]) {
      await run({ tenant: tenant(n) }, async () => {
        await client.query('begin');
        expect(ids(await client.query(select))).toEqual(allItemsOf(n));
        await client.query('commit');
      });
    }
    client.release();
  });

  test('the database refuses a second tenant in one transaction too', async () => {
    const client = await wall.client();
    await client.query('begin');
    await client.query('select partywall.enter($1)', [tenant(1)]);
    await client.query('select partywall.enter($1)', [tenant(1).toUpperCase()]);
    expect(await failure(client.query('select partywall.enter($1)', [tenant(2)]))).toMatchObject({ code: 'PW007' });
    await client.query('rollback');
    await client.query('begin');
    await client.query('select partywall.enter_since($1, null)', [tenant(1)]);
    expect(await failure(client.query('select partywall.enter_since($1, 0)', [tenant(2)]))).toMatchObject({ code: 'PW007' });
    await client.query('rollback');
  });
});

describe('a tenant that is not admitted inside an explicit transaction', () => {
  const pool = wall.pool({ max: 1 });
  const unknown = tenant(999);

  test('has its transaction rolled back at once', async () => {
    await as(
      async (client) => {
        await client.query('begin');
        expect(await failure(client.query(select))).toBeInstanceOf(UnknownTenantError);
        // Read through another session: nothing is idle in a transaction, although the application has not said ROLLBACK.
        await expect.poll(() => inTransaction()).toBe(0);
        await client.query('rollback');
      },
      unknown,
      pool,
    );
  });

  test('gets its refusal for every statement until ROLLBACK, and nothing is sent', async () => {
    await as(
      async (client) => {
        await client.query('begin');
        const refusal = await failure(client.query(select));
        for (const text of [select, 'select 1', 'savepoint a', 'rollback to a', 'begin', "insert into countries values ('xx')"]) {
          expect(await failure(client.query(text))).toBe(refusal);
        }
        expect((await client.query('rollback')).command).toBe('ROLLBACK');
        expect((await client.query('show server_version')).rows).toHaveLength(1);
      },
      unknown,
      pool,
    );
    expect(pool.idleCount).toBe(1);
  });

  test('gets its refusal from COMMIT, and the connection is usable again', async () => {
    await as(
      async (client) => {
        await client.query('begin');
        const refusal = await failure(client.query(select));
        expect(await failure(client.query('commit'))).toBe(refusal);
        expect(client.getTransactionStatus()).toBe('I');
        expect((await client.query('show server_version')).rows).toHaveLength(1);
      },
      unknown,
      pool,
    );
  });

  test('refuses what was already queued behind it, and a release makes the connection good again', async () => {
    await as(
      async (client) => {
        const outcomes = await Promise.allSettled([client.query('begin'), client.query(select), client.query(select), client.query('commit')]);
        expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected']);
      },
      unknown,
      pool,
    );
    await as(async (client) => expect(await failure(client.query('begin').then(() => client.query(select)))).toBeInstanceOf(UnknownTenantError), unknown, pool);
    expect(ids(await run({ tenant: tenant(1) }, () => pool.query(select)))).toEqual(own());
    expect(pool.totalCount).toBe(1);
  });

  test('can be admitted in a transaction that runs already, when it was suspended after a savepoint', async () => {
    await as(
      async (client) => {
        await client.query('begin');
        await client.query('savepoint a');
        await client.query(select);
        await client.query('rollback to a');
        await wall.setState(tenant(1), 'suspended');
        expect(await failure(client.query(select))).toBeInstanceOf(TenantSuspendedError);
        await client.query('rollback');
        await wall.setState(tenant(1), 'active');
        expect(ids(await client.query(select))).toEqual(own());
      },
      tenant(1),
      pool,
    );
  });

  async function inTransaction(): Promise<number> {
    const { rows } = await wall.database.query<{ n: number }>(
      "select count(*)::int as n from pg_stat_activity where datname = current_database() and usename = $1 and state like 'idle in transaction%'",
      [wall.app],
    );
    return rows[0]?.n ?? -1;
  }
});

describe('a string of several statements', () => {
  test('runs in one transaction of the tenant, with the results as pg gives them', async () => {
    await as(async (client) => {
      const results = (await client.query(
        "select 1 as one; select id from items; insert into items (id, body) values (100002, 'x'); select 2 as two",
      )) as unknown;
      const list = results as pg.QueryResult[]; // pg gives a list for several statements; its types do not say so
      expect(list.map((result) => result.command)).toEqual(['SELECT', 'SELECT', 'INSERT', 'SELECT']);
      expect(ids(list[1] ?? { rows: [] })).toEqual(own());
      expect(list[3]?.rows).toEqual([{ two: 2 }]);
      await client.query('delete from items where id = 100002');
    });
  });

  test('writes nothing when one of them fails', async () => {
    await as(async (client) => {
      expect(await failure(client.query('delete from items; select 1/0'))).toMatchObject({ code: '22012' });
      expect(client.getTransactionStatus()).toBe('I');
      expect(ids(await client.query(select))).toEqual(own());
    });
  });

  test('runs inside an explicit transaction, as its first statement and later', async () => {
    await as(async (client) => {
      await client.query('begin');
      await client.query('select 1; delete from items');
      expect(ids(await client.query(select))).toEqual([]);
      await client.query('select 1; select 2');
      await client.query('rollback');
      expect(ids(await client.query(select))).toEqual(own());
    });
  });

  test('is refused for a tenant that is not admitted, and nothing of it runs', async () => {
    await as(async (client) => expect(await failure(client.query('select 1; select 2'))).toBeInstanceOf(UnknownTenantError), tenant(999));
    await as(async (client) => {
      await client.query('begin');
      expect(await failure(client.query('select 1; select 2'))).toBeInstanceOf(UnknownTenantError);
      await client.query('rollback');
    }, tenant(999));
    expect(shared.totalCount).toBe(1);
  });

  test.each([
    'begin; select id from items',
    'select id from items; commit; select id from items',
    'rollback; begin',
    'select 1; rollback to a; select id from items',
  ])('is refused where it holds transaction control: %s', async (text) => {
    const error = await failure(as((client) => client.query(text)));
    expect(error).toBeInstanceOf(StatementRefusedError);
    expect(error.message).toContain('among other statements');
  });

  test('may hold dollar-quoted bodies with anything in them', async () => {
    await as(async (client) => {
      const results = (await client.query("do $$ begin perform 1; -- commit;\n end $$; select 'a; commit; b' as text")) as unknown;
      expect((results as pg.QueryResult[])[1]?.rows).toEqual([{ text: 'a; commit; b' }]); // as above
    });
  });
});

describe('an empty string', () => {
  test('gives an empty result, as in pg', async () => {
    await as(async (client) => {
      expect((await client.query('')).rows).toEqual([]);
      expect((await client.query('-- nothing')).rows).toEqual([]);
      expect((await client.query(' ; ; ')).rows).toEqual([]);
    });
  });
});

test('a procedure that commits loses the context, and everything after it is refused', async () => {
  await wall.database.query(`create procedure leave() language plpgsql as $$ begin
    insert into items (id, body) values (100003, 'before'); commit; insert into items (id, body) values (100004, 'after'); end $$;
    grant execute on procedure leave() to ${wall.app}`);
  await as(async (client) => {
    const error = await failure(client.query('call leave()'));
    // Depending on the version, COMMIT is refused inside the implicit transaction, or leaves no context behind it.
    expect([error.code, error.sqlstate]).toContain(error instanceof TenantContextError ? 'PW001' : '2D000');
  });
  const { rows } = await wall.database.query('select tenant_id from items where id >= 100004');
  expect(rows).toEqual([]);
  await wall.database.query('delete from items where id >= 100000');
});

test('a transaction that the application forgets is rolled back, and its connection is not used again', async () => {
  const pool = wall.pool({ max: 1 });
  await as(
    async (client) => {
      await client.query('begin');
      await client.query('delete from items');
    },
    tenant(1),
    pool,
  );
  expect(ids(await run({ tenant: tenant(1) }, () => pool.query(select)))).toEqual(own());
});
