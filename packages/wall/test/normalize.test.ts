import fc from 'fast-check';
import { expect, test } from 'vitest';
import { normalizeStatement } from '../src/index.ts';

test.each([
  ["select * from customers where name = 'Ada' and revenue > 1200.50", 'select * from customers where name = ? and revenue > ?'],
  ['SELECT "Name" FROM public.customers c WHERE c.id = $1 LIMIT $2', 'select "Name" from public.customers c where c.id = ? limit ?'],
  ['select id from items where id in ($1, $2, $3)', 'select id from items where id in (?, ...)'],
  ["insert into items (id, body) values (1, 'a'), (2, 'b')", 'insert into items(id, body) values (?, ...), ...'],
  ['select 1 /* tenant 17 */ -- and so on', 'select ?'],
  ["select count(*)::text, E'\\'x', $tag$ secret $tag$, U&'x', b'1', -5", 'select count(*)::text, ?, ..., b ?, - ?'],
  ['begin; select 1', 'begin; select ?'],
])('%s becomes %s', (text, normalized) => {
  expect(normalizeStatement(text)).toBe(normalized);
});

test('no literal is left, however it is written, also where the text was cut', () => {
  const secret = 'geheim';
  const literals = [
    `'${secret}'`,
    `'a''${secret}'`,
    `E'\\'${secret}'`,
    `$$${secret}$$`,
    `$x$${secret}$x$`,
    `U&'${secret}'`,
    `N'${secret}'`,
    `'a'\n'${secret}'`,
  ];
  for (const written of literals) {
    for (let cut = written.indexOf(secret) + 1; cut <= written.length; cut += 1) {
      expect(normalizeStatement(`select * from t where a = ${written.slice(0, cut)}`), written.slice(0, cut)).not.toMatch(/geh/);
    }
  }
});

test('any text gives a bounded one, in a bounded time', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (text) => {
      expect(normalizeStatement(text.repeat(100)).length).toBeLessThanOrEqual(2_000);
    }),
  );
  expect(normalizeStatement(`select ${'x, '.repeat(5_000_000)}1`)).toMatch(/^select x, .*\.\.\.$/);
});
