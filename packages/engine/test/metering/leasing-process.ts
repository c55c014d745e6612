import { CallLeases, controlPool, parseModel } from '@partywall/engine';

/** Takes calls of a tenant for ever and prints how many it took, each before the next: for a test that kills it. */
const pool = controlPool(process.env['SERVICE_URL'] ?? '', { purpose: 'test' });
const roles = { owner: 'o', app: 'a', system: 's', service: 'v' };
const model = parseModel({ tenant: { table: 'public.tenants' }, roles, tables: {} });
const leases = new CallLeases({ pool, model, clock: () => new Date(), keyring: '' });
const tenant = process.env['TENANT'] ?? '';
for (let taken = 1; (await leases.take(tenant)).kind === 'admitted'; taken += 1) {
  await new Promise((resolve) => process.stdout.write(`${taken}\n`, resolve));
}
