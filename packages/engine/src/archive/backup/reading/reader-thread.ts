import { parentPort, workerData } from 'node:worker_threads';
import type pg from 'pg';
import { connect, sqlState } from '../../../db/connect.ts';
import { literal } from '../../../db/sql.ts';
import { PartywallError } from '../../../errors.ts';
import { pinReading } from '../pinned-settings.ts';
import { openBuckets } from './buckets.ts';
import { copyOut } from './copy-rows.ts';
import type { Failure, FromReader, MarksUnit, ReaderStart, RowsUnit, Tally, ToReader } from './protocol.ts';
import { openSpill } from './spill.ts';
import { copyText, subjectIndex } from './subject-index.ts';

/**
 * A thread that reads tables in the snapshot of the whole backup and seals what it reads. It is given one piece of work at a time, so that fast
 * threads do more.
 */
const port = parentPort;
if (!port) throw new Error('this module is the body of a thread');
const send = (message: FromReader): void => port.postMessage(message);

// The one who starts the thread gives it this.
const start = workerData as ReaderStart;
// A Buffer comes out of a message as a plain Uint8Array.
const keys = start.subjects.map(({ key }) => key && { ...key, secret: Buffer.from(key.secret) });
const texts = start.subjects.map(({ text }) => text);
const numbers = new Map(texts.map((text, number) => [text, number]));
const index = subjectIndex(texts.map(copyText));
const spill = openSpill(start.files);
const buckets = openBuckets({ backup: start.backup, keys, spill, memoryBytes: start.memoryBytes });
let client: pg.Client | undefined;

port.on('message', (message: ToReader) => {
  handle(message).catch((error: unknown) => send({ kind: 'failed', failure: failureOf(error) }));
});
open().then(
  (opened) => {
    client = opened;
    send({ kind: 'ready' });
  },
  (error: unknown) => send({ kind: 'failed', failure: failureOf(error) }),
);

async function open(): Promise<pg.Client> {
  const opened = await connect(start.connection, { purpose: `backup ${start.backup}` });
  await opened.query('begin isolation level repeatable read, read only');
  await opened.query(`set transaction snapshot ${literal(start.snapshot)}`);
  await pinReading(opened);
  return opened;
}

async function handle(message: ToReader): Promise<void> {
  if (!client) throw new Error('the thread is not ready');
  if (message.kind === 'unit') {
    const { unit } = message;
    send({ kind: 'tally', tally: unit.kind === 'marks' ? await readMarks(client, unit) : await readRows(client, unit) });
    return;
  }
  spill.close();
  await client.end();
  send({ kind: 'finished' });
  port?.close();
}

async function readRows(from: pg.Client, { source, table, part, sql, begins, wanted }: RowsUnit): Promise<Tally> {
  const rows = new Float64Array(keys.length);
  buckets.begin(source, table, part);
  await copyOut(from, sql, (bytes, at, end) => {
    const subject = begins === 'row' ? 0 : index.find(bytes, at);
    if (wanted[subject] !== 1) return;
    rows[subject] = (rows[subject] ?? 0) + 1;
    buckets.add(subject, bytes, begins === 'prefix' ? index.keyEnd + 1 : at, end);
  });
  buckets.end();
  return tallyOf(rows, new BigUint64Array(keys.length));
}

async function readMarks(from: pg.Client, { sql }: MarksUnit): Promise<Tally> {
  const counts = new Float64Array(keys.length);
  const sums = new BigUint64Array(keys.length);
  const { rows } = await from.query<[subject: string | null, rows: string, sum: string]>({ text: sql, rowMode: 'array' });
  for (const [text, count, sum] of rows) {
    const subject = (text === null ? undefined : numbers.get(text)) ?? 0;
    counts[subject] = (counts[subject] ?? 0) + Number(count);
    sums[subject] = BigInt.asUintN(64, (sums[subject] ?? 0n) + BigInt(sum));
  }
  return tallyOf(counts, sums);
}

function tallyOf(rows: Float64Array, sums: BigUint64Array): Tally {
  const subjects = Uint32Array.from(rows.keys()).filter((subject) => rows[subject] !== 0);
  return {
    subjects,
    rows: Float64Array.from(subjects, (subject) => rows[subject] ?? 0),
    sums: BigUint64Array.from(subjects, (subject) => sums[subject] ?? 0n),
  };
}

function failureOf(error: unknown): Failure {
  const known = error instanceof Error ? error : new Error(String(error));
  return { code: sqlState(error), expected: error instanceof PartywallError, message: known.message, stack: known.stack };
}
