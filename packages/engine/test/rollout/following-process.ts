import { setTimeout as delay } from 'node:timers/promises';
import { createWalledPool, run } from '@partywall/wall';

/** An application that reads one tenant's rows again and again, and says each time that the wall holds where it did not, or the other way round. */
const { app, system, tenant } = JSON.parse(process.argv[2] ?? '{}') as { app: string; system: string; tenant: string }; // what the test passes
const pool = createWalledPool({ connectionString: app, max: 1, rollout: { observe: { connectionString: system }, rerun: 0 } });
let told: unknown;
for (;;) {
  const { rows } = await run({ tenant }, () => pool.query<{ bound: boolean }>("select row_security_active('public.customers'::regclass) as bound"));
  if (rows[0]?.bound !== told) {
    told = rows[0]?.bound;
    process.stdout.write(told ? 'enforced\n' : 'observed\n');
  }
  await delay(20);
}
