import { expect, test } from 'vitest';
import { threadBytes, threadCount, threadsMemoryBytes } from '../../../src/archive/backup/reading/thread-count.ts';

const large = { processors: 64, tenants: undefined, subjects: 100, bytes: 1e12 };

test('a large database is read by four threads, and by no more than there are processors or tenants', () => {
  expect(threadCount(large)).toBe(4);
  expect(threadCount({ ...large, processors: 2 })).toBe(2);
  expect(threadCount({ ...large, tenants: 3 })).toBe(3);
});

test('a small database is read by one', () => {
  expect(threadCount({ ...large, bytes: 1 })).toBe(1);
  expect(threadCount({ ...large, bytes: 0 })).toBe(1);
});

test('many subjects are read by fewer threads, so that all of them stay within the memory for threads', () => {
  expect(threadCount({ ...large, subjects: 1_000 })).toBe(4);
  expect(threadCount({ ...large, subjects: 10_001 })).toBe(2);
  expect(threadCount({ ...large, subjects: 1_000_000 })).toBe(1);
  for (let subjects = 1; subjects < 100_000; subjects += 997) {
    const threads = threadCount({ ...large, subjects });
    if (threads > 1) expect(threads * threadBytes(subjects), `${subjects} subjects`).toBeLessThanOrEqual(threadsMemoryBytes);
  }
});
