import { closeSync, openSync, readSync } from 'node:fs';
import { type ChunkRecord, decodeRecord, recordBytes, type SpillFiles } from './reading/spill.ts';

/** A segment as it lies in a spill, its chunks not next to each other. */
export interface SpilledSegment {
  readonly source: number;
  readonly part: number;
  readonly chunks: readonly ChunkRecord[];
  readonly rows: number;
  readonly plainBytes: number;
  readonly bytes: number;
  /** Hex. */
  readonly mac: string;
  readonly file: number;
}

export interface SubjectGroup {
  readonly from: number;
  /** Behind the last. */
  readonly to: number;
  readonly segments: ReadonlyMap<number, readonly SpilledSegment[]>;
}

/** What the threads wrote, brought together by subject. */
export interface Gathered {
  /** All subjects, from one number up to another at a time, with their segments by source and part: as many as fit into memory. */
  groups(): Generator<SubjectGroup>;
  /** The stored bytes of a segment, read as they are asked for. */
  read(segment: SpilledSegment): Generator<Buffer>;
  close(): void;
}

/** Records in memory at once, about 1 KB each; a subject with more is a group by itself. Each group looks through the files once more. */
const recordsMax = 60_000;
const readAtOnceBytes = 1024 ** 2;

export function openGathered(files: readonly SpillFiles[], subjects: number): Gathered {
  const chunks = files.map((file) => openSync(file.chunks, 'r'));
  const counts = new Uint32Array(subjects);
  for (const { records } of files)
    for (const record of recordsIn(records, { from: 0, to: subjects })) counts[record.subject] = (counts[record.subject] ?? 0) + 1;
  return {
    *groups() {
      for (let from = 0; from < subjects; ) {
        let to = from;
        for (let sum = 0; to < subjects && (to === from || sum + (counts[to] ?? 0) <= recordsMax); to += 1) sum += counts[to] ?? 0;
        yield { from, to, segments: segmentsOf(files, from, to) };
        from = to;
      }
    },
    *read({ chunks: list, file }) {
      const handle = chunks[file] ?? -1;
      for (const { offset, bytes } of list) {
        for (let at = 0; at < bytes; at += readAtOnceBytes) {
          const piece = Buffer.allocUnsafe(Math.min(readAtOnceBytes, bytes - at));
          if (readSync(handle, piece, 0, piece.length, offset + at) !== piece.length) throw new Error('the work folder was changed while a backup ran');
          yield piece;
        }
      }
    },
    close: () => {
      for (const handle of chunks) closeSync(handle);
    },
  };
}

function segmentsOf(files: readonly SpillFiles[], from: number, to: number): Map<number, SpilledSegment[]> {
  const bySubject = new Map<number, SpilledSegment[]>();
  for (const [file, { records }] of files.entries()) {
    // One thread writes all chunks of a segment, in order, between those of others.
    const open = new Map<string, ChunkRecord[]>();
    for (const record of recordsIn(records, { from, to })) {
      const name = `${record.subject} ${record.source} ${record.part}`;
      const chunks = open.get(name) ?? [];
      chunks.push(record);
      open.set(name, chunks);
      if (record.mac === undefined) continue;
      open.delete(name);
      const segments = bySubject.get(record.subject) ?? [];
      segments.push(segmentOf(chunks, record.mac.toString('hex'), file));
      bySubject.set(record.subject, segments);
    }
  }
  for (const segments of bySubject.values()) segments.sort((left, right) => left.source - right.source || left.part - right.part);
  return bySubject;
}

function segmentOf(chunks: readonly ChunkRecord[], mac: string, file: number): SpilledSegment {
  const sum = (value: (chunk: ChunkRecord) => number): number => chunks.reduce((total, chunk) => total + value(chunk), 0);
  return {
    source: chunks[0]?.source ?? 0,
    part: chunks[0]?.part ?? 0,
    chunks,
    rows: sum(({ rows }) => rows),
    plainBytes: sum(({ plainBytes }) => plainBytes),
    bytes: sum(({ bytes }) => bytes),
    mac,
    file,
  };
}

/** Those of the subjects from one up to another; the rest is not even decoded. */
function* recordsIn(file: string, { from, to }: { readonly from: number; readonly to: number }): Generator<ChunkRecord> {
  const handle = openSync(file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(10_000 * recordBytes);
    for (let at = 0; ; ) {
      const read = readSync(handle, buffer, 0, buffer.length, at);
      if (read < recordBytes) return;
      const whole = read - (read % recordBytes);
      for (let record = 0; record < whole; record += recordBytes) {
        const subject = buffer.readUInt32LE(record);
        if (subject >= from && subject < to) yield decodeRecord(buffer, record);
      }
      at += whole;
    }
  } finally {
    closeSync(handle);
  }
}
