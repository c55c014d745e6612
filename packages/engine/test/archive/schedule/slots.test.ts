import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nextSlot, slotBegin, slotNames } from '../../../src/archive/schedule/slots.ts';

const times = fc.date({ min: new Date('1999-01-01T00:00:00Z'), max: new Date('2099-01-01T00:00:00Z'), noInvalidDate: true });

describe('slots', () => {
  test('every time is in one slot of each name, which ends where the next begins', () => {
    fc.assert(
      fc.property(times, fc.constantFrom(...slotNames), (at, name) => {
        const begin = slotBegin(name, at);
        const next = nextSlot(name, at);
        expect(begin <= at && at < next).toBe(true);
        expect(slotBegin(name, next)).toEqual(next);
        expect(slotBegin(name, new Date(next.getTime() - 1))).toEqual(begin);
      }),
    );
  });

  test.each([
    ['daily', '2026-11-21T01:59:59Z', '2026-11-20T02:00:00Z'],
    ['daily', '2026-11-21T02:00:00Z', '2026-11-21T02:00:00Z'],
    ['weekly', '2026-11-21T12:00:00Z', '2026-11-15T02:00:00Z'],
    ['weekly', '2026-11-22T01:00:00Z', '2026-11-15T02:00:00Z'],
    ['weekly', '2026-11-22T02:00:00Z', '2026-11-22T02:00:00Z'],
    ['monthly', '2026-03-01T01:59:00Z', '2026-02-01T02:00:00Z'],
    ['monthly', '2026-01-01T02:00:00Z', '2026-01-01T02:00:00Z'],
  ] as const)('the %s slot of %s began at %s', (name, at, begin) => {
    expect(slotBegin(name, new Date(at))).toEqual(new Date(begin));
  });
});
