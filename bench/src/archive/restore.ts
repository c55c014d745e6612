import fs from 'node:fs/promises';
import path from 'node:path';
import {
  awaitOperation,
  backupSource,
  cloneTenant,
  connect,
  findBackup,
  inProcess,
  liveSource,
  moveKind,
  moveTenant,
  moveWork,
  type OpenArchive,
  type Operation,
  openArchive,
  placementsOf,
  preparePlacement,
  readMove,
  restoreFrom,
  runBackup,
} from '@partywall/engine';
import type { BenchContext } from '../harness.ts';
import { atLeast, atMost, type BenchResult, median } from '../report.ts';
import { urlAs } from '../url-as.ts';
import { type ArchiveDatabase, generate, operationOn } from './database.ts';
import { bin, timed } from './shell.ts';

/** Rows of one tenant stay the same while its neighbours become more: five million rows in the largest. */
const neighbourhoods = [100, 1_000, 5_000];
const rowsPerTenant = 1_000;
const rowsAtScaleOne = 5_000_000;
const moveTimeoutMs = 600_000;

interface Place {
  readonly operation: Operation;
  readonly archive: OpenArchive;
  readonly url: string;
  close(): Promise<void>;
}

/**
 * One tenant brought back into the live database, beside what there is without us: `pg_restore` of the whole dump into a database of its own, and the
 * tenant's rows copied out of it and in again. Both begin with files on disk and end with the tenant's rows in place.
 */
export async function measureRestore(context: BenchContext, database: ArchiveDatabase, folder: string): Promise<BenchResult> {
  const { say, quick } = context;
  const tenant = database.tenants[Math.floor(database.tenants.length / 2)] ?? '';
  say('restoring one tenant by pg_restore');
  const usual = await restoreUsually(context, database, { tenant, folder });
  const place = await open(database.url, path.join(folder, 'restore'));
  try {
    say('restoring one tenant from an archive');
    await runBackup(place.operation, place.archive, { reason: 'bench' });
    const rounds = quick ? 1 : 5;
    const seconds: number[] = [];
    // Each a different one: a tenant that was damaged and restored before has its dead rows beside it.
    const middle = database.tenants.indexOf(tenant);
    for (const other of database.tenants.slice(middle, middle + rounds)) seconds.push(await restoreOne(place, other));
    const ours = median(seconds);
    const copying = [...(await measureClone(place, { tenant, folder })), await measureMove(context, place, tenant)];
    const growth = quick ? [] : await measureGrowth(context, folder);
    const [smallest, largest] = [growth.at(0), growth.at(-1)];
    return {
      checks: [
        atLeast(50, { name: 'one tenant restored, pg_restore and copying', value: usual / ours, unit: 'times longer' }),
        ...(smallest && largest
          ? [atMost(2, { name: 'one tenant restored among 5,000, of among 100', value: largest.seconds / smallest.seconds, unit: 'of its time' })]
          : []),
      ],
      figures: [
        { name: 'one tenant by pg_restore and copying', value: usual, unit: 's' },
        { name: 'one tenant restored, undo backup and proof included', value: ours, unit: 's' },
        ...growth.map(({ tenants, seconds: value }) => ({ name: `${rowsPerTenant} rows restored among ${tenants} tenants`, value, unit: 's' })),
        ...copying,
      ],
      series: { restore: seconds },
    };
  } finally {
    await place.close();
  }
}

async function open(url: string, folder: string): Promise<Place> {
  const keyring = path.join(folder, 'keyring');
  await fs.mkdir(folder, { recursive: true });
  const operation = operationOn(url, keyring);
  const archive = await openArchive({
    store: path.join(folder, 'store'),
    escrow: path.join(folder, 'escrow'),
    keyring,
    workFolder: path.join(folder, 'work'),
    env: process.env,
    clock: () => new Date(),
  });
  return {
    operation,
    archive,
    url,
    close: async () => {
      await archive.close();
      await operation.database.pool.end();
    },
  };
}

/** Damages a tenant as a bad script would, and brings it back. */
async function restoreOne({ operation, archive, url }: Place, tenant: string): Promise<number> {
  await withDatabase(url, async (client) => {
    await client.query("update public.messages set body = 'overwritten' where tenant_id = $1 and id % 2 = 0", [tenant]);
    await client.query('delete from public.messages where tenant_id = $1 and id % 5 = 1', [tenant]);
  });
  const began = performance.now();
  const source = await backupSource(archive, await findBackup(archive, 'latest', ({ manifest }) => manifest.scope === 'all'), tenant);
  await restoreFrom(operation, source, {
    undo: async (_tenant, { fixed, catalog }) =>
      (await runBackup(operation, archive, { reason: 'before restore', tenants: [tenant] }, { onFixed: fixed, catalog })).id,
  });
  return (performance.now() - began) / 1000;
}

