import { createHash } from 'node:crypto';
import type pg from 'pg';
import { PartywallError } from '../../errors.ts';
import type { Store } from '../../store/store.ts';
import { type Archive, pagesObject } from '../archive.ts';
import type { ManifestSubject } from '../format/manifest.ts';
import { type Page, page as pageSchema } from '../format/page.ts';
import { backupIds } from '../read/list-backups.ts';
import { type Backup, openBackup } from '../read/open-backup.ts';

/**
 * What an earlier backup read can be taken over only where this database has that backup's snapshot in its own past. It has where it holds the
 * lineage that the backup wrote into it after its snapshot had ended: `docs/decisions/0012-archive.md`.
 */
export interface Lineage {
  /**
   * What the database holds: of the last backup that wrote one, and of this database alone. Undefined: nothing, or that backup was looked at and is not
   * whole, and whoever went on from it would not be either.
   */
  readonly held: string | undefined;
  /** The backup that wrote it. */
  readonly backup: string | undefined;
  /** Of the cluster and the database in it, so that a row that came with a dump is not believed. */
  readonly home: string;
}

/** Manifests that are looked at for one that can be read. */
const candidatesMax = 50;
/** Of pages that lie one after the other, read at once. */
const pagesAtOnceBytes = 4 * 1024 ** 2;

/** @param client sees `partywall_control` */
export async function readLineage(client: pg.ClientBase): Promise<Lineage> {
  const { rows } = await client.query<{ lineage: string | null; backup: string | null; system: string; database: string }>(
    `select (select l.backup from partywall_control.archive_lineage l) as backup, (select l.lineage from partywall_control.archive_lineage l
        where not exists (select from partywall_control.backup_runs r where r.backup = l.backup and r.state = 'failed')) as lineage,
      (select system_identifier::text from pg_catalog.pg_control_system()) as system,
      (select oid::text from pg_catalog.pg_database where datname = current_database()) as database`,
  );
  const [row] = rows;
  const home = createHash('sha256').update(`${row?.system} ${row?.database}`).digest('hex').slice(0, 16);
  return { held: row?.lineage ?? undefined, backup: row?.backup ?? undefined, home };
}

/** The manifest's text of a lineage. */
export function lineageText(written: string, home: string): string {
  return `${written}@${home}`;
}

/** The backups before this one: the last, which it follows in the chain, and the one whose segments it may take over. */
export interface Predecessors {
  readonly previous: Backup | undefined;
  readonly base: Backup | undefined;
  /** What could not be read of them, a line each. It keeps nobody from backing up: then above all a backup is needed. */
  readonly damage: readonly string[];
}

export async function findPredecessors(archive: Archive, { held, backup: last, home }: Lineage): Promise<Predecessors> {
  const ids = (await backupIds(archive)).reverse();
  const damage: string[] = [];
  const named = held !== undefined && last !== undefined ? last : undefined;
  if (named !== undefined && !ids.includes(named)) {
    damage.push(`backup ${named}, the last one of this database, is not in this archive: it was cut off, went elsewhere, or somebody removed it`);
  }
  const looked = new Map<string, Backup | undefined>();
  const look = async (id: string): Promise<Backup | undefined> => {
    if (!looked.has(id)) looked.set(id, await unlessDamaged(damage, () => openBackup(archive, id)));
    return looked.get(id);
  };
  let previous: Backup | undefined;
  for (const id of ids.slice(0, candidatesMax)) {
    previous = await look(id);
    if (previous) break;
  }
  if (held === undefined || named === undefined || !ids.includes(named)) return { previous, base: undefined, damage };
  const found = await look(named);
  const isBase = found?.manifest.scope === 'all' && found.manifest.source.lineage === lineageText(held, home);
  return { previous, base: isBase ? found : undefined, damage };
}

/** Undefined where something of an earlier backup is damaged or gone, which is noted. */
export async function unlessDamaged<Result>(damage: string[], work: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof PartywallError) || !['archive_damaged', 'store_object_missing', 'backup_unknown'].includes(error.code)) throw error;
    damage.push(`an earlier backup cannot be read, so nothing is taken over from it: ${error.message}`);
    return undefined;
  }
}

/** Pages of subjects, those that lie together read together. In the order in which they lie. */
export async function* readPages(store: Store, subjects: readonly ManifestSubject[]): AsyncGenerator<{ subject: ManifestSubject; page: Page }> {
  const placed = subjects.toSorted((left, right) =>
    left.page.backup === right.page.backup ? left.page.offset - right.page.offset : left.page.backup < right.page.backup ? -1 : 1,
  );
  for (let at = 0; at < placed.length; ) {
    const run = runFrom(placed, at);
    at += run.length;
    const [first] = run;
    const end = run.at(-1);
    if (!first || !end) break;
    const key = pagesObject(first.page.backup);
    const length = end.page.offset + end.page.bytes - first.page.offset;
    const pieces: Buffer[] = [];
    for await (const piece of store.get(key, { offset: first.page.offset, length })) pieces.push(piece);
    const bytes = Buffer.concat(pieces);
    for (const subject of run) {
      const from = subject.page.offset - first.page.offset;
      yield { subject, page: parsePage(bytes.subarray(from, from + subject.page.bytes), subject, key) };
    }
  }
}

function runFrom(placed: readonly ManifestSubject[], at: number): ManifestSubject[] {
  const run: ManifestSubject[] = [];
  let bytes = 0;
  for (const subject of placed.slice(at, at + 1_000)) {
    const last = run.at(-1);
    if (last && (last.page.backup !== subject.page.backup || last.page.offset + last.page.bytes !== subject.page.offset || bytes > pagesAtOnceBytes)) break;
    run.push(subject);
    bytes += subject.page.bytes;
  }
  return run;
}

function parsePage(stored: Buffer, { subject, page: { sha256 } }: ManifestSubject, key: string): Page {
  const damaged = (what: string): PartywallError => new PartywallError('archive_damaged', `reading the page of subject ${subject} in ${key}: ${what}`);
  if (createHash('sha256').update(stored).digest('hex') !== sha256) throw damaged('it is not the one that the manifest names');
  const parsed = pageSchema.safeParse(JSON.parse(stored.toString('utf8')));
  if (!parsed.success) throw damaged(`it is malformed at ${parsed.error.issues[0]?.path.join('.')}`);
  if (parsed.data.subject !== subject) throw damaged(`it is the page of subject ${parsed.data.subject}`);
  return parsed.data;
}
