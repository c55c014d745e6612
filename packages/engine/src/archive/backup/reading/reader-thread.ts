import { parentPort, workerData } from 'node:worker_threads';
import type pg from 'pg';
import { connect, sqlState } from '../../../db/connect.ts';
import { literal } from '../../../db/sql.ts';
import { PartywallError } from '../../../errors.ts';
import { lockTimeoutMs } from '../lock-tables.ts';
import { pinReading } from '../pinned-settings.ts';
import type { Failure, FromReader, ReaderStart, Tally, ToReader, Unit } from './protocol.ts';
import { openReader, type Reader } from './reader.ts';
import { readingSocket } from './reading-socket.ts';

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
const subjects = start.subjects.map(({ key, text }) => ({ key: key && { ...key, secret: Buffer.from(key.secret) }, text }));
let opened: { readonly client: pg.Client; readonly reader: Reader } | undefined;

port.on('message', (message: ToReader) => {
  handle(message).catch((error: unknown) => send({ kind: 'failed', failure: failureOf(error) }));
});
open().then(
  (client) => {
    opened = { client, reader: openReader(client, { ...start, subjects }) };
    send({ kind: 'ready' });
  },
  (error: unknown) => send({ kind: 'failed', failure: failureOf(error) }),
);

async function open(): Promise<pg.Client> {
  const client = await connect(start.connection, { purpose: `backup ${start.backup}`, stream: readingSocket });
  await client.query('begin isolation level repeatable read, read only');
  await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
  await client.query(`set transaction snapshot ${literal(start.snapshot)}`);
  // All of them now: a migration that waits for the snapshot's locks would keep a thread that comes to its table later waiting, and both would wait for good.
  await client.query(start.lockSql);
  await pinReading(client);
  return client;
}

async function handle(message: ToReader): Promise<void> {
  if (!opened) throw new Error('the thread is not ready');
  if (message.kind === 'unit') {
    send({ kind: 'tally', tally: await read(opened.reader, message.unit) });
    return;
  }
  opened.reader.close();
  await opened.client.end();
  send({ kind: 'finished' });
  port?.close();
}

async function read(reader: Reader, unit: Unit): Promise<Tally> {
  if (unit.kind === 'rows') return reader.readRows(unit);
  const [tally] = await reader.readMarks([unit]);
  if (!tally) throw new Error('a unit has no tally');
  return tally;
}

function failureOf(error: unknown): Failure {
  const known = error instanceof Error ? error : new Error(String(error));
  return { code: sqlState(error), expected: error instanceof PartywallError, message: known.message, stack: known.stack };
}
