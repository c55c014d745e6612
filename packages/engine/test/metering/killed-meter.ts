import { controlPool } from '../../src/db/control-pool.ts';
import { RequestMeter } from '../../src/metering/requests.ts';
import type { TenancyModel } from '../../src/model/model.ts';

/**
 * A process that counts ten requests, writes them, counts seven more and ends itself by SIGKILL before they are written.
 * Arguments: connection string and tenant.
 */
const [url = '', tenant = ''] = process.argv.slice(2);
const pool = controlPool(url, { purpose: 'test' });
const model = {} as TenancyModel; // the meter does not look at it
const meter = new RequestMeter({ pool, model, clock: () => new Date(), keyring: '' });
const count = (times: number): void => {
  for (let n = 0; n < times; n += 1) meter.count({ tenant, user: undefined, milliseconds: 3, failed: false });
};
count(10);
await meter.flush();
count(7);
process.kill(process.pid, 'SIGKILL');
