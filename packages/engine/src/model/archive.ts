import { z } from 'zod';
import { type FileRules, filesConfig } from './files.ts';

/** What the archive needs to know of the application. */
export interface ArchiveRules {
  /** Questions that a restored tenant answers, asked by drills. */
  readonly smoke: readonly SmokeQuery[];
  /** Where the files are that tenants upload, by a name of the operator's. */
  readonly files: FileRules;
}

/** Runs as the application's role inside each tenant that is drilled, in a transaction that is rolled back. */
export interface SmokeQuery {
  /** One statement; names without a schema are looked for where the application's role looks. */
  readonly sql: string;
  /** `rows`: at least one. A number: the one value that it gives. Undefined: that it runs is enough. */
  readonly expect: 'rows' | number | undefined;
}

const sqlCharactersMax = 10_000;
const smokeQueriesMax = 50;

const smokeQuery = z
  .strictObject({ sql: z.string().trim().min(1).max(sqlCharactersMax), expect: z.union([z.literal('rows'), z.number()]).optional() })
  .transform(({ sql, expect }): SmokeQuery => ({ sql, expect }));

export const archiveConfig = z.strictObject({ smoke: z.array(smokeQuery).max(smokeQueriesMax).optional(), files: filesConfig.optional() });

export function archiveRules(written: z.output<typeof archiveConfig> | undefined): ArchiveRules {
  return { smoke: written?.smoke ?? [], files: written?.files ?? new Map() };
}
