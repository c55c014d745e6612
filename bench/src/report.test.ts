import { expect, test } from 'vitest';
import { atLeast, atMost, distribution, median, pairs, percentile, renderTable } from './report.ts';

test('the median of an even number of values lies between the middle two', () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([7])).toBe(7);
});

test('a percentile is interpolated between the nearest ranks and does not depend on the order', () => {
  const values = Array.from({ length: 101 }, (_, n) => 100 - n);
  expect(percentile(values, 99)).toBe(99);
  expect(percentile(values, 0)).toBe(0);
  expect(percentile([10, 20], 75)).toBe(17.5);
  expect(() => percentile([], 50)).toThrow('no values');
});

test('a distribution names its middle, its tail and its worst value', () => {
  expect(distribution([1, 2, 3, 4, 5])).toEqual({ count: 5, p50: 3, p90: 4.6, p99: 4.96, max: 5 });
});

test('pairs interleaves both ways and alternates which goes first', async () => {
  const order: string[] = [];
  const result = await pairs(
    async () => order.push('a'),
    async () => order.push('b'),
    4,
  );
  expect(order.join('')).toBe(`ab${'abbaabba'}`);
  expect(result.a).toHaveLength(4);
  expect(result.b).toHaveLength(4);
});

test('pairs gives the ratio of medians, so one slow run does not decide it', async () => {
  let run = 0;
  const slowOnce = async (): Promise<void> => {
    run += 1;
    const until = performance.now() + (run === 5 ? 50 : 0);
    while (performance.now() < until);
  };
  const result = await pairs(slowOnce, async () => undefined, 9);
  expect(Math.max(...result.a)).toBeGreaterThanOrEqual(50);
  expect(median(result.a)).toBeLessThan(50);
  expect(result.ratio).toBe(median(result.a) / median(result.b));
});

test('a check is kept up to its bound and broken beyond it, in both directions', () => {
  expect(atMost(1.2, { name: 'r', value: 1.2, unit: 'x' }).ok).toBe(true);
  expect(atMost(1.2, { name: 'r', value: 1.21, unit: 'x' }).ok).toBe(false);
  expect(atLeast(2.2, { name: 'r', value: 2.2, unit: 'x' }).ok).toBe(true);
  expect(atLeast(2.2, { name: 'r', value: 2.19, unit: 'x' }).ok).toBe(false);
  expect(atMost(1.2, { name: 'r', value: Number.NaN, unit: 'x' }).ok).toBe(false);
});

test('the table shows bounds beside measurements and marks what is broken', () => {
  const table = renderTable(
    'wall',
    { cpus: 2, node: '24.0.0', postgres: '18.1' },
    {
      checks: [atMost(1.2, { name: 'point read', value: 1.05, unit: 'x raw' }), atLeast(2.2, { name: 'against set_config', value: 2, unit: 'x' })],
      figures: [{ name: 'raw point read', value: 88, unit: 'µs' }],
    },
  );
  expect(table).toBe(
    [
      'wall: 2 CPUs, Node 24.0.0, PostgreSQL 18.1',
      '      what                  measured  bound',
      'ok    point read          1.05 x raw  at most 1.20',
      'FAIL  against set_config         2 x  at least 2.20',
      '      raw point read           88 µs',
    ].join('\n'),
  );
});
