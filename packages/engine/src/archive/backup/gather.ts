import { closeSync, openSync, readSync } from 'node:fs';
import { decodeRecord, recordBytes, type SpillFiles } from './reading/spill.ts';

/** A segment as it lies in a spill, its chunks not next to each other. */
export interface SpilledSegment {
  readonly source: number;
  readonly part: number;
  readonly chunks: number;
  readonly rows: number;
  readonly plainBytes: number;
  readonly bytes: number;
  /** Hex. */
  readonly mac: string;
  readonly file: number;
  /** Offset and bytes of each chunk, one after the other: a tenant of a terabyte has a million chunks. */
  readonly places: readonly number[];
}

export interface SubjectGroup {
  readonly from: number;
  /** Behind the last. */
  readonly to: number;
  /** The segments of a subject of the group, by source and part, decoded as they are asked for. */
  segmentsOf(subject: number): SpilledSegment[];
}

/** What the threads wrote, brought together by subject. */
export interface Gathered {
  /** All subjects, from one number up to another at a time: as many as fit into memory. A group is let go before the next one is asked for. */
  groups(): Generator<SubjectGroup>;
  /** The stored bytes of a segment, read as they are asked for. */
  read(segment: SpilledSegment): Generator<Buffer>;
  /** Puts them all into a buffer at this place. @returns the place behind them */
  readInto(buffer: Buffer, at: number, segment: SpilledSegment): number;
  close(): void;
}

/** Records in memory at once, 74 bytes each; a subject with more is a group by itself. Each group looks through the files once more. */
export const recordsMax = 250_000;
const readAtOnceBytes = 1024 ** 2;
const recordsReadAtOnce = 10_000;

export function openGathered(files: readonly SpillFiles[], subjects: number): Gathered {
  const chunks = files.map((file) => openSync(file.chunks, 'r'));
  const counts = new Uint32Array(subjects);
  for (const { records } of files)
    eachRecord(records, (subject) => {
      counts[subject] = (counts[subject] ?? 0) + 1;
    });
  const fill = (buffer: Buffer, { file, offset }: { readonly file: number; readonly offset: number }): void => {
    const read = readSync(chunks[file] ?? -1, buffer, 0, buffer.length, offset);
    if (read !== buffer.length) throw new Error('the work folder was changed while a backup ran');
  };
  return {
    *groups() {
      for (let from = 0; from < subjects; ) {
        let to = from;
        for (let sum = 0; to < subjects && (to === from || sum + (counts[to] ?? 0) <= recordsMax); to += 1) sum += counts[to] ?? 0;
        yield readGroup(files, counts, { from, to });
        from = to;
      }
    },
    *read({ places, file }) {
      for (let place = 0; place < places.length; place += 2) {
        const offset = places[place] ?? 0;
        const bytes = places[place + 1] ?? 0;
        for (let at = 0; at < bytes; at += readAtOnceBytes) {
          const piece = Buffer.allocUnsafe(Math.min(readAtOnceBytes, bytes - at));
          fill(piece, { file, offset: offset + at });
          yield piece;
        }
      }
    },
    readInto: (buffer, at, { places, file }) => {
      let to = at;
      for (let place = 0; place < places.length; place += 2) {
        const end = to + (places[place + 1] ?? 0);
        fill(buffer.subarray(to, end), { file, offset: places[place] ?? 0 });
        to = end;
      }
      return to;
    },
    close: () => {
      for (const handle of chunks) closeSync(handle);
    },
  };
}

/** The records of some subjects, sorted by subject and otherwise as they were written. They stay encoded: as objects they take fifteen times as much. */
function readGroup(files: readonly SpillFiles[], counts: Uint32Array, { from, to }: { readonly from: number; readonly to: number }): SubjectGroup {
  const begins = new Float64Array(to - from + 1);
  for (let at = 0; at < to - from; at += 1) begins[at + 1] = (begins[at] ?? 0) + (counts[from + at] ?? 0);
  const total = begins[to - from] ?? 0;
  const sorted = Buffer.allocUnsafeSlow(total * recordBytes);
  const fileOf = new Uint16Array(total);
  const next = begins.slice();
  for (const [file, { records }] of files.entries())
    eachRecord(records, (subject, bytes, at) => {
      if (subject < from || subject >= to) return;
      const place = next[subject - from] ?? 0;
      next[subject - from] = place + 1;
      bytes.copy(sorted, place * recordBytes, at, at + recordBytes);
      fileOf[place] = file;
    });
  return {
    from,
    to,
    segmentsOf: (subject) => {
      const segments: SpilledSegment[] = [];
      // One thread writes all chunks of a segment, in order, between those of others; of a small one there is one.
      const begun = new Map<string, SpilledSegment & { readonly places: number[] }>();
      for (let at = begins[subject - from] ?? 0; at < (begins[subject - from + 1] ?? 0); at += 1) {
        const { source, part, chunk, offset, bytes, rows, plainBytes, mac } = decodeRecord(sorted, at * recordBytes);
        const name = chunk === 0 && mac ? undefined : `${source} ${part}`;
        const before = name === undefined ? undefined : begun.get(name);
        const places = before?.places ?? [];
        places.push(offset, bytes);
        const segment = {
          source,
          part,
          chunks: (before?.chunks ?? 0) + 1,
          rows: (before?.rows ?? 0) + rows,
          plainBytes: (before?.plainBytes ?? 0) + plainBytes,
          bytes: (before?.bytes ?? 0) + bytes,
          mac: mac?.toString('hex') ?? '',
          file: fileOf[at] ?? 0,
          places,
        };
        if (mac) segments.push(segment);
        else if (name !== undefined) begun.set(name, segment);
      }
      return segments.sort((left, right) => left.source - right.source || left.part - right.part);
    },
  };
}

function eachRecord(file: string, onRecord: (subject: number, bytes: Buffer, at: number) => void): void {
  const handle = openSync(file, 'r');
  try {
    const buffer = Buffer.allocUnsafe(recordsReadAtOnce * recordBytes);
    for (let at = 0; ; ) {
      const read = readSync(handle, buffer, 0, buffer.length, at);
      if (read < recordBytes) return;
      const whole = read - (read % recordBytes);
      for (let record = 0; record < whole; record += recordBytes) onRecord(buffer.readUInt32LE(record), buffer, record);
      at += whole;
    }
  } finally {
    closeSync(handle);
  }
}
