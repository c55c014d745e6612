import type { OpenArchive, Operation } from '@partywall/engine';
import { carryOut, type Work } from './work.ts';

/** Carries a work out and tells of each statement that its pool sends, by its number; afterwards how many they were, and what the work failed with. */
export async function carryOutTelling(
  { operation, archive }: { readonly operation: Operation; readonly archive: OpenArchive },
  work: Work,
  hear: (statement: number) => void,
): Promise<{ readonly statements: number; readonly failed: unknown }> {
  const { pool } = operation.database;
  const { query } = pool;
  let statements = 0;
  const counted = (): void => {
    statements += 1;
    hear(statements);
  };
  pool.on('acquire', counted);
  Object.assign(pool, {
    query: (...parts: Parameters<typeof query>) => {
      counted();
      return query.apply(pool, parts);
    },
  });
  const failed = await carryOut(operation, archive, work).then(
    () => undefined,
    (error: unknown) => error,
  );
  pool.off('acquire', counted);
  Object.assign(pool, { query });
  return { statements, failed };
}
