import fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { decodeCursor, encodeCursor, pageOf, pageQuery } from '../src/paging.ts';

const key = z.tuple([z.string(), z.int()]);

test('a cursor gives back the sort key it was made of', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.maxSafeInteger(), (name, id) => {
      fc.pre(!name.includes('\0'));
      expect(decodeCursor(key, encodeCursor([name, id]))).toEqual([name, Object.is(id, -0) ? 0 : id]);
    }),
  );
  expect(decodeCursor(key, undefined)).toBeUndefined();
});

test('what no list has returned is refused, whatever it holds', () => {
  const forged = [['x', 'y'], { __proto__: null, 0: 'x', 1: 1 }, ['a\0b', 1], ['\ud800', 1], 'null', null].map(encodeCursor);
  for (const text of ['', '!', 'bnVsbA', '%00', 'eyJ', ...forged]) {
    expect(() => decodeCursor(key, text)).toThrow(expect.objectContaining({ code: 'invalid_cursor', status: 400 }));
  }
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(() => decodeCursor(key, text)).toThrow(expect.objectContaining({ code: 'invalid_cursor' }));
    }),
  );
});

test('a page has a next one exactly when there is a row too many', () => {
  expect(pageOf([1, 2, 3], 3, (last) => last)).toEqual({ items: [1, 2, 3], nextCursor: null });
  expect(pageOf([1, 2, 3], 2, (last) => last)).toEqual({ items: [1, 2], nextCursor: encodeCursor(2) });
  expect(pageOf([], 2, (last) => last)).toEqual({ items: [], nextCursor: null });
});

test('a page has 50 items where nothing else is asked, and never more than 200', () => {
  expect(pageQuery.parse({})).toEqual({ limit: 50 });
  expect(pageQuery.parse({ limit: '200' })).toEqual({ limit: 200 });
  for (const limit of ['0', '201', '1.5', 'x', '']) expect(pageQuery.safeParse({ limit }).success).toBe(false);
});
