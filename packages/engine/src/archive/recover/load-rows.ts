import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { connect } from '../../db/connect.ts';
import { identList } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import { pinTexts } from '../../tenants/transfer/session.ts';
import type { Page } from '../format/page.ts';
import type { Backup } from '../read/open-backup.ts';
import type { RecoverySubject, RecoveryTable } from './plan-recovery.ts';
import { remember } from './target.ts';

/** Subjects that are loaded in one transaction, so that ten thousand small tenants are not a million COPYs. */
const unitSubjectsMax = 100;
/** Plain bytes at which a unit is closed; one subject may be larger. */
const unitBytes = 32 * 1024 ** 2;

export interface LoadInput {
  readonly url: string;
  readonly backup: Backup;
  readonly tables: readonly RecoveryTable[];
  readonly subjects: readonly RecoverySubject[];
  readonly done: ReadonlySet<string>;
  readonly workers: number;
  readonly signal?: AbortSignal | undefined;
  readonly onLoaded?: ((loaded: { readonly subjects: number; readonly rows: number; readonly bytes: number }) => void) | undefined;
}

/**
 * Loads the rows of subjects, some at a time on connections of their own. Each transaction also records what it loaded, and its rows are those that
 * the pages promise; memory is that of a chunk for each worker.
 *
 * @throws PartywallError archive_damaged, key_missing, restore_refused (a row that the table refuses)
 */
export async function loadRows(input: LoadInput): Promise<void> {
  const units = unitsOf(input.subjects.filter(({ ref }) => !input.done.has(ref)));
  const workers = Math.min(input.workers, units.length);
  const stop = new AbortController();
  const signal = input.signal ? AbortSignal.any([input.signal, stop.signal]) : stop.signal;
  let next = 0;
  const work = async (): Promise<void> => {
    const client = await connect(input.url, { purpose: 'recover' });
    try {
      for (let unit = units[next++]; unit; unit = units[next++]) {
        signal.throwIfAborted();
        await loadUnit(client, input, unit);
        input.onLoaded?.({ subjects: unit.length, rows: sum(unit, 'rows'), bytes: sum(unit, 'bytes') });
      }
    } finally {
      await client.end();
    }
  };
  const ended = await Promise.allSettled(
    Array.from({ length: workers }, () =>
      work().catch((error: unknown) => {
        stop.abort();
        throw error;
      }),
    ),
  );
  input.signal?.throwIfAborted();
  // The first cause; the others stopped because of it.
  const failed = ended.filter((each) => each.status === 'rejected').map(({ reason }) => reason as unknown);
  const cause = failed.find((reason) => !(reason instanceof Error && reason.name === 'AbortError'));
  if (failed.length > 0) throw cause ?? failed[0];
}

async function loadUnit(client: pg.Client, { backup, tables }: LoadInput, unit: readonly RecoverySubject[]): Promise<void> {
  const pages = await Promise.all(unit.map(async (subject) => ({ subject, page: await backup.page(subject.ref) })));
  await client.query('begin isolation level read committed');
  try {
    await pinTexts(client);
    const counts: Record<string, number> = {};
    for (const table of tables) {
      const rows = await loadTable(client, backup, table, pages);
      if (rows > 0) counts[table.name] = rows;
    }
    for (const [at, { ref }] of unit.entries()) await remember(client, ref, at === 0 ? counts : {});
    await client.query('commit');
  } catch (error) {
    // Inside a COPY only the end of the connection stops the server; otherwise the transaction ends with it too.
    await client.end();
    throw error;
  }
}

interface SubjectPage {
  readonly subject: RecoverySubject;
  readonly page: Page;
}

/** Loads a table of some subjects. Returns how many rows came. */
async function loadTable(client: pg.Client, backup: Backup, { name, stored }: RecoveryTable, pages: readonly SubjectPage[]): Promise<number> {
  const found = pages.flatMap(({ subject, page }) => {
    const table = page.tables.find((each) => each.table === stored.name);
    return table ? [{ ref: subject.ref, table }] : [];
  });
  if (found.length === 0) return 0;
  const promised = found.reduce((total, { table }) => total + table.rows, 0);
  const columns = identList(stored.columns.map((column) => column.name));
  const into = client.query(copyFrom(`copy ${quoted(name)} (${columns}) from stdin`));
  const rows = async function* (): AsyncGenerator<Buffer> {
    for (const { ref, table } of found) yield* backup.segments(ref, stored.name, table.segments);
  };
  try {
    await pipeline(Readable.from(rows(), { objectMode: false }), into);
  } catch (cause) {
    if (cause instanceof PartywallError) throw cause;
    // The server's detail would quote the row.
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new PartywallError('restore_refused', `loading ${name}: ${why}`, { cause });
  }
  if (into.rowCount !== promised) {
    throw new PartywallError('archive_damaged', `loading ${name}: ${into.rowCount} rows came, and their pages promise ${promised}`);
  }
  return promised;
}

function unitsOf(subjects: readonly RecoverySubject[]): RecoverySubject[][] {
  const units: RecoverySubject[][] = [];
  let bytes = 0;
  for (const subject of subjects) {
    const last = units.at(-1);
    if (last && last.length < unitSubjectsMax && bytes + subject.bytes <= unitBytes) last.push(subject);
    else {
      units.push([subject]);
      bytes = 0;
    }
    bytes += subject.bytes;
  }
  return units;
}

function sum(unit: readonly RecoverySubject[], of: 'rows' | 'bytes'): number {
  return unit.reduce((total, subject) => total + subject[of], 0);
}
