import { PartywallError } from '../../errors.ts';
import { rowBytesMax } from '../../tenants/transfer/layout.ts';

const newline = 0x0a;

/** Cuts what comes in pieces of any kind after whole lines; the last line must be whole too. In COPY's text format every newline byte ends a row. */
export async function* wholeLines(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const piece of pieces) {
    const end = piece.lastIndexOf(newline) + 1;
    if (end === 0) {
      rest.push(piece);
      restBytes += piece.length;
      if (restBytes > rowBytesMax) throw new PartywallError('export_too_large', `reading rows: one is longer than ${rowBytesMax} bytes`);
      continue;
    }
    yield rest.length === 0 && end === piece.length ? piece : Buffer.concat([...rest, piece.subarray(0, end)]);
    rest = end === piece.length ? [] : [piece.subarray(end)];
    restBytes = piece.length - end;
  }
  if (restBytes > 0) throw new PartywallError('export_invalid', 'reading rows: the last one is cut short');
}

/** Lines of a piece that holds whole ones. */
export function countLines(piece: Buffer): number {
  let lines = 0;
  for (let at = piece.indexOf(newline); at >= 0; at = piece.indexOf(newline, at + 1)) lines += 1;
  return lines;
}
