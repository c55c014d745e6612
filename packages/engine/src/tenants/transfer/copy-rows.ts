import { finished } from 'node:stream/promises';
import type pg from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { PartywallError } from '../../errors.ts';
import { type Row, rowBytesMax } from './layout.ts';

/**
 * Rows to and from the database in COPY's text format, which is the text form of every type: it survives versions, loses nothing, and
 * is sent with backpressure, so that no more than a chunk and a row are in memory.
 */
const newline = 0x0a;
const batchBytes = 64 * 1024;

/** The rows of a query, a batch at a time. Whoever stops reading before the end destroys the client: the server goes on sending. */
export async function* copyRows(client: pg.ClientBase, query: string): AsyncGenerator<Row[]> {
  const chunks: AsyncIterable<Buffer> = client.query(copyTo(`copy (${query}) to stdout`));
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of chunks) {
    // Chunks are not aligned to rows; a newline byte ends a row and occurs nowhere else.
    const end = chunk.lastIndexOf(newline);
    if (end < 0) {
      rest.push(chunk);
      restBytes += chunk.length;
      if (restBytes > rowBytesMax) throw new PartywallError('export_too_large', `exporting rows: one is longer than ${rowBytesMax} bytes`);
      continue;
    }
    const lines = Buffer.concat([...rest, chunk.subarray(0, end)]).toString('utf8');
    rest = [chunk.subarray(end + 1)];
    restBytes = chunk.length - end - 1;
    yield lines.split('\n').map((line) => line.split('\t').map(fromCopy));
  }
}

/** Sends rows into a table and returns how many there were. An error of `rows` ends the copy first: the connection stays usable. */
export function copyInto(client: pg.ClientBase, target: string, rows: AsyncIterable<Row>): Promise<number> {
  return copyLines(client, target, batches(rows));
}

/** The same for rows that are lines of COPY's text format already, in any pieces. */
export async function copyLines(client: pg.ClientBase, target: string, pieces: AsyncIterable<string | Buffer>): Promise<number> {
  const stream = client.query(copyFrom(`copy ${target} from stdin`));
  const done = finished(stream);
  // The server's refusal leaves the connection ready and the stream without one: it must not be ended then.
  let refused = false;
  stream.on('error', () => {
    refused = true;
  });
  done.catch(() => undefined); // surfaces below, also while rows are still coming
  let failed: unknown;
  try {
    for await (const piece of pieces) await written(stream, piece, done);
  } catch (error) {
    failed = error;
  }
  if (!refused) stream.end();
  await done;
  if (failed !== undefined) throw failed;
  return stream.rowCount;
}

async function* batches(rows: AsyncIterable<Row>): AsyncGenerator<string> {
  let batch = '';
  for await (const row of rows) {
    batch += `${row.map(toCopy).join('\t')}\n`;
    if (batch.length < batchBytes) continue;
    yield batch;
    batch = '';
  }
  if (batch !== '') yield batch;
}

async function written(stream: NodeJS.WritableStream, batch: string | Buffer, done: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  stream.write(batch, () => resolve());
  await Promise.race([promise, done]);
}

const escapes: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };

function fromCopy(field: string): string | null {
  if (!field.includes('\\')) return field;
  return field === '\\N' ? null : field.replace(/\\(.)/gs, (_, letter: string) => escapes[letter] ?? letter);
}

function toCopy(value: string | null): string {
  if (value === null) return '\\N';
  return /[\\\n\r\t]/.test(value) ? value.replace(/[\\\n\r\t]/g, (character) => `\\${{ '\n': 'n', '\r': 'r', '\t': 't' }[character] ?? character}`) : value;
}
