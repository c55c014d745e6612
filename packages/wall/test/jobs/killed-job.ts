import { createSystemPool, createWalledPool } from '../../src/index.ts';
import { forEachTenant } from '../../src/jobs/for-each-tenant.ts';

/** A job that says each tenant it has visited, and stops at the one that it is told, to be killed there. */
const [appUrl = '', systemUrl = '', runKey = '', last = ''] = process.argv.slice(2);
const pool = createWalledPool({ connectionString: appUrl, max: 2 });
const system = createSystemPool({ connectionString: systemUrl, max: 1 });

const work = async ({ tenant }: { tenant: string }): Promise<void> => {
  await pool.query(`insert into items (id, body) values (90000, 'visited')`);
  process.stdout.write(`${tenant}\n`);
  if (tenant === last) await pool.query('select pg_sleep(600)');
};
await forEachTenant({ pool, system, job: 'killed' }, work, { runKey, concurrency: 1 });
