import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { connect, type EmbeddedServer, ident, startEmbedded } from '@partywall/engine';
import type { BenchResult, Machine } from './report.ts';

/** What a benchmark gets. */
export interface BenchContext {
  /** A smaller run that proves the benchmark works; its figures are not for quoting. */
  readonly quick: boolean;
  /** A server of the run's own, thrown away after it. */
  readonly server: EmbeddedServer;
  readonly signal: AbortSignal;
  /** Creates a database and returns its superuser connection string. */
  createDatabase(name: string): Promise<string>;
  /** Says on standard error what is being done. */
  say(text: string): void;
}

/** What `<name>.bench.ts` exports. */
export interface BenchModule {
  /** One line for the list of benchmarks. */
  readonly about: string;
  run(context: BenchContext): Promise<BenchResult>;
  /** Server settings that the benchmark depends on; the defaults are PostgreSQL's own, durable. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Major version of the server; default the newest. 15 is Debian's own, whose client tools are there to compare with. */
  readonly major?: number;
}

/** Settings every run has: enough memory that a million narrow rows stay cached, as a tuned server would have it. */
const serverSettings = { shared_buffers: '512MB', max_connections: '200', max_wal_size: '4GB' };

export interface BenchRun extends BenchResult {
  readonly name: string;
  readonly quick: boolean;
  readonly machine: Machine;
}

/** Names of the benchmarks in a folder: every `<name>.bench.ts`. */
export async function listBenches(folder: string): Promise<string[]> {
  const ending = '.bench.ts';
  const files = await fs.readdir(folder);
  return files
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, -ending.length))
    .sort();
}

/** Runs one benchmark on a server of its own and removes the server, also when the benchmark throws. */
export async function runBench(
  name: string,
  bench: BenchModule,
  options: { quick: boolean; signal: AbortSignal; say: (text: string) => void },
): Promise<BenchRun> {
  const { quick, signal, say } = options;
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'partywall-bench-'));
  await fs.chmod(folder, 0o755);
  try {
    const server = await startEmbedded({
      dataDir: path.join(folder, 'data'),
      auth: 'trust',
      settings: { ...serverSettings, ...bench.settings },
      ...(bench.major !== undefined && { major: bench.major }),
    });
    try {
      const machine: Machine = { cpus: os.availableParallelism(), node: process.versions.node, postgres: await serverVersion(server.url) };
      const createDatabase = async (database: string): Promise<string> => {
        await execute(server.url, `create database ${ident(database)}`);
        return server.urlFor(database);
      };
      const result = await bench.run({ quick, server, signal, createDatabase, say });
      return { name, quick, machine, ...result };
    } finally {
      await server.stop();
    }
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
}

async function execute(url: string, statement: string): Promise<void> {
  const client = await connect(url, { purpose: 'bench' });
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function serverVersion(url: string): Promise<string> {
  const client = await connect(url, { purpose: 'bench' });
  try {
    const { rows } = await client.query<{ version: string }>("select current_setting('server_version') as version");
    return rows[0]?.version ?? 'unknown';
  } finally {
    await client.end();
  }
}
