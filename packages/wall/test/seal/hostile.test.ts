import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasBouncer, startBouncer } from '../../../../test/support/pgbouncer.ts';
import { run } from '../../src/index.ts';
import { allItemsOf, ids, tenant } from '../walled-database.ts';
import { hostileStatements, loot } from './hostile.ts';
import { sealedDatabase } from './sealed-database.ts';

/**
 * Rows and errors of everything that the attacker sends, as text: a victim's row in any of it is a leak. On a connection that is taken out: an error
 * of `pool.query` would close it, and with it what was left behind.
 */
async function answers(pool: pg.Pool, texts: readonly string[]): Promise<string[]> {
  const heard: string[] = [];
  const client = await pool.connect();
  for (const text of texts) {
    const answer = await client.query(text).then(
      (result: unknown) => JSON.stringify(result),
      (error: Error) => `${error.message} ${JSON.stringify(error)} ${JSON.stringify(error.cause)}`,
    );
    heard.push(answer);
  }
  client.release();
  return heard;
}

const [attacker, victim] = [1, 2];
/** Bodies of the victim's rows, and of nobody else's. */
const secret = /secret of two/;
const code = /\\\\x[0-9a-f]{64}/;

describe('arbitrary SQL inside one tenant’s request, in a sealed database,', async () => {
  const wall = await sealedDatabase();
  beforeAll(async () => {
    await wall.database.query(`update items set body = 'secret of two ' || id where tenant_id = '${tenant(victim)}'`);
    await wall.database.query('analyze items');
  });

  describe('reads no other tenant', () => {
    // One connection, which the attacker and the victim use in turn.
    const pool = wall.pool({ seal: wall.key, max: 1 });
    test.each(hostileStatements(attacker, victim, wall.app).map((text, at) => [at + 1, text] as const))('%i: %s', (_, text) => attack(pool, text));
  });

  describe('reads no other tenant by strings that end elsewhere than the pool believes', () => {
    // The server takes an escaped quote in what the pool takes for one long string.
    const hidden = `select '\\'' as quote, i.* into temp items from public.items i --'`;
    test.each([
      ['of a transaction', ['begin', "select set_config('standard_conforming' || '_strings', 'off', true)", hidden, 'commit']],
      ['of a session', ["select query_to_xml($x$select set_config('standard_conforming_strings', 'off', false)$x$, true, false, '')", hidden]],
      [
        'of another encoding',
        [
          'begin',
          "select set_config('client' || '_encoding', 'sjis', true)",
          "select E'\u00c1\\' as quote, i.* into temp items from public.items i --'",
          'commit',
        ],
      ],
    ])('%s', (_, texts) => attack(wall.pool({ seal: wall.key, max: 1 }), ...texts));
  });

  describe.skipIf(!hasBouncer && process.env['PARTYWALL_NO_SKIPS'] !== '1')('nor behind PgBouncer in transaction mode, without temporary objects', async () => {
    const bouncer = await startBouncer(wall.database.url, wall.app);
    afterAll(() => bouncer.stop());
    beforeAll(() => wall.database.query(`revoke temporary on database ${wall.database.name} from public`));
    const pool = wall.pool({ connectionString: bouncer.urlAs(wall.app), seal: wall.key, max: 1, preparedStatements: false });
    test.each(hostileStatements(attacker, victim, wall.app).map((text, at) => [at + 1, text] as const))('%i: %s', (_, text) => attack(pool, text));
  });
});

async function attack(pool: pg.Pool, ...texts: string[]): Promise<void> {
  // The control: the victim does read its rows, before and after.
  const read = async (): Promise<void> => {
    const found = await run({ tenant: tenant(victim) }, () => pool.query<{ id: number; body: string }>('select id, body from items'));
    expect(ids(found)).toEqual(allItemsOf(victim));
    for (const { body } of found.rows) expect(body).toMatch(secret);
  };
  await read();
  const heard = await run({ tenant: tenant(attacker) }, () => answers(pool, texts));
  await read();
  heard.push(...(await run({ tenant: tenant(attacker) }, () => answers(pool, loot))));
  for (const answer of heard) {
    expect(answer).not.toMatch(secret);
    expect(answer).not.toMatch(code);
  }
  expect(ids(await run({ tenant: tenant(attacker) }, () => pool.query('select id from items')))).toEqual(allItemsOf(attacker));
}
