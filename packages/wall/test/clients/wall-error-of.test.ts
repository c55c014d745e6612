import { describe, expect, test } from 'vitest';
import { createGuard } from '../../src/http/guard.ts';
import { QuotaExceededError, TenantSuspendedError, WallError, wallErrorOf, wallErrors } from '../../src/index.ts';

describe('the wall’s error inside a client’s', () => {
  const own = new TenantSuspendedError({ message: 'tenant "a" is suspended' });

  test('is the very same, wherever a client keeps what it wraps', () => {
    const wrapped = [
      own,
      new Error('outer', { cause: own }),
      Object.assign(new Error('query failed'), { driverError: own }),
      Object.assign(new Error('invocation'), { meta: { cause: own } }),
      Object.assign(new Error('raw'), { meta: { driverAdapterError: new Error('adapter', { cause: own }) } }),
      new Error('a', { cause: new Error('b', { cause: new Error('c', { cause: own }) }) }),
    ];
    for (const error of wrapped) expect(wallErrorOf(error)).toBe(own);
  });

  test('is made again from a code or a state that a client copied', () => {
    const byCode = Object.assign(new Error('a message'), { code: 'tenant_suspended', clientVersion: '7.10.0' });
    expect(wallErrorOf(byCode)).toMatchObject({ name: 'TenantSuspendedError', message: 'a message', status: 403, cause: byCode });
    expect(wallErrorOf({ code: 'P2010', meta: { driverAdapterError: { cause: { originalCode: 'PW008', originalMessage: 'too much' } } } })).toBeInstanceOf(
      QuotaExceededError,
    );
    for (const [code, { sqlstate }] of Object.entries(wallErrors)) {
      expect(wallErrorOf({ code, clientVersion: '7.10.0' })).toMatchObject({ code });
      if (sqlstate !== null) expect(wallErrorOf({ code: sqlstate })).toBeInstanceOf(WallError);
    }
  });

  test('is none where the error is about something else', () => {
    const circle: { cause?: unknown } = {};
    circle.cause = circle;
    for (const other of [
      undefined,
      null,
      'PW001',
      7,
      {},
      new Error('x'),
      { code: '42501' },
      { code: 'P2002' },
      { code: 'quota_exceeded' },
      { code: 'unauthenticated' },
      circle,
    ]) {
      expect(wallErrorOf(other)).toBeUndefined();
    }
    for (const code of ['toString', 'P2002', 'PW999']) expect(wallErrorOf({ code, clientVersion: '7.10.0' })).toBeUndefined();
  });

  test('is answered by the middlewares, whatever client it came through', async () => {
    const guard = createGuard({ verify: () => null });
    const request = { method: 'GET', path: '/', address: undefined, header: () => null };
    const answer = await guard.answerTo(new Error('by a client', { cause: own }), request);
    expect(answer).toMatchObject({ status: 403 });
    expect(await guard.answerTo(new Error('the application’s'), request)).toBeUndefined();
  });
});
