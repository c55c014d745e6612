import type { Catalog } from '../../catalog/catalog.ts';

/** What an undo backup is told, and tells. */
export interface Undoing {
  /** Called once the moment is fixed that the backup is of: what changes from then on is not in it. Where it is not called, nothing changes before the end. */
  readonly fixed: () => void;
  /** The restore has failed: nobody needs the backup any more. */
  readonly signal: AbortSignal;
  /** As it was read a moment ago, for the plan; reading it once more would keep the tenant out for longer. */
  readonly catalog?: Catalog | undefined;
}

/**
 * Restores while the undo backup, whose moment came before, is being stored: the tenant is out for as long as the longer of both takes, and not for their
 * sum. `apply` waits for the backup before it commits, so that without one nothing has changed.
 *
 * @throws whatever one of the two throws; both have ended then
 */
export async function besideUndo<Applied>(
  undo: (undoing: Undoing) => Promise<string>,
  apply: (stored: Promise<string>) => Promise<Applied>,
): Promise<{ readonly undo: string; readonly applied: Applied }> {
  const failed = new AbortController();
  const fixed = Promise.withResolvers<void>();
  const stored = undo({ fixed: fixed.resolve, signal: failed.signal });
  await Promise.race([fixed.promise, stored]);
  try {
    const applied = await apply(stored);
    return { applied, undo: await stored };
  } finally {
    failed.abort();
    await Promise.allSettled([stored]);
  }
}
