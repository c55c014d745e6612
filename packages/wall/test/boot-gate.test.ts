import type pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { suffix } from '../../../test/support/database.ts';
import { createWalledPool, run, WalledClient, WallNotHeldError } from '../src/index.ts';
import { allItemsOf, failure, ids, tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const { database, app } = wall;
const select = 'select id from items';
const server = Number((await database.query<{ server_version_num: string }>('show server_version_num')).rows[0]?.server_version_num);

/** An owner's privileges go with the table. */
const giveBack = `alter table items owner to postgres; grant select, insert, update, delete on items to ${app}`;

/** The reason for which a new pool refuses, undefined where it serves. */
async function refusal(config: pg.PoolConfig = {}): Promise<string | undefined> {
  const pool = createWalledPool({ connectionString: database.urlAs(app), max: 1, ...config });
  try {
    await run({ tenant: tenant(1) }, () => pool.query(select));
    return undefined;
  } catch (error) {
    if (error instanceof WallNotHeldError) return error.message;
    throw error;
  } finally {
    await pool.end();
  }
}

/** Breaks the wall in one way, sees why the pool refuses, and repairs it. */
async function broken(breaking: string, repair: string, config?: pg.PoolConfig): Promise<string | undefined> {
  await database.query(breaking);
  try {
    return await refusal(config);
  } finally {
    await database.query(repair);
  }
}

test('a sound wall passes', async () => {
  expect(await refusal()).toBeUndefined();
});

describe('the role', () => {
  test('is refused as a superuser', async () => {
    expect(await broken(`alter role ${app} superuser`, `alter role ${app} nosuperuser`)).toContain('superuser');
    expect(await refusal({ connectionString: database.url })).toContain('connecting as role "postgres"');
  });

  test('is refused with BYPASSRLS', async () => {
    expect(await broken(`alter role ${app} bypassrls`, `alter role ${app} nobypassrls`)).toContain('BYPASSRLS');
  });

  test('is refused when it can become a role with either', async () => {
    const powerful = `wall_powerful_${suffix()}`;
    await database.query(`create role ${powerful} bypassrls`);
    expect(await broken(`grant ${powerful} to ${app}`, `revoke ${powerful} from ${app}`)).toContain(`can SET ROLE to "${powerful}"`);
    expect(await refusal()).toBeUndefined();
    await database.query(`drop role ${powerful}`);
  });

  test('may be a member that cannot become it, on servers that know the difference', async () => {
    const powerful = `wall_powerful_${suffix()}`;
    const knows = server >= 160_000;
    await database.query(`create role ${powerful} bypassrls; grant ${powerful} to ${app}${knows ? ' with set false' : ''}`);
    if (knows) expect(await refusal()).toBeUndefined();
    else expect(await refusal()).toContain('can SET ROLE');
    await database.query(`drop role ${powerful}`);
  });

  test('is refused when a superuser logged in and set the role', async () => {
    expect(await refusal({ connectionString: database.url, options: `-c role=${app}` })).toContain('the role it logged in as, is a superuser');
  });

  test('is refused when it owns a walled table, or is a member of the owner', async () => {
    expect(await broken(`alter table items owner to ${app}`, giveBack)).toContain('owns table public.items');
    const owner = `wall_owner_${suffix()}`;
    await database.query(`create role ${owner}; alter table items owner to ${owner}`);
    expect(await broken(`grant ${owner} to ${app}`, `revoke ${owner} from ${app}`)).toContain('owns table public.items');
    await database.query(`${giveBack}; drop role ${owner}`);
  });
});

describe('the tables', () => {
  test('are refused without row level security', async () => {
    const message = await broken('alter table items disable row level security', 'alter table items enable row level security');
    expect(message).toContain('row level security does not bind it on table public.items');
  });

  test('need not have it yet before contract, but the role must be right', async () => {
    await database.query(`update partywall.facts set value = '"expand"' where name = 'phase'`);
    expect(await broken('alter table items disable row level security', 'alter table items enable row level security')).toBeUndefined();
    expect(await broken(`alter role ${app} bypassrls`, `alter role ${app} nobypassrls`)).toContain('BYPASSRLS');
    expect(await broken(`alter table items owner to ${app}`, giveBack)).toContain('owns table');
    await database.query(`update partywall.facts set value = '"contract"' where name = 'phase'`);
  });

  test('may lie in schemas that the role may not use, and be gone', async () => {
    await database.query(`create schema "Other Schema"; create table "Other Schema"."Odd.Name" (a int);
      update partywall.facts set value = value || '[{"schema": "Other Schema", "name": "Odd.Name"}, {"schema": "public", "name": "gone"}]' where name = 'walled_tables'`);
    expect(await refusal()).toContain('on table Other Schema.Odd.Name');
    await database.query('alter table "Other Schema"."Odd.Name" enable row level security');
    expect(await refusal()).toBeUndefined();
  });

  test('are refused when nobody has recorded any', async () => {
    await database.query("create table kept as select * from partywall.facts; delete from partywall.facts where name = 'walled_tables'");
    expect(await refusal()).toContain('no table has been walled');
    await database.query('delete from partywall.facts; insert into partywall.facts select * from kept; drop table kept');
  });
});

describe('the session', () => {
  test('is refused inside a standing tenant, of the role, the database or the connection', async () => {
    const standing = `set partywall.tenant_id = '${tenant(2)}'`;
    for (const target of [`role ${app}`, `database ${database.name}`]) {
      expect(await broken(`alter ${target} ${standing}`, `alter ${target} reset all`)).toContain(`begin inside tenant "${tenant(2)}"`);
    }
    expect(await refusal({ options: `-c partywall.tenant_id=${tenant(2)}` })).toContain('begin inside tenant');
  });

  test('is refused with row_security off', async () => {
    expect(await broken(`alter role ${app} set row_security = off`, `alter role ${app} reset all`)).toContain('row_security is off');
  });

  test('is refused where a backslash ends no string', async () => {
    expect(await refusal({ options: '-c standard_conforming_strings=off' })).toContain('standard_conforming_strings is off');
  });
});

describe('schema partywall', () => {
  test('is refused where it is not installed', async () => {
    expect(await broken('alter schema partywall rename to away', 'alter schema away rename to partywall')).toContain('schema partywall is not installed');
  });

  test('is refused where the role may not use it', async () => {
    expect(await broken(`revoke usage on schema partywall from ${app}`, `grant usage on schema partywall to ${app}`)).toContain('may not execute');
    const execute = 'execute on function partywall.enter_since(text, bigint)';
    expect(await broken(`revoke ${execute} from ${app}`, `grant ${execute} to ${app}`)).toContain('may not execute');
  });
});

describe('a pool that was refused', () => {
  test('rejects every way to a connection, says why with a hint, and keeps none', async () => {
    await database.query(`alter role ${app} bypassrls`);
    const pool = createWalledPool({ connectionString: database.urlAs(app), max: 2 });
    const attempts = [() => pool.connect(), () => run({ tenant: tenant(1) }, () => pool.query(select)), () => new Promise((_, reject) => pool.connect(reject))];
    for (const attempt of attempts) {
      const error = await failure(attempt());
      expect(error).toBeInstanceOf(WallNotHeldError);
      expect(error).toMatchObject({ code: 'wall_not_held', status: 503 });
      expect(error.hint).toBeTruthy();
    }
    expect(pool.totalCount).toBe(0);
    await database.query(`alter role ${app} nobypassrls`);
    // Repaired, it serves without a restart.
    expect(ids(await run({ tenant: tenant(1) }, () => pool.query(select)))).toEqual(allItemsOf(1));
    await pool.end();
  });

  test('has ended its session', async () => {
    await database.query(`alter role ${app} bypassrls`);
    const client = new WalledClient(database.urlAs(app));
    expect(await failure(client.connect())).toBeInstanceOf(WallNotHeldError);
    await database.query(`alter role ${app} nobypassrls`);
    await expect.poll(async () => (await database.query('select 1 from pg_stat_activity where usename = $1', [app])).rowCount).toBe(0);
  });
});

describe('queries that do not wait for the connection', () => {
  test('are not sent before the gate is passed, and get its refusal', async () => {
    await database.query(`create table witness (a int); grant insert on witness to ${app}; alter role ${app} bypassrls`);
    const client = new WalledClient(database.urlAs(app));
    const connected = failure(client.connect());
    const early = failure(run({ tenant: tenant(1) }, () => client.query('insert into witness values (1)')));
    expect(await early).toBeInstanceOf(WallNotHeldError);
    expect(await connected).toBe(await early);
    await database.query(`alter role ${app} nobypassrls`);
    expect((await database.query('select from witness')).rowCount).toBe(0);
  });

  test('are sent in order when it is', async () => {
    const client = new WalledClient(database.urlAs(app));
    const connected = client.connect();
    const early = run({ tenant: tenant(1) }, () => Promise.all([client.query(select), client.query('select 2 as two')]));
    await connected;
    expect(ids((await early)[0])).toEqual(allItemsOf(1));
    expect((await early)[1].rows).toEqual([{ two: 2 }]);
    await client.end();
  });

  test('get the reason when there is no connection', async () => {
    const client = new WalledClient({ host: '127.0.0.1', port: 1, user: app });
    const connected = failure(client.connect());
    const early = failure(run({ tenant: tenant(1) }, () => client.query(select)));
    expect(await connected).toMatchObject({ code: 'ECONNREFUSED' });
    expect(await early).toMatchObject({ code: 'ECONNREFUSED' });
  });
});

test('a server that cannot be reached or refuses the login stays the error of pg', async () => {
  const nowhere = createWalledPool({ host: '127.0.0.1', port: 1, user: app });
  expect(await failure(nowhere.connect())).toMatchObject({ code: 'ECONNREFUSED' });
  const nobody = createWalledPool({ connectionString: database.urlAs('nobody_at_all') });
  expect(await failure(nobody.connect())).toMatchObject({ code: '28000' });
});

afterAll(async () => {
  await database.query('drop schema if exists "Other Schema" cascade');
});
