import type { DataKey } from '../../keyring/data-keys.ts';
import type { Spill } from '../backup/reading/spill.ts';
import { countLines } from '../export/whole-lines.ts';
import { chunkBytes, writeSegment } from '../format/segment.ts';

/** Plain bytes at which a part is closed: rows that come behind those of the last backup leave all parts but the last as they were. */
const partBytes = 32 * 1024 ** 2;

export interface SealedRows {
  readonly backup: string;
  readonly table: string;
  /** Numbers of tenant and table in the spill. */
  readonly subject: number;
  readonly source: number;
}

/** Seals the rows of one table of one tenant into a spill, cut into parts at the same rows every time. Rows in COPY's text format, whole lines. */
export async function sealRows(spill: Spill, key: DataKey, { backup, table, subject, source }: SealedRows, rows: AsyncIterable<Buffer>): Promise<void> {
  let part = openPart(0);
  let held: Buffer[] = [];
  let heldBytes = 0;
  const write = (last: boolean): void => {
    const plain = Buffer.concat(held);
    const stored = part.writer.chunk(plain, last);
    const mac = last ? Buffer.from(part.writer.sum().mac, 'hex') : undefined;
    spill.write(part.chunk === 0 ? [part.writer.header, stored] : [stored], {
      subject,
      source,
      part: part.number,
      chunk: part.chunk,
      last,
      rows: countLines(plain),
      plainBytes: plain.length,
      mac,
    });
    part.chunk += 1;
    part.bytes += plain.length;
    held = [];
    heldBytes = 0;
  };
  for await (const piece of rows) {
    // Only now is it known that something follows what is held.
    if (part.bytes + heldBytes >= partBytes) {
      write(true);
      part = openPart(part.number + 1);
    } else if (heldBytes >= chunkBytes) write(false);
    held.push(piece);
    heldBytes += piece.length;
  }
  write(true);

  function openPart(number: number) {
    return { number, writer: writeSegment(key, { backup, table, part: number }), chunk: 0, bytes: 0 };
  }
}
