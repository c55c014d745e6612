import { defineConfig } from 'vitest/config';

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
