import { z } from 'zod';
import { problem } from './problem.ts';
import { text } from './schemas.ts';

/**
 * Lists are paged by cursor: `?limit=&cursor=` → `{ items, nextCursor }`. A cursor is the sort key of the last item, so that a page costs the
 * same wherever it is, and neither skips nor repeats what was there all along. It is no secret and no proof: whoever asks with one is
 * admitted like everybody else, and what it holds reaches SQL only as parsed values in parameters.
 */
const pageLimitDefault = 50;
const pageLimitMax = 200;
const cursorCharactersMax = 2_000;

/** The query of a list. Spread its shape where a list has filters: `z.strictObject({ ...pageQuery.shape, status })`. */
export const pageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(pageLimitMax).default(pageLimitDefault).describe('Items on a page'),
  cursor: text(cursorCharactersMax).min(1).optional().describe('`nextCursor` of the page before'),
});

/** The answer of a list. */
export function pageSchema<Item extends z.ZodType>(
  item: Item,
): z.ZodObject<{ items: z.ZodArray<Item>; nextCursor: z.ZodNullable<z.ZodString> }, z.core.$strip> {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable().describe('Null on the last page') });
}

export interface Page<Item> {
  readonly items: Item[];
  readonly nextCursor: string | null;
}

/**
 * The page that `limit + 1` rows give: the one too many tells that there is another page.
 *
 * @param cursorOf the sort key of a row; times as text with all digits that the database sorts by, because `Date` drops microseconds
 */
export function pageOf<Item>(rows: readonly Item[], limit: number, cursorOf: (last: Item) => unknown): Page<Item> {
  const items = rows.slice(0, limit);
  const last = rows.length > limit ? items.at(-1) : undefined;
  return { items, nextCursor: last === undefined ? null : encodeCursor(cursorOf(last)) };
}

/** The text of a sort key. */
export function encodeCursor(key: unknown): string {
  return Buffer.from(JSON.stringify(key)).toString('base64url');
}

/**
 * The sort key that a cursor stands for; undefined on the first page.
 *
 * @throws Problem invalid_cursor
 */
export function decodeCursor<Key extends z.ZodType>(schema: Key, cursor: string | undefined): z.output<Key> | undefined {
  if (cursor === undefined) return undefined;
  const parsed = schema.safeParse(parseCursor(cursor));
  if (!parsed.success) throw problem('invalid_cursor', { cause: parsed.error });
  return parsed.data;
}

function parseCursor(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString(), (_key, value: unknown) => {
      // PostgreSQL refuses a NUL, and stores half of a surrogate pair as another character.
      if (typeof value === 'string' && (value.includes('\0') || !value.isWellFormed())) throw new TypeError('the cursor holds what is not text');
      return value;
    });
  } catch (cause) {
    throw problem('invalid_cursor', { cause });
  }
}
