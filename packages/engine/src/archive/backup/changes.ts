import type { DataKey } from '../../keyring/data-keys.ts';
import type { Store } from '../../store/store.ts';
import { isFilesTable } from '../files/file-index.ts';
import type { Page, PageTable } from '../format/page.ts';
import type { Backup } from '../read/open-backup.ts';
import { readPages } from './base.ts';
import { type Marks, marksHash } from './marks.ts';
import type { Source } from './sources.ts';

/** What of each subject has to be read, source by source. */
export interface Changes {
  /** For each source, by subject: 1 where its rows are read. Shared with the threads. */
  readonly wanted: readonly Uint8Array[];
  /** Subjects whose page of the base still says all. */
  readonly unchanged: Uint8Array;
}

export interface ChangesInput {
  readonly sources: readonly Source[];
  readonly marks: readonly Marks[];
  readonly subjects: readonly { readonly key: DataKey | undefined; readonly ref: string | undefined }[];
  /** Further tables of the platform's page: the schema, by its mark. */
  readonly schemaMark: string;
  readonly schemaTable: string;
  /** Whether files are looked at too: what a page says of them is compared elsewhere. */
  readonly files: boolean;
  /** Whether rows of no tenant are read. */
  readonly platform: boolean;
}

/** Nothing is believed: every subject of the run is read. */
export function everything({ sources, subjects, platform }: ChangesInput): Changes {
  return { wanted: sources.map(() => shared(subjects.length, platform)), unchanged: new Uint8Array(subjects.length) };
}

/**
 * Compares what the base says with the marks of the database. Where the manifest's hash of a subject's marks is the same, its page is not read: ten
 * thousand pages of a hundred tables are about 350 MB. Of the others each is let go as it is read.
 */
export async function compare(store: Store, base: Backup, input: ChangesInput): Promise<Changes> {
  const { sources, marks, subjects, schemaMark, schemaTable } = input;
  const changes = everything(input);
  const numbers = new Map(subjects.flatMap(({ ref }, number) => (ref === undefined ? [] : [[ref, number] as const])));
  // Not those of the manifest that retention took out since: their packs may go.
  const known = [...base.subjects.values()].filter(({ subject }) => numbers.has(subject));
  const listed = { names: sources.map(({ name }) => name), marks, schema: schemaMark, files: input.files };
  const others = known.filter((entry) => {
    const subject = numbers.get(entry.subject) ?? 0;
    const keyId = subjects[subject]?.key?.id;
    const isSame = entry.marks !== undefined && keyId !== undefined && entry.marks === marksHash(listed, subject, keyId);
    if (isSame) {
      changes.unchanged[subject] = 1;
      for (const wanted of changes.wanted) wanted[subject] = 0;
    }
    return !isSame;
  });
  for await (const { page } of readPages(store, others)) {
    const subject = numbers.get(page.subject);
    if (subject === undefined) continue;
    const stored = new Map(page.tables.map((table) => [table.table, table]));
    const keyId = subjects[subject]?.key?.id;
    let same = 0;
    let expected = 0;
    for (const [number, { name }] of sources.entries()) {
      const mine = marks[number];
      const table = stored.get(name);
      const rows = mine?.rows[subject] ?? 0;
      if (rows > 0) expected += 1;
      if (rows === 0 || isSame(table, mine?.markOf(subject) ?? null, keyId)) {
        const wanted = changes.wanted[number];
        if (wanted) wanted[subject] = 0;
        if (rows > 0) same += 1;
      }
    }
    const schema = subject === 0 ? 1 : 0;
    const schemaSame = subject !== 0 || isSame(stored.get(schemaTable), schemaMark, keyId);
    const files = input.files ? page.tables.filter(({ table }) => isFilesTable(table)).length : 0;
    if (same === expected && schemaSame && page.tables.length === expected + schema + files) changes.unchanged[subject] = 1;
  }
  return changes;
}

/** Whether the page's rows are those of the database. @param keyId undefined: the key is not asked about */
export function isSame(table: PageTable | undefined, mark: string | null, keyId: string | undefined): table is PageTable {
  return table !== undefined && mark !== null && table.mark === mark && (keyId === undefined || table.segments.every(({ key }) => key === keyId));
}

/** The page of the base, where it has one of this subject. */
export async function pageOf(base: Backup | undefined, ref: string): Promise<Page | undefined> {
  return base?.subjects.has(ref) ? base.page(ref) : undefined;
}

function shared(length: number, platform: boolean): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(length)).fill(1);
  if (!platform) bytes[0] = 0;
  return bytes;
}
