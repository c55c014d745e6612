import { expect, test } from 'vitest';
import { QuotaExceededError, run } from '../src/index.ts';
import { tenant, walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();
const pool = wall.pool({ max: 1 });

/** What the walled pool makes of an error that the database raises for an exceeded quota. */
async function raised(detail: string): Promise<unknown> {
  const statement = `do $$ begin raise exception 'exceeded' using errcode = 'PW008', detail = '${detail}'; end $$`;
  return run({ tenant: tenant(1) }, () => pool.query(statement)).catch((error: unknown) => error);
}

test('an exceeded quota has its numbers', async () => {
  const error = await raised('{"quota": "customers", "limit": 100, "usage": 98, "requested": 5}');
  expect(error).toBeInstanceOf(QuotaExceededError);
  expect(error).toMatchObject({ code: 'quota_exceeded', sqlstate: 'PW008', status: 403, quota: 'customers', limit: 100, usage: 98, requested: 5, reset: null });
});

test.each(['', 'nothing of ours', '[1]', 'null', '{"limit": {"a": 1}}', '"text"'])('a detail of %j from somebody else’s error does no harm', async (detail) => {
  const error = await raised(detail);
  expect(error).toBeInstanceOf(QuotaExceededError);
  expect(error).toMatchObject({ message: `tenant "${tenant(1)}": exceeded`, quota: '' });
  const { rows } = await run({ tenant: tenant(1) }, () => pool.query('select 1 as one'));
  expect(rows).toEqual([{ one: 1 }]);
});
