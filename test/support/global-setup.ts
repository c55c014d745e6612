import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { startEmbedded } from '../../packages/engine/src/db/embedded.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Superuser connection string of the cluster that all test files share. */
    readonly clusterUrl: string;
  }
}

/**
 * One cluster for the run, on PostgreSQL 18 unless PARTYWALL_PG_MAJOR names 15, 16 or 17. Durability is off:
 * what a crash of the *server* loses is not what these tests are about, and kills of our own process lose nothing.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const major = Number(process.env['PARTYWALL_PG_MAJOR'] ?? '18');
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-test-'));
  await fs.chmod(folder, 0o755);
  const server = await startEmbedded({
    dataDir: path.join(folder, 'data'),
    major,
    auth: 'trust',
    settings: {
      fsync: 'off',
      synchronous_commit: 'off',
      full_page_writes: 'off',
      max_connections: '300',
      autovacuum: 'off',
      shared_preload_libraries: 'pg_stat_statements',
      shared_buffers: '256MB',
    },
  });
  project.provide('clusterUrl', server.url);
  // What tests and the programs that they start put aside goes with the run.
  const temporary = path.join(folder, 'tmp');
  await fs.mkdir(temporary);
  await fs.chmod(temporary, 0o1777);
  process.env['TMPDIR'] = temporary;
  return async () => {
    await server.stop();
    await fs.rm(folder, { recursive: true, force: true });
  };
}
