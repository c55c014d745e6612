/** A process of its own: prints, for each tenant of a list, whether the wall binds what it sends. */
import { createWalledPool, run } from '../../src/index.ts';

const { app, observer, tenants, stays } = JSON.parse(process.argv[2] ?? '{}') as { app: string; observer: string; tenants: string[]; stays?: boolean }; // written by the test
const pool = createWalledPool({ connectionString: app, rollout: { observe: { connectionString: observer }, rerun: 0 } });
const bound = await Promise.all(
  tenants.map((tenant) => run({ tenant }, async () => (await pool.query('select row_security_active($1::regclass) as bound', ['items'])).rows[0]?.bound)),
);
process.stdout.write(JSON.stringify(bound));
if (!stays) await pool.end();