async function restoreUsually(
  { createDatabase }: BenchContext,
  { url }: ArchiveDatabase,
  at: { readonly tenant: string; readonly folder: string },
): Promise<number> {
  const dump = path.join(at.folder, 'whole.dump');
  await timed(`'${bin}/pg_dump' -Fc '${url}' > '${dump}'`);
  const scratch = await createDatabase('archive_restored');
  const rows = path.join(at.folder, 'rows');
  const copied = ['customers', 'orders', 'messages']
    .map(
      (table) => `'${bin}/psql' -qX '${scratch}' -c "\\copy (select * from public.${table} where tenant_id = '${at.tenant}') to '${rows}'"
'${bin}/psql' -qX '${url}' -c 'create temp table stage as select * from public.${table} with no data' -c "\\copy stage from '${rows}'"`,
    )
    .join('\n');
  const seconds = await timed(`'${bin}/pg_restore' -d '${scratch}' --no-owner '${dump}'
${copied}`);
  await fs.rm(dump);
  return seconds;
}

/** A clone has new ids throughout; COPY of the same rows is what the server needs to take them in at all. */
async function measureClone({ operation, url }: Place, { tenant, folder }: { readonly tenant: string; readonly folder: string }) {
  const file = path.join(folder, 'clone-rows');
  const tables = ['customers', 'orders', 'messages'];
  let copying = 0;
  for (const table of tables) {
    await timed(`'${bin}/psql' -qX '${url}' -c "\\copy (select * from public.${table} where tenant_id = '${tenant}') to '${file}'"`);
    copying += await timed(
      `'${bin}/psql' -qX '${url}' -c 'set client_min_messages = warning' -c 'begin' -c 'create table public.partywall_bench (like public.${table} including all)' -c "\\copy public.partywall_bench from '${file}'" -c 'rollback'`,
    );
  }
  const source = await liveSource(operation, tenant);
  const began = performance.now();
  const { tables: cloned } = await cloneTenant(operation, source, { name: 'Bench clone' }).finally(() => source.close());
  const seconds = (performance.now() - began) / 1000;
  const rows = cloned.reduce((sum, table) => sum + table.rows, 0);
  return [
    { name: 'clone', value: rows / seconds, unit: 'rows/s' },
    { name: 'COPY of the same rows', value: rows / copying, unit: 'rows/s' },
  ];
}

/** Both directions are the same work; rows are compared by hash in both databases before the tenant is let in. */
async function measureMove({ createDatabase }: BenchContext, { operation }: Place, tenant: string) {
  const into = await createDatabase('archive_placement');
  await preparePlacement(operation, { into });
  const placements = placementsOf({ PARTYWALL_PLACEMENT_BENCH: urlAs(into, operation.database.model.roles.service) });
  const durable = inProcess(operation.database, { [moveKind]: moveWork(placements) });
  try {
    const began = performance.now();
    const { id } = await moveTenant(operation, durable, { tenant, to: 'bench', graceSeconds: 0, placements });
    const { state, error } = await awaitOperation(operation, id, { timeoutMs: moveTimeoutMs });
    const seconds = (performance.now() - began) / 1000;
    if (state !== 'done') throw new Error(`the move ended as ${state}: ${error}`);
    const { rows } = await readMove(operation.database.pool, id);
    return { name: 'move', value: (rows ?? 0) / seconds, unit: 'rows/s' };
  } finally {
    await durable.stop();
    await placements.close();
  }
}

async function measureGrowth({ createDatabase, say }: BenchContext, folder: string): Promise<{ readonly tenants: number; readonly seconds: number }[]> {
  const found: { tenants: number; seconds: number }[] = [];
  for (const tenants of neighbourhoods) {
    say(`restoring one tenant among ${tenants}`);
    const database = await generate(await createDatabase(`archive_${tenants}`), { tenants, scale: (tenants * rowsPerTenant) / rowsAtScaleOne });
    const place = await open(database.url, path.join(folder, `among-${tenants}`));
    try {
      await runBackup(place.operation, place.archive, { reason: 'bench' });
      const seconds: number[] = [];
      for (const tenant of database.tenants.slice(10, 15)) seconds.push(await restoreOne(place, tenant));
      found.push({ tenants, seconds: median(seconds) });
    } finally {
      await place.close();
    }
  }
  return found;
}

async function withDatabase(url: string, work: (client: Awaited<ReturnType<typeof connect>>) => Promise<void>): Promise<void> {
  const client = await connect(url, { purpose: 'bench' });
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
