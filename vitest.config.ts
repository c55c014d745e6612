import path from 'node:path';
import { defineConfig } from 'vitest/config';

/**
 * Tests start hundreds of processes and threads that run from the sources: each took half of its time to compile them (an erasure that is killed eight
 * times 12.4 s, with the code kept 7.7 s).
 */
process.env['NODE_COMPILE_CACHE'] ??= path.join(import.meta.dirname, 'node_modules/.cache/compiled');

export default defineConfig({
  resolve: { conditions: ['partywall-source'] },
  ssr: { resolve: { conditions: ['partywall-source'], externalConditions: ['partywall-source'] } },
  test: {
    include: ['packages/*/src/**/*.test.ts', 'packages/*/test/**/*.test.ts', 'examples/*/test/**/*.test.ts', 'bench/src/**/*.test.ts', 'test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    execArgv: ['--conditions=partywall-source'],
  },
});
