import { createHash } from 'node:crypto';

/** Lines of COPY's text format. */
const newline = 0x0a;
const nothing = '\\N';
const escapes: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

/** @param pieces each whole lines, or cut anyhow */
export async function* readLines(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const piece of pieces) {
    const bytes = rest.length === 0 ? piece : Buffer.concat([rest, piece]);
    let from = 0;
    for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, from)) {
      yield bytes.subarray(from, end);
      from = end + 1;
    }
    rest = bytes.subarray(from);
  }
}

/** A field of a line by its column; null for NULL, undefined where there is no such column. */
export function fieldOf(line: Buffer, table: { readonly columns: readonly { readonly name: string }[] }, column: string): string | null | undefined {
  const at = table.columns.findIndex(({ name }) => name === column);
  const field = line.toString('utf8').split('\t')[at];
  if (at < 0 || field === undefined) return undefined;
  return field === nothing ? null : field.replaceAll(/\\(.)/g, (_, escaped: string) => escapes[escaped] ?? escaped);
}

export interface RowsDigest {
  readonly rows: number;
  /** The same for the same rows in any order. */
  readonly digest: string;
}

const modulus = 1n << 256n;

/** The sum of the hashes of all lines: tells rows that differ, whatever their order. */
export async function digestRows(pieces: AsyncIterable<Buffer>): Promise<RowsDigest> {
  const sum = rowsSum();
  for await (const line of readLines(pieces)) sum.add(line);
  return sum.digest();
}

export interface RowsSum {
  add(line: Buffer): void;
  digest(): RowsDigest;
}

/** The same, line by line. */
export function rowsSum(): RowsSum {
  let rows = 0;
  let sum = 0n;
  return {
    add: (line) => {
      rows += 1;
      sum += BigInt(`0x${createHash('sha256').update(line).digest('hex')}`);
      if (sum >= modulus) sum -= modulus;
    },
    digest: () => ({ rows, digest: sum.toString(16) }),
  };
}
