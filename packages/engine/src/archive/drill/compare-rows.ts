import type pg from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { identList } from '../../db/sql.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import { sourceOf } from '../recover/check-rows.ts';
import { fieldOf, type RowsDigest, type RowsSum, readLines, rowsSum } from '../recover/copy-lines.ts';
import type { RecoveryTable } from '../recover/plan-recovery.ts';
import type { ScratchRestore } from './restore-scratch.ts';

export interface Comparison {
  readonly rows: number;
  /** What differs, by tenant; an empty name: what belongs to no tenant that was drilled. */
  readonly problems: readonly { readonly tenant: string; readonly what: string }[];
}

/** Whatever is nobody's who was drilled: rows of the platform, and rows that should not be there. */
const nobody = '';
const tab = 0x09;

/**
 * Reads every table of the scratch database back and compares it with the backup, tenant by tenant: as many rows as the pages promise, and the same ones, whatever
 * their order. What the backup holds is read again too, so that what its pages promise is what their segments have. One pass over each table; memory is a sum for
 * each tenant.
 */
export async function compareRows(client: pg.Client, restore: ScratchRestore, signal: AbortSignal | undefined): Promise<Comparison> {
  const problems: { tenant: string; what: string }[] = [];
  let rows = 0;
  for (const table of restore.tables) {
    signal?.throwIfAborted();
    const there = await readBack(client, restore, table);
    for (const { tenant, refs } of owners(restore, table)) {
      const kept = await readKept(restore, table, refs);
      const found = there.get(tenant)?.digest() ?? nothing;
      rows += found.rows;
      const what = difference(table.name, { kept, found, promised: promisedRows(restore, table, refs) });
      if (what !== undefined) problems.push({ tenant, what });
    }
  }
  return { rows, problems };
}

/**
 * Reads everything of the drilled subjects that is no row of a table, such as uploaded files: each segment has to open and be what its page says. Returns how many
 * contents there are.
 *
 * @throws PartywallError archive_damaged, key_missing, store_object_missing
 */
export async function readContents({ backup, pages, tables }: ScratchRestore, signal: AbortSignal | undefined): Promise<number> {
  const rowTables = new Set(tables.map(({ stored }) => stored.name));
  let read = 0;
  for (const [ref, page] of pages) {
    for (const { table, segments } of page.tables.filter((each) => !rowTables.has(each.table))) {
      signal?.throwIfAborted();
      for await (const _ of backup.segments(ref, table, segments));
      read += 1;
    }
  }
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

interface RowsOwner {
  readonly tenant: string;
  /** Subjects of the backup that hold them. */
  readonly refs: readonly string[];
}

/** Whose rows a table has. Where it does not say, all of them are compared at once, under nobody's name. */
function owners({ platform, tiers, pages }: ScratchRestore, { stored }: RecoveryTable): RowsOwner[] {
  if (stored.tenantColumn === null) return [{ tenant: nobody, refs: [...pages.keys()] }];
  return [platform, ...tiers.flatMap((tier) => tier.subjects)].map(({ tenant, ref }) => ({ tenant: tenant ?? nobody, refs: [ref] }));
}

async function readKept({ pages, backup }: ScratchRestore, { stored }: RecoveryTable, refs: readonly string[]): Promise<RowsDigest> {
  const sum = rowsSum();
  for (const ref of refs) {
    const segments = pages.get(ref)?.tables.find(({ table }) => table === stored.name)?.segments ?? [];
    for await (const line of readLines(backup.segments(ref, stored.name, segments))) sum.add(line);
  }
  return sum.digest();
}

function promisedRows({ pages }: ScratchRestore, { stored }: RecoveryTable, refs: readonly string[]): number {
  return refs.reduce((total, ref) => total + (pages.get(ref)?.tables.find(({ table }) => table === stored.name)?.rows ?? 0), 0);
}
