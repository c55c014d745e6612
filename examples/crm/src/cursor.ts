import { z } from 'zod';
import { Problem } from './problem.ts';

/** The last row of a page in the list's order, by name and then id; the next page starts after it. */
export interface Cursor {
  readonly name: string;
  readonly id: string;
}

const content = z.tuple([z.string().refine((name) => !name.includes('\0')), z.guid()]);

export function encodeCursor({ name, id }: Cursor): string {
  return Buffer.from(JSON.stringify([name, id])).toString('base64url');
}

/** Throws the problem `invalid_cursor` for anything that `encodeCursor` does not return. */
export function decodeCursor(text: string): Cursor {
  let decoded: unknown;
  try {
    decoded = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch (cause) {
    throw new Problem('invalid_cursor', { cause });
  }
  const parsed = content.safeParse(decoded);
  if (!parsed.success) throw new Problem('invalid_cursor', { cause: parsed.error });
  const [name, id] = parsed.data;
  return { name, id };
}
