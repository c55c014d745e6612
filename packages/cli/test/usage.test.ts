import { controlPool, RequestMeter } from '@partywall/engine';
import { afterAll, expect, test } from 'vitest';
import { json, partywall } from './support/command.ts';
import { controlledPortal } from './support/portal.ts';

const on = await controlledPortal();
const { model, service } = on;
const operator = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: service } };

const pool = controlPool(service, { purpose: 'test' });
afterAll(() => pool.end());
const { rows } = await pool.query<{ tenant_id: string }>('select tenant_id from partywall_control.directory order by tenant_id');
const [busy = '', quiet = ''] = rows.map((row) => row.tenant_id);
const meter = new RequestMeter({ pool, model, clock: () => new Date(), keyring: '' });
for (let n = 0; n < 9; n += 1) meter.count({ tenant: busy, user: 'somebody', milliseconds: 40, failed: n === 0 });
meter.count({ tenant: quiet, user: undefined, milliseconds: 700, failed: false });
await meter.flush();

test('usage shows what a tenant uses, after a survey with its rows', async () => {
  const { status, stdout } = await partywall(['usage', busy, '--survey'], operator);
  expect(status).toBe(0);
  expect(stdout).toContain('surveyed 2 of 2 tables');
  expect(stdout).toMatch(/^last 24 hours +9 calls, 1 errors \(11\.1 %\), 40 ms on average/m);
  expect(stdout).toMatch(/^public\.customers +\d+ rows$/m);
  expect(json(await partywall(['usage', busy, '--json', '--hours', '1'], operator))).toMatchObject({ tenantId: busy, requests: { hours: 1, calls: 9 } });
});

test('usage without a tenant shows the whole system', async () => {
  const { stdout } = await partywall(['usage'], operator);
  expect(stdout).toMatch(/^last hour +10 calls, 1 errors/m);
  expect(stdout).toMatch(/^connections +\d+ of \d+$/m);
});

test('top orders tenants by what they use', async () => {
  expect((await partywall(['top'], operator)).stdout).toMatch(/9 calls {3}90\.0 %.*1 calls {3}10\.0 %.*all tenants: 10 calls in 24 hours/s);
  expect(json(await partywall(['top', '--by', 'time', '--limit', '1', '--json'], operator))).toMatchObject({
    total: 1060,
    items: [{ tenantId: quiet, value: 700 }],
  });
  expect((await partywall(['top', '--by', 'connections'], operator)).stdout).toBe('no tenant has any connections\n');
});

test('what cannot be asked ends with 2', async () => {
  expect(await partywall(['usage', 'nobody'], operator)).toMatchObject({ status: 2, stderr: expect.stringContaining('there is no such tenant') });
  expect(await partywall(['usage', busy, '--hours', '0'], operator)).toMatchObject({ status: 2 });
  expect(await partywall(['top', '--by', 'secrets'], operator)).toMatchObject({ status: 2 });
  expect(await partywall(['top'], { cwd: on.cwd })).toMatchObject({ status: 2, stderr: expect.stringContaining('PARTYWALL_SERVICE_URL') });
  const nowhere = { cwd: on.cwd, env: { PARTYWALL_SERVICE_URL: 'postgresql://service:secret@127.0.0.1:1/none' } };
  const { status, stderr } = await partywall(['top'], nowhere);
  expect(status).toBe(2);
  expect(stderr).not.toContain('secret');
});
