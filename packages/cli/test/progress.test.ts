import { expect, test } from 'vitest';
import { duration, plainFilter, progressLine } from '../src/progress.ts';

test('a line shows count, share, rate and time left', () => {
  expect(progressLine({ label: 'filling public.notes', done: 120_000, total: 400_000, unit: 'rows' }, 3_000)).toBe(
    'filling public.notes  120,000 of 400,000 rows  30 %  40,000/s  7 s left',
  );
});

test('a rate from less than a second is not shown', () => {
  expect(progressLine({ label: 'a', done: 5, total: 10, unit: 'rows' }, 999)).toBe('a  5 of 10 rows  50 %');
});

test('an unknown total shows the count only, an empty one no share', () => {
  expect(progressLine({ label: 'a', done: 2_000, unit: 'rows' }, 2_000)).toBe('a  2,000 rows  1,000/s');
  expect(progressLine({ label: 'a', done: 0, total: 0, unit: 'rows' }, 0)).toBe('a  0 of 0 rows');
});

test('what is done has no time left', () => {
  expect(progressLine({ label: 'a', done: 4_000, total: 4_000, unit: 'rows' }, 2_000)).toBe('a  4,000 of 4,000 rows  100 %  2,000/s');
});

test('without a terminal each label is printed once, and again every five seconds', () => {
  let at = 0;
  const wanted = plainFilter(() => at);
  const steps = [
    [0, 'a'],
    [100, 'a'],
    [4_999, 'a'],
    [5_000, 'a'],
    [5_100, 'b'],
    [5_200, 'b'],
  ] as const;
  const printed = steps.filter(([time, label]) => {
    at = time;
    return wanted({ label, done: 0, unit: 'rows' });
  });
  expect(printed).toEqual([
    [0, 'a'],
    [5_000, 'a'],
    [5_100, 'b'],
  ]);
});

test('durations are round', () => {
  expect([0.4, 7.4, 89, 120, 5_399, 7_200].map(duration)).toEqual(['under 1 s', '7 s', '89 s', '2 min', '90 min', '2.0 h']);
});
