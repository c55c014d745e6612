import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { hasBouncer, startBouncer } from '../../../../test/support/pgbouncer.ts';
import { hmacBlocks } from '../../../engine/src/seal/seal-key.ts';
import { createWalledPool, run, system } from '../../src/index.ts';
import { allItemsOf, ids, itemsPerTenant, tenant, tenantCount } from '../walled-database.ts';
import { observedDatabase } from './observed-database.ts';

const wall = await observedDatabase();
const everything = tenantCount * itemsPerTenant;

describe.skipIf(!hasBouncer && process.env['PARTYWALL_NO_SKIPS'] !== '1')('behind PgBouncer in transaction mode', async () => {
  const bouncer = await startBouncer(wall.database.url, wall.app);
  const observing = await startBouncer(wall.database.url, wall.observer);
  afterAll(() => Promise.all([bouncer.stop(), observing.stop()]));

  test('modes are followed, and rows, writes and statements outside any context are counted as without it', async () => {
    await wall.setModes(['all', '', 'observe'], ['tenant', tenant(2), 'enforce']);
    await wall.seen();
    const pool = createWalledPool({
      connectionString: bouncer.urlAs(wall.app),
      preparedStatements: false,
      max: 4,
      rollout: { observe: { connectionString: observing.urlAs(wall.observer) }, rerun: 0 },
    });
    for (let round = 0; round < 10; round += 1) {
      await Promise.all([
        run({ tenant: tenant(1) }, async () => expect((await pool.query('select id, tenant_id from items')).rowCount).toBe(everything)),
        run({ tenant: tenant(2) }, async () => expect(ids(await pool.query('select id from items'))).toEqual(allItemsOf(2))),
        run({ tenant: tenant(3) }, () => pool.query(`update items set body = body where tenant_id = '${tenant(4)}' and id = 4`)),
        system('look', () => pool.query(`update items set body = body where id = 5`)),
        pool.query('select 1'),
      ]);
    }
    await pool.end();
    const seen = new Map<string, number>();
    for (const { kind, count } of await wall.seen()) seen.set(kind, (seen.get(kind) ?? 0) + count);
    expect(seen).toEqual(
      new Map([
        ['foreign_row', 10 * (everything - itemsPerTenant)],
        ['foreign_write', 10],
        ['no_context', 10],
        ['write_without_context', 10],
      ]),
    );
  });
});

test('a sealed database: enforced tenants enter with their seal, observed ones over a login that needs none', async () => {
  const secret = randomBytes(32);
  const { ipad, opad } = hmacBlocks({ id: 1, secret });
  await wall.database.query('insert into partywall.seal_keys (id, ipad, opad) values ($1, $2, $3)', [1, ipad, opad]);
  const unsealed = 'partywall.enter(text, text), partywall.enter_since(text, bigint), partywall.enter_unit(text, text, bigint)';
  await wall.database.query(
    `revoke execute on function ${unsealed} from ${wall.app}; insert into partywall.facts (name, value) values ('sealed', '{"role": "${wall.app}"}')`,
  );
  await wall.setModes(['all', '', 'observe'], ['tenant', tenant(2), 'enforce']);
  await wall.seen();
  const pool = wall.rolledOut({ seal: `1:${secret.toString('base64url')}` });
  try {
    expect(ids(await run({ tenant: tenant(2) }, () => pool.query('select id from items')))).toEqual(allItemsOf(2));
    expect((await run({ tenant: tenant(1), unit: 'u' }, () => pool.query('select id, tenant_id from items'))).rowCount).toBe(everything);
    expect(JSON.stringify(pool.options)).not.toContain(wall.observer);
  } finally {
    await pool.end();
    await wall.database.query(`grant execute on function ${unsealed} to ${wall.app}; delete from partywall.facts where name = 'sealed'`);
  }
  expect((await wall.seen()).map(({ kind, count }) => [kind, count])).toEqual([['foreign_row', everything - itemsPerTenant]]);
});

test('a pool that hands out no connection outside a context does so while all is observed', async () => {
  await wall.setModes(['all', '', 'observe']);
  const pool = wall.rolledOut({ connectInContext: true });
  const client = await pool.connect();
  expect((await client.query('select id from items')).rowCount).toBe(everything);
  client.release();
  const rows = await new Promise((resolve, reject) =>
    pool.query('select id from items', (error, result) => (error ? reject(error) : resolve(result.rowCount))),
  );
  expect(rows).toBe(everything);
  await pool.end();
});

test('an observed tenant is followed to where it is placed, and enforced there', async () => {
  await wall.setModes(['all', '', 'observe']);
  const elsewhere = await observedDatabase();
  await wall.database.query('update partywall.registry set placement = $1 where tenant_id = $2', ['elsewhere', tenant(6)]);
  const pool = wall.rolledOut({ placements: { elsewhere: elsewhere.database.urlAs(elsewhere.app) } });
  for (let turn = 0; turn < 2; turn += 1) expect(ids(await run({ tenant: tenant(6) }, () => pool.query('select id from items')))).toEqual(allItemsOf(6));
  expect((await run({ tenant: tenant(1) }, () => pool.query('select id from items'))).rowCount).toBe(everything);
  await pool.end();
  await wall.database.query('update partywall.registry set placement = null where tenant_id = $1', [tenant(6)]);
});

test('a process whose work is done ends by itself, without a word to its pool', async () => {
  await wall.setModes(['all', '', 'observe']);
  const script = path.join(import.meta.dirname, 'who-serves.ts');
  const input = JSON.stringify({ app: wall.database.urlAs(wall.app), observer: wall.database.urlAs(wall.observer), tenants: [tenant(1)], stays: true });
  const { stdout } = await promisify(execFile)(process.execPath, ['--conditions=partywall-source', script, input], { timeout: 30_000 });
  expect(JSON.parse(stdout)).toEqual([false]);
});

test('a pool that is ended before it has heard of the modes, or was never used, ends', async () => {
  const unused = wall.rolledOut();
  await unused.end();
  const hasty = wall.rolledOut();
  const answer = run({ tenant: tenant(1) }, () => hasty.query('select id from items')).catch((error: Error) => error.message);
  await hasty.end();
  expect(await answer).toBe('Cannot use a pool after calling end on the pool');
});
