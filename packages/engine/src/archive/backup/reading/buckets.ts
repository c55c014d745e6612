import type { DataKey } from '../../../keyring/data-keys.ts';
import { chunkBytes, type SegmentWriter, writeSegment } from '../../format/segment.ts';
import type { Spill } from './spill.ts';

/**
 * Rows as they come, gathered by subject until there is a chunk's worth. All of them share one piece of memory of fixed size, cut into blocks
 * that a subject's bucket chains: nothing is allocated for a row, and nothing grows with the number of rows or tenants. When the blocks are
 * used up, the fullest buckets are sealed as shorter chunks.
 */
export interface Buckets {
  /** Begins a part of a table. */
  begin(source: number, table: string, part: number): void;
  /** Adds a row: whole, with its newline. */
  add(subject: number, bytes: Buffer, start: number, end: number): void;
  /** Seals what is left of the part. */
  end(): void;
}

export interface BucketOptions {
  readonly backup: string;
  readonly keys: readonly (DataKey | undefined)[];
  readonly spill: Spill;
  readonly memoryBytes: number;
}

/**
 * A block is a subject's alone, so that where there are many subjects small blocks hold more rows: with 4 KiB each, those of 10,000 subjects do not fit into
 * 32 MiB, and are sealed in pieces. Larger ones cut fewer rows in two.
 */
const blockBytesOf = { min: 512, max: 4 * 1024 };
/** Blocks for each subject, at the least, where the smallest size allows it. */
const blocksPerSubject = 2;
const none = -1;
/** Of the blocks, how much is freed when they are used up: half, so that the sorting this takes is rare. */
const freedShare = 0.5;

export function openBuckets({ backup, keys, spill, memoryBytes }: BucketOptions): Buckets {
  const share = memoryBytes / (keys.length * blocksPerSubject);
  const blockBytes = 2 ** Math.floor(Math.log2(Math.min(blockBytesOf.max, Math.max(blockBytesOf.min, share))));
  const blocks = Math.max(Math.ceil((2 * chunkBytes) / blockBytes), Math.floor(memoryBytes / blockBytes));
  const arena = Buffer.allocUnsafeSlow(blocks * blockBytes);
  const following = new Int32Array(blocks);
  const free = Int32Array.from({ length: blocks }, (_, block) => block);
  let freeCount = blocks;
  // One bucket for each subject.
  const first = new Int32Array(keys.length).fill(none);
  const last = new Int32Array(keys.length);
  const bytesOf = new Uint32Array(keys.length);
  const rowsOf = new Uint32Array(keys.length);
  const touched = new Uint8Array(keys.length);
  let subjects: number[] = [];
  const writers = new Map<number, { readonly writer: SegmentWriter; chunks: number }>();
  const scratch = Buffer.allocUnsafeSlow(chunkBytes);
  let source = 0;
  let table = '';
  let part = 0;

  const writerOf = (subject: number): { readonly writer: SegmentWriter; chunks: number } => {
    const open = writers.get(subject);
    if (open) return open;
    const key = keys[subject];
    if (!key) throw new Error(`subject ${subject} has no key`);
    const opened = { writer: writeSegment(key, { backup, table, part }), chunks: 0 };
    writers.set(subject, opened);
    return opened;
  };

  const seal = (subject: number, plain: Buffer, rows: number, isLast: boolean): void => {
    const open = writerOf(subject);
    const stored = open.writer.chunk(plain, isLast);
    const mac = isLast ? Buffer.from(open.writer.sum().mac, 'hex') : undefined;
    const pieces = open.chunks === 0 ? [open.writer.header, stored] : [stored];
    spill.write(pieces, { subject, source, part, chunk: open.chunks, last: isLast, rows, plainBytes: plain.length, mac });
    open.chunks += 1;
    if (isLast) writers.delete(subject);
  };

  const flush = (subject: number, isLast: boolean): void => {
    const total = bytesOf[subject] ?? 0;
    let at = 0;
    for (let block = first[subject] ?? none; at < total; block = following[block] ?? none) {
      const taken = Math.min(blockBytes, total - at);
      arena.copy(scratch, at, block * blockBytes, block * blockBytes + taken);
      at += taken;
      free[freeCount] = block;
      freeCount += 1;
    }
    const rows = rowsOf[subject] ?? 0;
    first[subject] = none;
    bytesOf[subject] = 0;
    rowsOf[subject] = 0;
    seal(subject, scratch.subarray(0, total), rows, isLast);
  };

  const relieve = (): void => {
    const fullest = subjects.filter((subject) => (bytesOf[subject] ?? 0) > 0).sort((left, right) => (bytesOf[right] ?? 0) - (bytesOf[left] ?? 0));
    for (const subject of fullest) {
      if (freeCount >= blocks * freedShare) return;
      flush(subject, false);
    }
  };

  const blockFor = (subject: number, total: number): number => {
    const block = free[freeCount - 1] ?? none;
    freeCount -= 1;
    if (total === 0) first[subject] = block;
    else following[last[subject] ?? none] = block;
    last[subject] = block;
    return block;
  };

  return {
    begin: (...[ofSource, ofTable, ofPart]) => {
      [source, table, part] = [ofSource, ofTable, ofPart];
    },
    add: (subject, bytes, start, end) => {
      const length = end - start;
      if (touched[subject] === 0) {
        touched[subject] = 1;
        subjects.push(subject);
      }
      if ((bytesOf[subject] ?? 0) + length > chunkBytes && (bytesOf[subject] ?? 0) > 0) flush(subject, false);
      if (length > chunkBytes) {
        seal(subject, bytes.subarray(start, end), 1, false);
        return;
      }
      if (freeCount * blockBytes < length + blockBytes) relieve();
      let total = bytesOf[subject] ?? 0;
      for (let at = start; at < end; ) {
        const used = total % blockBytes;
        const block = used === 0 ? blockFor(subject, total) : (last[subject] ?? none);
        const taken = Math.min(blockBytes - used, end - at);
        bytes.copy(arena, block * blockBytes + used, at, at + taken);
        at += taken;
        total += taken;
      }
      bytesOf[subject] = total;
      rowsOf[subject] = (rowsOf[subject] ?? 0) + 1;
    },
    end: () => {
      for (const subject of subjects) {
        flush(subject, true);
        touched[subject] = 0;
      }
      subjects = [];
    },
  };
}
