import fs from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { folder, json, partywall } from './support/command.ts';
import { configText, portal } from './support/portal.ts';

const roles = { owner: 'o', app: 'a', system: 's', service: 'v' };

/** `diff` loads the config before it connects, so a database that cannot be reached shows that the config was read. */
const unreachable = { DATABASE_URL: 'postgresql://127.0.0.1:1/none' };

async function codeOf(
  files: Readonly<Record<string, string>>,
  args: readonly string[] = ['diff'],
  below = '',
): Promise<{ code: string; message: string; hint: string }> {
  const cwd = await folder(files);
  const result = await partywall([...args, '--json'], { cwd: path.join(cwd, below), env: unreachable });
  expect(result.status).toBe(2);
  expect(json(result)).toEqual({ error: expect.anything() });
  // The line above has shown the shape.
  return (json(result) as { error: { code: string; message: string; hint: string } }).error;
}

describe('a config that can be read', () => {
  test('is found in the working directory, and in a folder above it', async () => {
    expect((await codeOf({ 'partywall.config.ts': configText(roles) })).code).toBe('database_unreachable');
    expect((await codeOf({ 'partywall.config.ts': configText(roles), 'deep/down/file': '' }, ['diff'], 'deep/down')).code).toBe('database_unreachable');
  });

  test('is the one that --config names', async () => {
    const files = { 'partywall.config.ts': 'export default 1', 'other/tenancy.ts': configText(roles) };
    expect((await codeOf(files, ['diff', '--config', 'other/tenancy.ts'])).code).toBe('database_unreachable');
  });

  test("imports defineTenancy where no package 'partywall' is installed, whatever the folder's module type", async () => {
    for (const manifest of ['{}', '{"type":"module"}', '{"type":"commonjs"}']) {
      const cwd = await folder({ 'package.json': manifest, 'partywall.config.mts': configText(roles) });
      const { status, stderr } = await partywall(['diff', '--config', 'partywall.config.mts'], { cwd, env: unreachable });
      expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringMatching(/^partywall: connecting to .*\n {2}hint: .*\n$/) });
    }
  });

  test('is loaded without a warning in a folder whose package.json names no module type', async () => {
    const cwd = await folder({ 'package.json': '{}', 'partywall.config.ts': configText(roles) });
    const { stderr } = await partywall(['diff'], { cwd, env: unreachable });
    expect(stderr).not.toMatch(/warning/i);
  });
});

describe('a config that cannot be read', () => {
  test('missing: names the folder that was searched', async () => {
    const { code, message, hint } = await codeOf({});
    expect(code).toBe('config_missing');
    expect(message).toMatch(/^looking for partywall\.config\.ts in \/.+: there is none$/);
    expect(hint).toContain('partywall init');
  });

  test('missing: names the file that --config names', async () => {
    const { code, message } = await codeOf({ 'partywall.config.ts': configText(roles) }, ['diff', '--config', 'nowhere.ts']);
    expect(code).toBe('config_missing');
    expect(message).toMatch(/^reading \/.+\/nowhere\.ts: there is no such file$/);
  });

  test.each([
    ['a syntax error', 'export default {\n  tenant: ,\n}', /partywall\.config\.ts:2: Expression expected$/],
    ['TypeScript that is more than types', 'enum A { b }\nexport default A.b', /enum is not supported/],
    ['an exception', '\nthrow new Error("first line\\nsecond line")', /partywall\.config\.ts:2: first line$/],
    ['no default export', 'export const tenant = 1', /it has no default export$/],
    ['another shape', 'export default 7', /expected object/],
    ['a misspelled key', configText(roles).replace('"tables"', '"tabels"'), /tables/],
    ['a scope that is none', configText(roles, { 'public.x': { scope: 'mine' } }), /public\.x/],
    ['a table name that is none', configText(roles, { 'a.b.c.d': { scope: 'shared' } }), /not a table name: "a\.b\.c\.d"/],
  ])('%s: one line that names the place', async (_, text, message) => {
    const error = await codeOf({ 'partywall.config.ts': text });
    expect(error.code).toBe('config_malformed');
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
  });

  test('an import that cannot be found: says which packages need no installation', async () => {
    const { code, message, hint } = await codeOf({ 'partywall.config.ts': "import 'no-such-package';\nexport default {}" });
    expect(code).toBe('config_malformed');
    expect(message).toContain("Cannot find package 'no-such-package'");
    expect(hint).toMatch(/`partywall` itself needs no installation there/);
  });

  test.each([
    [
      'a table goes through one that is not scoped',
      { 'public.notes': { scope: 'scoped', through: { table: 'public.countries', columns: 'c' } } },
      'which is not a scoped table',
    ],
    ['the root is listed', { 'public.tenants': { scope: 'shared' } }, 'is the tenant root and is listed under tables too'],
    ['a scoped table names neither a column nor a way', { 'public.notes': { scope: 'scoped' } }, 'names neither its column nor a way'],
  ])('lines that contradict each other: %s', async (_, tables, message) => {
    const error = await codeOf({ 'partywall.config.ts': configText(roles, tables) });
    expect(error.code).toBe('model_invalid');
    expect(error.message).toContain(message);
  });
});

test('a config that was corrected is read again', async () => {
  const { cwd, env } = await portal();
  const file = path.join(cwd, 'partywall.config.ts');
  const good = await fs.readFile(file, 'utf8');
  await fs.writeFile(file, 'export default');
  expect((await partywall(['diff'], { cwd, env })).status).toBe(2);
  await fs.writeFile(file, good);
  expect((await partywall(['diff'], { cwd, env })).status).toBe(1);
});
