import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { signWebhook, verifyWebhook } from '../../src/delivery/signature.ts';

const secret = 'a secret of enough length';
const body = '{"event":"opened"}';
const at = new Date('2026-03-01T12:00:00Z');
const signature = signWebhook(secret, at, body);

test('the signature is what any HMAC-SHA256 over time, point and body gives', () => {
  const expected = createHmac('sha256', secret).update(`1772366400.${body}`).digest('hex');
  expect(signature).toBe(`t=1772366400,v1=${expected}`);
});

test('a signature holds for its secret, its body and a few minutes', () => {
  const holds = (changes: Partial<Parameters<typeof verifyWebhook>[0]>): boolean => verifyWebhook({ secret, signature, body, now: at, ...changes });
  expect(holds({})).toBe(true);
  expect(holds({ body: Buffer.from(body) })).toBe(true);
  expect(holds({ now: new Date(at.getTime() + 300_000) })).toBe(true);
  expect(holds({ secret: 'another secret of that length' })).toBe(false);
  expect(holds({ body: `${body} ` })).toBe(false);
  expect(holds({ now: new Date(at.getTime() + 301_000) }), 'replayed later').toBe(false);
  expect(holds({ now: new Date(at.getTime() - 301_000) }), 'from the future').toBe(false);
  expect(holds({ signature: signature.replace('t=1772366400', 't=1772366460') }), 'made younger').toBe(false);
});

test.each([
  '',
  't=,v1=',
  't=1772366400',
  `v1=${'0'.repeat(64)}`,
  `t=1772366400,v1=${'0'.repeat(63)}`,
  `t=1772366400,v1=${'z'.repeat(64)}`,
  't=1772366400,v1=\0',
])('what is no signature, %j, is refused and throws nothing', (made) => {
  expect(verifyWebhook({ secret, signature: made, body, now: at })).toBe(false);
});
