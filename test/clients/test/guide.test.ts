import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '../../..');
const guide = readFileSync(path.join(root, 'docs/guide/clients.md'), 'utf8');

test('the recipes in the guide are the code that the suite runs', () => {
  const shown = [...guide.matchAll(/<!-- recipe: (\S+) -->\n```ts\n([\s\S]*?)```/g)].map(([, file = '', code]) => ({ file, code }));
  expect(shown.map(({ file }) => path.basename(file, '.ts'))).toEqual(['pg', 'prisma', 'drizzle', 'kysely', 'knex', 'typeorm']);
  for (const { file, code } of shown) {
    const source = readFileSync(path.join(root, file), 'utf8');
    const recipe = /\/\/#region recipe\n([\s\S]*?)\/\/#endregion/.exec(source)?.[1];
    expect(code, file).toBe(recipe);
  }
});
