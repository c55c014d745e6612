/** A process that sends what is due, to be killed while it does. Arguments: connection string of the service role, keyring. */
import { controlPool, parseModel } from '@partywall/engine';
import { deliverDue } from '../../src/delivery/deliver.ts';

const [url = '', keyring = ''] = process.argv.slice(2);
const pool = controlPool(url, { purpose: 'test' });
const model = parseModel({ tenant: { table: 'public.tenants' }, roles: { owner: 'o', app: 'a', system: 'y', service: 's' }, tables: {} });
await deliverDue({ pool, model, clock: () => new Date(), keyring }, { allowPrivateTargets: true, timeoutMs: 60_000, leaseMs: 3_000 });
