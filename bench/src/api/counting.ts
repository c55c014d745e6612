import { controlPool, RequestMeter } from '@partywall/engine';
import { customersModel, urlAs } from './customers-database.ts';

const tenants = 1_000;

/** Microseconds that counting a request takes, over many tenants and people; what is written later is in the request figures. */
export async function countingMicroseconds(url: string, runs: number): Promise<number> {
  const pool = controlPool(urlAs(url, customersModel.roles.service), { purpose: 'bench' });
  const meter = new RequestMeter({ pool, model: customersModel, clock: () => new Date(), keyring: '' });
  const requests = Array.from({ length: tenants }, (_, at) => ({ tenant: `tenant-${at}`, user: `user-${at}`, milliseconds: at % 700, failed: at % 97 === 0 }));
  const count = (times: number): void => {
    for (let at = 0; at < times; at += 1) {
      const request = requests[at % tenants];
      if (request) meter.count(request);
    }
  };
  count(runs / 10);
  const from = performance.now();
  count(runs);
  const taken = performance.now() - from;
  await pool.end();
  return (taken * 1_000) / runs;
}
