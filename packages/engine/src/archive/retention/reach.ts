import { packObject, pagesObject } from '../archive.ts';
import type { ManifestSubject } from '../format/manifest.ts';

/**
 * Objects that manifests reach. Held by subject and by the part of the name that subjects have in common, which takes about 50 bytes for each pack:
 * a million of them fit into memory.
 */
export interface Reach {
  add(subjects: Iterable<Pick<ManifestSubject, 'subject' | 'page' | 'packs'>>): void;
  /** Whether something needs the object: a name of `packs/` or of the pages of a backup. */
  has(key: string): boolean;
}

export function emptyReach(): Reach {
  const pages = new Set<string>();
  const packs = new Map<string, Set<string>>();
  const shared = new Map<string, string>();
  return {
    add: (subjects) => {
      for (const { subject, page, packs: reached } of subjects) {
        pages.add(pagesObject(page.backup));
        const own = packs.get(subject) ?? new Set();
        packs.set(subject, own);
        for (const { backup, pack } of reached) {
          const name = packObject('', backup, pack);
          const known = shared.get(name) ?? name;
          shared.set(known, known);
          own.add(known);
        }
      }
    },
    has: (key) => {
      if (pages.has(key)) return true;
      const [folder = '', ref = '', name = ''] = key.split('/');
      return folder === 'packs' && (packs.get(ref)?.has(`packs//${name}`) ?? false);
    },
  };
}
