import { execFile } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, test } from 'vitest';

/**
 * Everything else in the repository runs from source. What users install is built, and a compiler may write what the sources do not say: each package
 * is built in a copy, and everything it exports is imported from there.
 */
const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, '..');
const packages = ['wall', 'engine', 'server', 'cli'];
const copy = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-build-'));
afterAll(() => fs.rm(copy, { recursive: true, force: true }));

await fs.cp(path.join(root, 'tsconfig.base.json'), path.join(copy, 'tsconfig.base.json'));
for (const name of packages) {
  const from = path.join(root, 'packages', name);
  await fs.cp(from, path.join(copy, 'packages', name), {
    recursive: true,
    filter: (file) => !['node_modules', 'dist', 'test'].includes(path.relative(from, file).split(path.sep)[0] ?? '') && !file.endsWith('.tsbuildinfo'),
  });
  const own = path.join(from, 'node_modules');
  if (await fs.stat(own).catch(() => undefined)) await fs.symlink(own, path.join(copy, 'packages', name, 'node_modules'));
}
await fs.mkdir(path.join(copy, 'node_modules', '@partywall'), { recursive: true });
for (const name of await fs.readdir(path.join(root, 'node_modules'))) {
  if (name !== '@partywall' && name !== 'partywall') await fs.symlink(path.join(root, 'node_modules', name), path.join(copy, 'node_modules', name));
}
for (const name of ['wall', 'engine', 'server']) await fs.symlink(path.join(copy, 'packages', name), path.join(copy, 'node_modules', '@partywall', name));
await fs.symlink(path.join(copy, 'packages', 'cli'), path.join(copy, 'node_modules', 'partywall'));

await run(process.execPath, [path.join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b', ...packages.map((name) => `packages/${name}`)], { cwd: copy });

test.each(packages)('%s loads as it is built, by every name that it exports', async (name) => {
  const manifest: { name: string; exports: Record<string, unknown> } = JSON.parse(await fs.readFile(path.join(copy, 'packages', name, 'package.json'), 'utf8'));
  const entries = Object.keys(manifest.exports).filter((entry) => !entry.endsWith('.json'));
  expect(entries).toContain('.');
  for (const entry of entries) {
    const wanted = path.posix.join(manifest.name, entry);
    const { stdout } = await run(
      process.execPath,
      ['--input-type=module', '--eval', `console.log(Object.keys(await import(${JSON.stringify(wanted)})).length)`],
      {
        cwd: copy,
      },
    );
    expect(Number(stdout), wanted).toBeGreaterThan(0);
  }
});

test('the command runs as it is built', async () => {
  const { stdout } = await run(process.execPath, [path.join(copy, 'packages', 'cli', 'bin', 'partywall.js'), '--version'], { cwd: copy });
  expect(stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
});
