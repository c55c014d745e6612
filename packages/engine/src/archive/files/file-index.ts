import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import type { ManifestTable } from '../format/manifest.ts';
import type { LiveFile } from './live-files.ts';

/**
 * The index of a tenant's files in one place: a line of JSON for each, in the order of their paths. Paths are personal data, so they are in here and
 * nowhere else. The content of a file is the segment of `contentTable` whose part the line names.
 */
export interface IndexedFile extends LiveFile {
  readonly part: number;
}

export function indexTable(place: string): string {
  return `partywall:files/${place}`;
}

export function contentTable(place: string): string {
  return `partywall:file/${place}`;
}

/** Whether a table of a page holds files, and no rows of the database. */
export function isFilesTable(table: string): boolean {
  return table.startsWith('partywall:files/') || table.startsWith('partywall:file/');
}

/** Names of the places that a manifest's tables are of. */
export function placesOf(tables: readonly { readonly name: string }[]): string[] {
  return tables.flatMap(({ name }) => (name.startsWith('partywall:files/') ? [name.slice('partywall:files/'.length)] : []));
}

/** What a manifest says of files: the same for every place, and nothing of a tenant's. */
export function filesTables(places: readonly string[]): ManifestTable[] {
  const names = places.flatMap((place) => [indexTable(place), contentTable(place)]);
  return names.map((name) => ({ name, class: 'files', kind: 'bytes', columns: [], key: [], tenantColumn: null, rows: 0 }));
}

const count = z.int().min(0);
const line = z.strictObject({
  path: z.string().min(1),
  bytes: count,
  modified: z.int(),
  mode: count.nullable(),
  tag: z.string(),
  part: count,
});
/** A path may have 4,096 bytes, each of which JSON may write as six. */
const lineBytesMax = 64 * 1024;

export function indexLine({ path, bytes, modified, mode, tag, part }: IndexedFile): string {
  return `${JSON.stringify({ path, bytes, modified: Math.trunc(modified), mode, tag, part })}\n`;
}

/** @throws PartywallError archive_damaged */
export async function readIndex(content: AsyncIterable<Buffer>): Promise<IndexedFile[]> {
  const files: IndexedFile[] = [];
  let rest = Buffer.alloc(0);
  for await (const piece of content) {
    const bytes = Buffer.concat([rest, piece]);
    const end = bytes.lastIndexOf(0x0a) + 1;
    for (const text of bytes.toString('utf8', 0, end).split('\n').slice(0, -1)) files.push(parsed(text));
    rest = bytes.subarray(end);
    if (rest.length > lineBytesMax) throw damaged();
  }
  if (rest.length > 0) throw damaged();
  return files;
}

function parsed(text: string): IndexedFile {
  try {
    return line.parse(JSON.parse(text));
  } catch (cause) {
    throw damaged(cause);
  }
}

/** Without the line: it has a path in it. */
function damaged(cause?: unknown): PartywallError {
  return new PartywallError('archive_damaged', 'reading an index of files: a line of it is malformed', {
    cause: cause instanceof z.ZodError ? undefined : cause,
  });
}
