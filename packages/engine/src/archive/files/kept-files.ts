import { PartywallError } from '../../errors.ts';
import { tenantSubject } from '../../keyring/data-keys.ts';
import type { Archive } from '../archive.ts';
import type { PageSegment } from '../format/page.ts';
import { contentMac } from '../format/segment.ts';
import { type Backup, openSegment, refOf, whyNot } from '../read/open-backup.ts';
import { contentTable, type IndexedFile, indexTable, placesOf, readIndex } from './file-index.ts';

/** A tenant's files of one place, as a backup holds them. */
export interface KeptFiles {
  readonly place: string;
  /** In the order of their paths. */
  readonly files: readonly IndexedFile[];
  read(file: IndexedFile): AsyncIterable<Buffer>;
  /** Whether this is the content of the file, to the byte. */
  isContent(file: IndexedFile, content: AsyncIterable<Buffer>): Promise<boolean>;
}

/**
 * The files that a backup holds of a tenant, place by place, also those places without any.
 *
 * @throws PartywallError restore_refused (the backup is of other data classes), key_missing, backup_unknown, archive_damaged
 */
export async function keptFiles(archive: Archive, backup: Backup, tenant: string): Promise<KeptFiles[]> {
  const { manifest } = backup;
  const looking = `looking for files of tenant ${tenant.slice(0, 100)} in backup ${manifest.id}`;
  if (!manifest.classes.includes('files')) throw new PartywallError('restore_refused', `${looking}: it holds ${manifest.classes.join(', ')} only`);
  const ref = refOf(archive, tenantSubject(tenant));
  if (!backup.subjects.has(ref)) throw new PartywallError('backup_unknown', `${looking}: ${whyNot(backup, ref)}`);
  const stored = new Map((await backup.page(ref)).tables.map((table) => [table.table, table.segments]));
  const kept: KeptFiles[] = [];
  for (const place of placesOf(manifest.tables)) {
    const table = contentTable(place);
    const segments = new Map(stored.get(table)?.map((segment) => [segment.part, segment]));
    const segmentOf = ({ part }: IndexedFile): PageSegment => {
      const segment = segments.get(part);
      if (!segment) throw new PartywallError('archive_damaged', `${looking}: its index names part ${part} of ${table}, which its page does not have`);
      return segment;
    };
    kept.push({
      place,
      files: await readIndex(backup.segments(ref, indexTable(place), stored.get(indexTable(place)) ?? [])),
      read: (file) => openSegment(archive, { ref, table, segment: segmentOf(file) }),
      isContent: async (file, content) => {
        const segment = segmentOf(file);
        const hmac = contentMac(archive.keys.byId(segment.key), table);
        for await (const piece of content) hmac.update(piece);
        return hmac.digest('hex') === segment.mac;
      },
    });
  }
  return kept;
}
