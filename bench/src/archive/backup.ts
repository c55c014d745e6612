import fs from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { connect } from '@partywall/engine';
import { z } from 'zod';
import type { BenchContext } from '../harness.ts';
import { atMost, type BenchResult, median } from '../report.ts';
import type { ArchiveDatabase } from './database.ts';
import { bin, run, timed } from './shell.ts';

const outcome = z.object({ objects: z.int(), bytes: z.int(), unchanged: z.int(), peakBytes: z.int() });
type Outcome = z.output<typeof outcome> & { readonly seconds: number };

/** Of a thousand tenants, those that changed before the second backup. */
const changedShare = 0.01;

/**
 * Ours, encrypted and by tenant, beside what a user would otherwise run; in turns, so that whatever else the machine does hits all alike. The
 * pipeline is what our stages are without tenants: text, zstd at level 3, AES.
 */
export async function measureBackup({ quick, say }: BenchContext, database: ArchiveDatabase, folder: string): Promise<BenchResult> {
  const rounds = quick ? 1 : 3;
  const seconds: { custom: number[]; piped: number[]; ours: number[] } = { custom: [], piped: [], ours: [] };
  let archive = '';
  let first: Outcome | undefined;
  for (let round = 0; round < rounds; round += 1) {
    say(`backing up in three ways, round ${round + 1} of ${rounds}`);
    const file = path.join(folder, 'dump');
    seconds.custom.push(await timed(`'${bin}/pg_dump' -Fc '${database.url}' > '${file}'`));
    seconds.piped.push(await timed(`'${bin}/pg_dump' -Fp '${database.url}' | zstd -3 -q | openssl enc -aes-256-ctr -pbkdf2 -pass pass:bench > '${file}'`));
    await fs.rm(file);
    archive = path.join(folder, `archive-${round}`);
    await fs.mkdir(archive);
    first = await backUp(database.url, archive);
    seconds.ours.push(first.seconds);
  }
  if (!first) throw new Error('no backup was made');
  say('changing one tenant in a hundred, and backing up again');
  const changed = database.tenants.slice(0, Math.max(1, Math.floor(database.tenants.length * changedShare)));
  await change(database.url, changed);
  const second = await backUp(database.url, archive);
  say('backing up what nobody changed');
  const third = await backUp(database.url, archive);
  const ours = median(seconds.ours);
  return {
    checks: [
      atMost(0.6, { name: 'backup, of pg_dump -Fc', value: ours / median(seconds.custom), unit: 'of its time' }),
      atMost(1.4, { name: 'backup, of pg_dump -Fp | zstd -3 | openssl enc', value: ours / median(seconds.piped), unit: 'of its time' }),
      atMost(500, { name: 'backup, peak memory', value: first.peakBytes / 1e6, unit: 'MB' }),
      atMost(3, { name: 'second backup, 1 % of tenants changed, stored', value: (100 * second.bytes) / first.bytes, unit: '% of the first' }),
      // For each changed tenant a pack; the platform's, the pages, the manifest.
      atMost(changed.length + 3, { name: 'second backup, objects written', value: second.objects, unit: 'objects' }),
    ],
    figures: [
      { name: 'database', value: database.bytes / 1e6, unit: 'MB' },
      { name: 'rows', value: database.rows, unit: 'rows' },
      { name: 'pg_dump -Fc', value: median(seconds.custom), unit: 's' },
      { name: 'pg_dump -Fp | zstd -3 | openssl enc', value: median(seconds.piped), unit: 's' },
      { name: 'backup', value: ours, unit: 's' },
      { name: 'backup, stored', value: first.bytes / 1e6, unit: 'MB' },
      { name: 'backup, objects', value: first.objects, unit: 'objects' },
      { name: 'second backup', value: second.seconds, unit: 's' },
      { name: 'second backup, stored', value: second.bytes / 1e6, unit: 'MB' },
      { name: 'backup without a change', value: third.seconds, unit: 's' },
      { name: 'backup without a change, objects', value: third.objects, unit: 'objects' },
    ],
    series: { seconds },
  };
}

/** Options that the command runs Node with too: `packages/cli/bin/partywall.js`. */
const nodeOptions = ['--max-semi-space-size=8', '--conditions=partywall-source'];

/** One backup in a process of its own, with the most memory that it had. */
export async function backUp(url: string, folder: string, things = 0): Promise<Outcome> {
  const { printed, seconds } = await inProcess(folder, [url, folder, String(things)]);
  return { ...outcome.parse(printed), seconds };
}

/** The newest backup verified, or retention carried out, in a process of its own. */
export async function lookThrough(work: 'verify' | 'retention', url: string, folder: string): Promise<Pick<Outcome, 'peakBytes' | 'seconds'>> {
  const { printed, seconds } = await inProcess(folder, [url, folder, '0', work]);
  return { ...outcome.pick({ peakBytes: true }).parse(printed), seconds };
}

async function inProcess(folder: string, args: readonly string[]): Promise<{ printed: unknown; seconds: number }> {
  const began = performance.now();
  const script = fileURLToPath(new URL('./backup-process.ts', import.meta.url));
  // Compiled code is kept between runs, as the command keeps it: in the environment, which is where threads look for it too.
  const env = { ...process.env, NODE_COMPILE_CACHE: path.join(path.dirname(folder), 'compiled') };
  const { stdout } = await run([process.execPath, ...nodeOptions, script, ...args], env);
  return { printed: JSON.parse(stdout), seconds: (performance.now() - began) / 1000 };
}

async function change(url: string, tenants: readonly string[]): Promise<void> {
  const client = await connect(url, { purpose: 'bench' });
  try {
    for (const tenant of tenants) {
      await client.query('update public.customers set phone = phone || $2 where id in (select id from public.customers where tenant_id = $1 limit 40)', [
        tenant,
        '0',
      ]);
      await client.query(
        'insert into public.orders select 10000000 + o.id, o.tenant_id, o.customer_id, $2, o.total, o.placed_at from public.orders o where o.tenant_id = $1 limit 50',
        [tenant, 'open'],
      );
    }
  } finally {
    await client.end();
  }
}
