import { describe, expect, test } from 'vitest';
import { parseSealKeys, sealOf } from '../../src/seal/seal-keys.ts';

const secret = Buffer.alloc(32, 7);
const text = secret.toString('base64url');

describe('keys of the seal', () => {
  test('are read as they are printed, best first', () => {
    expect(parseSealKeys(`2:${text}, 1:${text}=`)).toEqual([
      { id: 2, secret },
      { id: 1, secret },
    ]);
  });

  test.each([
    ['nothing', ''],
    ['no number', text],
    ['number 0, which is the database’s own', `0:${text}`],
    ['a number that no column holds', `2147483648:${text}`],
    ['a short secret', `1:${text.slice(1)}`],
    ['a long secret', `1:${text}AAAA`],
    ['another alphabet', `1:${`+${text.slice(1)}`}`],
    ['the same number twice', `1:${text},1:${text}`],
    ['nine keys', Array.from({ length: 9 }, (_, n) => `${n + 1}:${text}`).join(',')],
  ])('are refused with %s, and the message does not repeat them', (_, given) => {
    expect(() => parseSealKeys(given)).toThrow(TypeError);
    expect(() => parseSealKeys(given)).toThrow(expect.not.objectContaining({ message: expect.stringContaining(text.slice(2, 20)) }));
  });
});

test('a seal is of its tenant, unit, end and key, and of nothing that looks alike', () => {
  const key = { id: 1, secret };
  const base = { tenant: 'a', unit: null, expires: 1_800_000_000 };
  const seals = [
    sealOf(key, base),
    sealOf(key, { ...base, tenant: 'b' }),
    sealOf(key, { ...base, unit: '' }),
    sealOf(key, { ...base, unit: 'u' }),
    sealOf(key, { ...base, tenant: 'au' }),
    sealOf(key, { ...base, expires: 1_800_000_001 }),
    sealOf({ id: 1, secret: Buffer.alloc(32, 8) }, base),
  ].map((seal) => seal.toString('hex'));
  expect(new Set(seals).size).toBe(seals.length);
});
