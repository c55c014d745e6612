import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { identList } from '../../db/sql.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import { sourceOf } from '../recover/check-rows.ts';
import { fieldOf, type RowsDigest, type RowsSum, readLines, rowsSum } from '../recover/copy-lines.ts';
import type { RecoverySubject, RecoveryTable } from '../recover/plan-recovery.ts';
import type { ScratchRestore } from './restore-scratch.ts';

export interface Comparison {
  readonly rows: number;
  /** What differs, by tenant; an empty name: what belongs to no tenant that was drilled. */
  readonly problems: readonly { readonly tenant: string; readonly what: string }[];
}

/** Whatever is nobody's who was drilled: rows of the platform, and rows that should not be there. */
const nobody = '';
const tab = 0x09;

/** Sums that are held at once, one for each tenant and table with rows: 100 MB. */
const sumsMax = 500_000;
const subjectsAtOnce = 4;

/** What was read back of a table, and of one that does not say whose its rows are, what the backup has of it. */
interface ReadTable {
  readonly table: RecoveryTable;
  readonly there: ReadonlyMap<string, RowsSum>;
  readonly whole: RowsSum;
  promised: number;
}

/**
 * Reads every table of the scratch database back and compares it with the backup, tenant by tenant: as many rows as the pages promise, and the same ones, whatever
 * their order. What the backup holds is read again too, so that what its pages promise is what their segments have. One pass over each table; as many tables at
 * once as `sumsMax` allows, and the pages are read for each such group.
 */
export async function compareRows(client: pg.Client, restore: ScratchRestore, signal: AbortSignal | undefined): Promise<Comparison> {
  const problems: Comparison['problems'][number][] = [];
  let rows = 0;
  let group: ReadTable[] = [];
  let sums = 0;
  for (const [at, table] of restore.tables.entries()) {
    signal?.throwIfAborted();
    const there = await readBack(client, restore, table);
    for (const sum of there.values()) rows += sum.digest().rows;
    group.push({ table, there, whole: rowsSum(), promised: 0 });
    sums += there.size;
    if (sums < sumsMax && at < restore.tables.length - 1) continue;
    problems.push(...(await compareGroup(restore, group, signal)));
    group = [];
    sums = 0;
  }
  return { rows, problems };
}

async function compareGroup(restore: ScratchRestore, group: readonly ReadTable[], signal: AbortSignal | undefined): Promise<Comparison['problems']> {
  const problems: { tenant: string; what: string }[] = [];
  const compare = (tenant: string, read: ReadTable, { kept, promised }: { readonly kept: RowsSum; readonly promised: number }): void => {
    const found = read.there.get(tenant)?.digest() ?? nothing;
    const what = difference(read.table.name, { kept: kept.digest(), found, promised });
    if (what !== undefined) problems.push({ tenant, what });
  };
  await sideBySide(subjectsOf(restore), subjectsAtOnce, async ({ ref, tenant }) => {
    signal?.throwIfAborted();
    const page = new Map((await restore.backup.page(ref)).tables.map((each) => [each.table, each]));
    for (const read of group) {
      const { stored } = read.table;
      const { rows: promised = 0, segments = [] } = page.get(stored.name) ?? {};
      const isWhole = stored.tenantColumn === null;
      const kept = isWhole ? read.whole : rowsSum();
      for await (const line of readLines(restore.backup.segments(ref, stored.name, segments))) kept.add(line);
      if (isWhole) read.promised += promised;
      else compare(tenant ?? nobody, read, { kept, promised });
    }
  });
  for (const read of group.filter(({ table }) => table.stored.tenantColumn === null)) compare(nobody, read, { kept: read.whole, promised: read.promised });
  return problems.sort((left, right) => (left.what < right.what ? -1 : 1));
}

function subjectsOf({ platform, tiers }: ScratchRestore): readonly RecoverySubject[] {
  return [platform, ...tiers.flatMap((tier) => tier.subjects)];
}

/**
 * Reads everything of the drilled subjects that is no row of a table, such as uploaded files: each segment has to open and be what its page says. Returns how many
 * contents there are.
 *
 * @throws PartywallError archive_damaged, key_missing, store_object_missing
 */
export async function readContents(restore: ScratchRestore, signal: AbortSignal | undefined): Promise<number> {
  const rowTables = new Set(restore.tables.map(({ stored }) => stored.name));
  let read = 0;
  await sideBySide(subjectsOf(restore), subjectsAtOnce, async ({ ref }) => {
    for (const { table, segments } of (await restore.backup.page(ref)).tables.filter((each) => !rowTables.has(each.table))) {
      signal?.throwIfAborted();
      for await (const _ of restore.backup.segments(ref, table, segments));
      read += 1;
    }
  });
  return read;
}

const nothing: RowsDigest = rowsSum().digest();

function difference(
  table: string,
  { kept, found, promised }: { readonly kept: RowsDigest; readonly found: RowsDigest; readonly promised: number },
): string | undefined {
  if (kept.rows !== promised) return `${table}: its segments have ${kept.rows} rows, and its page promises ${promised}`;
  if (found.rows !== promised) return `${table}: ${found.rows} rows are there, and the backup has ${promised}`;
  return found.digest === kept.digest ? undefined : `${table}: a value is not what the backup has, among ${promised} rows`;
}

/** Rows of the scratch database by whose they are. */
async function readBack(client: pg.Client, restore: ScratchRestore, { name, stored }: RecoveryTable): Promise<ReadonlyMap<string, RowsSum>> {
  const drilled = new Set(restore.tiers.flatMap((tier) => tier.subjects).map(({ tenant }) => tenant));
  const sums = new Map<string, RowsSum>();
  await client.query('begin isolation level repeatable read, read only');
  await pinTexts(client);
  const columns = identList(stored.columns.map((column) => column.name));
  const lines = readLines(client.query(copyTo(`copy (select ${columns} from ${sourceOf(restore, name)} t) to stdout`)));
  for await (const line of lines) {
    const tenant = tenantOf(line, stored);
    const owner = tenant !== undefined && drilled.has(tenant) ? tenant : nobody;
    const sum = sums.get(owner) ?? rowsSum();
    sums.set(owner, sum);
    sum.add(line);
  }
  await client.query('commit');
  return sums;
}

/** The tenant's column comes first, so that a long line is not cut into all its fields. */
function tenantOf(line: Buffer, { columns, tenantColumn }: RecoveryTable['stored']): string | undefined {
  if (tenantColumn === null) return undefined;
  const isFirst = columns[0]?.name === tenantColumn && columns.length > 1;
  return fieldOf(isFirst ? line.subarray(0, line.indexOf(tab)) : line, { columns }, tenantColumn) ?? undefined;
}
