import { closeSync, openSync, writeSync } from 'node:fs';
import { sqlState } from '../../../db/connect.ts';
import { PartywallError } from '../../../errors.ts';

/**
 * What was sealed, in the order in which it was: ciphertext in one file, and in another a record of fixed length for each chunk, so that no
 * more than a part of either is ever in memory. Subjects come together when their packs are put together.
 */
export const recordBytes = 72;
const bufferBytes = 256 * 1024;
const recordsBuffered = 1_000;
/** Mark of a segment's last chunk, in the number of the chunk. */
const lastBit = 2 ** 31;

export interface ChunkRecord {
  /** Number of the subject, and of the table among the sources. */
  readonly subject: number;
  readonly source: number;
  readonly part: number;
  readonly chunk: number;
  readonly last: boolean;
  /** Where the chunk is in the file of chunks; the first of a segment with the segment's header before it. */
  readonly offset: number;
  readonly bytes: number;
  readonly rows: number;
  readonly plainBytes: number;
  /** Of the whole segment, with its last chunk; 32 bytes. */
  readonly mac: Buffer | undefined;
}

export interface Spill {
  write(pieces: readonly Buffer[], record: Omit<ChunkRecord, 'offset' | 'bytes'>): void;
  /** Bytes of chunks so far. */
  bytes(): number;
  /** Writes out what is buffered and closes. */
  close(): void;
}

export interface SpillFiles {
  readonly chunks: string;
  readonly records: string;
}

/** @throws PartywallError store_full, from `write` and `close` */
export function openSpill(files: SpillFiles): Spill {
  const chunks = fileOf(files.chunks);
  const records = fileOf(files.records);
  return {
    write: (pieces, record) => {
      const offset = chunks.bytes();
      for (const piece of pieces) chunks.write(piece);
      records.write(encode({ ...record, offset, bytes: chunks.bytes() - offset }));
    },
    bytes: chunks.bytes,
    close: () => {
      chunks.close();
      records.close();
    },
  };
}

export function decodeRecord(bytes: Buffer, at: number): ChunkRecord {
  const numbered = bytes.readUInt32LE(at + 12);
  const last = numbered >= lastBit;
  return {
    subject: bytes.readUInt32LE(at),
    source: bytes.readUInt32LE(at + 4),
    part: bytes.readUInt32LE(at + 8),
    chunk: last ? numbered - lastBit : numbered,
    last,
    offset: bytes.readDoubleLE(at + 16),
    bytes: bytes.readUInt32LE(at + 24),
    rows: bytes.readUInt32LE(at + 28),
    plainBytes: bytes.readDoubleLE(at + 32),
    mac: last ? Buffer.from(bytes.subarray(at + 40, at + recordBytes)) : undefined,
  };
}

function encode(record: ChunkRecord): Buffer {
  const bytes = Buffer.alloc(recordBytes);
  bytes.writeUInt32LE(record.subject, 0);
  bytes.writeUInt32LE(record.source, 4);
  bytes.writeUInt32LE(record.part, 8);
  bytes.writeUInt32LE(record.last ? record.chunk + lastBit : record.chunk, 12);
  bytes.writeDoubleLE(record.offset, 16);
  bytes.writeUInt32LE(record.bytes, 24);
  bytes.writeUInt32LE(record.rows, 28);
  bytes.writeDoubleLE(record.plainBytes, 32);
  record.mac?.copy(bytes, 40);
  return bytes;
}

function fileOf(name: string): { write(bytes: Buffer): void; bytes(): number; close(): void } {
  const file = openSync(name, 'wx', 0o600);
  const buffer = Buffer.allocUnsafe(Math.max(bufferBytes, recordsBuffered * recordBytes));
  let filled = 0;
  let total = 0;
  const put = (bytes: Buffer): void => {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    } catch (cause) {
      if (sqlState(cause) === 'ENOSPC') throw new PartywallError('store_full', `writing ${name}: the disk is full`, { cause });
      throw cause;
    }
  };
  const flush = (): void => {
    put(buffer.subarray(0, filled));
    filled = 0;
  };
  return {
    write: (bytes) => {
      total += bytes.length;
      if (filled + bytes.length > buffer.length) flush();
      if (bytes.length > buffer.length) put(bytes);
      else filled += bytes.copy(buffer, filled);
    },
    bytes: () => total,
    close: () => {
      try {
        flush();
      } finally {
        closeSync(file);
      }
    },
  };
}
