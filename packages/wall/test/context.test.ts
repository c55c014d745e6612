import { describe, expect, test } from 'vitest';
import { current, run, StatementRefusedError, system, systemUses, TenantContextError, tryCurrent } from '../src/index.ts';
import { failure } from './walled-database.ts';

describe('run', () => {
  test('gives the code inside it the context, across awaits and timers', async () => {
    const seen = await run({ tenant: 't1', user: 7, unit: 'north', requestId: 'r1' }, async () => {
      await new Promise((resolve) => setImmediate(resolve));
      return current();
    });
    expect(seen).toEqual({ tenant: 't1', user: 7, unit: 'north', requestId: 'r1' });
  });

  test('leaves no context behind it', async () => {
    await run({ tenant: 't1' }, () => undefined);
    expect(tryCurrent()).toBeUndefined();
  });

  test('starts a lazy promise inside the context, as Prisma needs', async () => {
    const lazy = {
      // biome-ignore lint/suspicious/noThenProperty: a thenable that starts its work when awaited is what is tested
      then: (resolve: (value: unknown) => void) => resolve(tryCurrent()?.tenant),
    } as PromiseLike<unknown>; // only the part of it that `await` uses
    expect(await run({ tenant: 't1' }, () => lazy)).toBe('t1');
  });

  test('nests, and the outer context comes back', async () => {
    await run({ tenant: 'outer' }, async () => {
      await run({ tenant: 'inner' }, () => expect(current().tenant).toBe('inner'));
      expect(current().tenant).toBe('outer');
    });
  });

  test('keeps parallel contexts apart', async () => {
    const tenants = Array.from({ length: 100 }, (_, n) => n + 1);
    const seen = await Promise.all(
      tenants.map((tenant) =>
        run({ tenant }, async () => {
          await new Promise((resolve) => setTimeout(resolve, tenant % 7));
          return current().tenant;
        }),
      ),
    );
    expect(seen).toEqual(tenants);
  });

  test('takes a string, a safe integer and a bigint as tenant', async () => {
    for (const tenant of ['a', 0, 12n, Number.MAX_SAFE_INTEGER]) expect(await run({ tenant }, () => current().tenant)).toBe(tenant);
  });

  test('refuses what cannot be a tenant id, without running anything', async () => {
    let ran = false;
    for (const tenant of ['', Number.NaN, 1.5, 2 ** 60, undefined, null, {}]) {
      const error = await failure(run({ tenant: tenant as string }, () => (ran = true))); // the wrong types are what is tested
      expect(error).toBeInstanceOf(TenantContextError);
    }
    expect(ran).toBe(false);
  });

  test('rejects when the function throws, also when it throws at once', async () => {
    const thrown = new Error('thrown');
    const error = await failure(
      run({ tenant: 't1' }, () => {
        throw thrown;
      }),
    );
    expect(error).toBe(thrown);
  });

  test('gives a context that later changes of the object do not reach', async () => {
    const context = { tenant: 't1' };
    await run(context, () => {
      context.tenant = 't2';
      expect(current().tenant).toBe('t1');
    });
  });
});

describe('current', () => {
  test('throws TenantContextError outside any context, and in a system context', async () => {
    expect(() => current()).toThrow(TenantContextError);
    await system('a test', () => {
      expect(() => current()).toThrow(TenantContextError);
      expect(tryCurrent()).toBeUndefined();
    });
  });
});

describe('system', () => {
  test('counts its uses by purpose', async () => {
    await system('counted', () => undefined);
    await system('counted', () => undefined);
    expect(systemUses().get('counted')).toBe(2);
  });

  test('refuses to run without a purpose', async () => {
    for (const purpose of ['', '  ']) expect(await failure(system(purpose, () => undefined))).toBeInstanceOf(StatementRefusedError);
  });

  test('is left by run, and comes back', async () => {
    await system('outer', async () => {
      await run({ tenant: 't1' }, () => expect(current().tenant).toBe('t1'));
      expect(tryCurrent()).toBeUndefined();
    });
  });

  test('bounds the memory that purposes take', async () => {
    for (let n = 0; n < 1_100; n += 1) await system(`purpose ${n}`, () => undefined);
    expect(systemUses().size).toBeLessThanOrEqual(1_001);
    expect(systemUses().get('(other)')).toBeGreaterThan(0);
  });
});
