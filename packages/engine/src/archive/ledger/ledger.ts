import { PartywallError } from '../../errors.ts';
import { readObject } from '../../store/read-object.ts';
import type { Archive } from '../archive.ts';
import {
  type LedgerContent,
  type LedgerEntry,
  type LedgerRecord,
  ledgerObject,
  objectBytesMax,
  objectHash,
  objectsPerSummary,
  readLedgerObject,
  writeLedgerObject,
} from './ledger-object.ts';

/** Processes that write at once: each attempt loses against one of them. */
const attemptsMax = 50;
const recordsPerObjectMax = 10_000;

/** What the ledger says now. */
export interface Ledger {
  /** Of its last object; 0: there is none. */
  readonly number: number;
  /** SHA-256 of the last object, hex. */
  readonly sha256: string | null;
  /** The latest record of each tenant. */
  readonly tenants: ReadonlyMap<string, LedgerRecord>;
}

/**
 * The ledger, kept beside the backups and not in the database: which tenants were suspended, cancelled, deleted, erased or placed elsewhere. A database
 * that comes back from a backup has forgotten what happened since; this has not. Read from its last summary on.
 *
 * @throws PartywallError archive_damaged, key_missing, store_unavailable
 */
export async function readLedger(archive: Archive): Promise<Ledger> {
  const number = await lastNumber(archive);
  if (number === 0) return { number, sha256: null, tenants: new Map() };
  const tenants = new Map<string, LedgerRecord>();
  let before: Read | undefined;
  for (let at = Math.max(1, number - (number % objectsPerSummary)); at <= number; at += 1) {
    const read = await readAt(archive, at);
    refuseGap(before, read);
    for (const record of read.content.records) tenants.set(record.tenant, record);
    before = read;
  }
  return { number, sha256: before?.sha256 ?? null, tenants };
}

/** Every record in order, from the first; every object's place in the chain is checked. @throws PartywallError archive_damaged, key_missing */
export async function* ledgerRecords(archive: Archive): AsyncGenerator<LedgerRecord & { readonly number: number }> {
  const last = await lastNumber(archive);
  let before: Read | undefined;
  for (let at = 1; at <= last; at += 1) {
    const read = await readAt(archive, at);
    refuseGap(before, read);
    // A summary says nothing new.
    if (!read.content.summary) for (const record of read.content.records) yield { ...record, number: at };
    before = read;
  }
}

/**
 * Writes down what became of tenants, before anything relies on it: an erasure is in the ledger before it is certified. When this returns the
 * records are stored.
 *
 * @throws PartywallError store_conflict (too many others write), store_unavailable, escrow_unverified
 */
export async function appendLedger(archive: Archive, records: readonly LedgerRecord[], at: Date): Promise<Ledger> {
  let ledger = await readLedger(archive);
  for (let from = 0; from < records.length; from += recordsPerObjectMax) {
    ledger = await appendObject(archive, ledger, records.slice(from, from + recordsPerObjectMax), at);
  }
  return ledger;
}

async function appendObject(archive: Archive, known: Ledger, records: readonly LedgerRecord[], at: Date): Promise<Ledger> {
  let ledger = known;
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const number = ledger.number + 1;
    // A number of the summaries is taken by one, and the records follow under the next.
    const isSummary = number % objectsPerSummary === 0;
    const content: LedgerContent = { summary: isSummary, records: isSummary ? [...ledger.tenants.values()] : [...records] };
    const bytes = await writeLedgerObject(archive, { number, at: at.toISOString(), previous: ledger.sha256 }, content);
    try {
      await archive.store.put(ledgerObject(number), bytes, { ifAbsent: true });
    } catch (error) {
      if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
      ledger = await readLedger(archive);
      continue;
    }
    const tenants = new Map(ledger.tenants);
    for (const record of content.records) tenants.set(record.tenant, record);
    ledger = { number, sha256: objectHash(bytes), tenants };
    if (!isSummary) return ledger;
  }
  throw new PartywallError('store_conflict', `writing the ledger: others were faster ${attemptsMax} times`);
}

interface Read {
  readonly entry: LedgerEntry;
  readonly content: LedgerContent;
  readonly sha256: string;
}

async function readAt(archive: Archive, number: number): Promise<Read> {
  const bytes = await readObject(archive.store, ledgerObject(number), objectBytesMax);
  return { ...(await readLedgerObject(archive, number, bytes)), sha256: objectHash(bytes) };
}

function refuseGap(before: Read | undefined, { entry }: Read): void {
  if (before ? entry.previous === before.sha256 : entry.number > 1 || entry.previous === null) return;
  throw new PartywallError('archive_damaged', `reading entry ${entry.number} of the ledger: it does not follow the one before it`);
}

/** The number of the last object: doubling, then halving, as the numbers have no gap. */
async function lastNumber({ store }: Pick<Archive, 'store'>): Promise<number> {
  const isThere = async (number: number): Promise<boolean> => (await store.head(ledgerObject(number))) !== undefined;
  if (!(await isThere(1))) return 0;
  let there = 1;
  while (await isThere(there * 2)) there *= 2;
  let beyond = there * 2;
  while (beyond - there > 1) {
    const middle = Math.floor((there + beyond) / 2);
    if (await isThere(middle)) there = middle;
    else beyond = middle;
  }
  return there;
}
