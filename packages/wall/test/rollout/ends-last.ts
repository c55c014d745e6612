/** A process of its own: ends its pool when nothing else keeps it running, and says so. */
import { once } from 'node:events';
import { createWalledPool, run } from '../../src/index.ts';

const { app, observer, tenant } = JSON.parse(process.argv[2] ?? '{}') as { app: string; observer: string; tenant: string }; // written by the test
const pool = createWalledPool({ connectionString: app, idleTimeoutMillis: 1, rollout: { observe: { connectionString: observer }, rerun: 0 } });
const removed = once(pool, 'remove');
await run({ tenant }, () => pool.query('select 1'));
await removed;
await pool.end();
process.stdout.write('ended');
