import { describe, expect, test } from 'vitest';
import { nextStep } from '../../../src/metering/alerts/outbox.ts';

const broken = { kind: 'failed', permanent: false, reason: 'HTTP 503' } as const;

describe('the next attempt', () => {
  test('waits from half of to all of a time that doubles up to a quarter of an hour', () => {
    const waits = (chance: number): number[] => Array.from({ length: 11 }, (_, index) => nextStep(index + 1, broken, chance).waitMs / 1_000);
    expect(waits(1)).toEqual([5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]);
    expect(waits(0)).toEqual([2.5, 5, 10, 20, 40, 80, 160, 320, 450, 450, 450]);
  });

  test('waits as long as the receiver asks, up to the same quarter of an hour', () => {
    expect(nextStep(1, { ...broken, retryAfterMs: 60_000 }, 0).waitMs).toBe(60_000);
    expect(nextStep(1, { ...broken, retryAfterMs: 86_400_000 }, 0).waitMs).toBe(900_000);
  });

  test('is not made after the twelfth, nor where it would go the same way', () => {
    expect(nextStep(12, broken, 0)).toMatchObject({ status: 'failed', failure: 'given up after 12 attempts: HTTP 503' });
    expect(nextStep(1, { ...broken, permanent: true }, 0)).toMatchObject({ status: 'failed', failure: 'HTTP 503' });
    expect(nextStep(12, { kind: 'delivered' }, 0)).toMatchObject({ status: 'delivered', failure: null });
  });
});
