import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();

test('percentiles of a histogram are interpolated inside their bucket', async () => {
  const { rows } = await fixture.control.pool.query<{ p50: number; p95: number; open: number; none: number | null }>(
    `select partywall_control.latency_percentile('{0,0,0,100,0,0,0,0,0,0,0}', 0.5) as p50, partywall_control.latency_percentile('{90,0,0,0,0,0,0,10,0,0,0}', 0.95) as p95,
      partywall_control.latency_percentile('{0,0,0,0,0,0,0,0,0,0,3}', 0.95) as open, partywall_control.latency_percentile('{0,0,0,0,0,0,0,0,0,0,0}', 0.95) as none`,
  );
  expect(rows[0]).toEqual({ p50: 37.5, p95: 750, open: 5000, none: null });
});
