import type { Works } from '../durable/work.ts';
import { works } from '../tenants/works.ts';
import { cloneKind, cloneWork } from './clone/clone-work.ts';
import { moveKind } from './move/move-tenant.ts';
import { moveWork } from './move/move-work.ts';
import type { Placements } from './move/placements.ts';
import { restoreWorks } from './restore/from-archive.ts';
import type { BackupSettings } from './schedule/settings.ts';
import { type ArchiveOpener, archiveWorks } from './schedule/works.ts';

/**
 * Everything that takes time, with an archive and placements or without. Whoever carries operations out goes on with those of processes that are gone, of
 * whatever kind, so it has to know all of them.
 */
export function worksOf({
  archive,
  placements,
}: {
  readonly archive?: { readonly open: ArchiveOpener; readonly settings?: BackupSettings } | undefined;
  readonly placements?: Placements | undefined;
}): Works {
  return {
    ...works,
    [cloneKind]: cloneWork(archive?.open),
    ...(archive && { ...archiveWorks(archive.open, archive.settings), ...restoreWorks(archive.open) }),
    ...(placements && { [moveKind]: moveWork(placements) }),
  };
}
