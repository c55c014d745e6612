import type { DataKey } from '../../../keyring/data-keys.ts';
import type { SpillFiles } from './spill.ts';

/** What a reading thread is started with. */
export interface ReaderStart {
  readonly connection: string;
  /** Exported by the connection that holds the locks. */
  readonly snapshot: string;
  /** Locks the tables for this thread too, before it reads any. */
  readonly lockSql: string;
  readonly backup: string;
  /** By number; number 0 is the platform. Without keys nothing but marks can be read. */
  readonly subjects: readonly { readonly key: DataKey | undefined; readonly text: string }[];
  readonly files: SpillFiles;
  readonly memoryBytes: number;
}

/** A piece of work for one thread. */
export type Unit = MarksUnit | RowsUnit;

/** `sql` gives subject, count and sum, all as text. */
export interface MarksUnit {
  readonly kind: 'marks';
  readonly source: number;
  readonly sql: string;
}

export interface RowsUnit {
  readonly kind: 'rows';
  readonly source: number;
  readonly table: string;
  readonly part: number;
  readonly sql: string;
  /** What a row begins with: its tenant's key as the first column, or before the row and no part of it, or neither. */
  readonly begins: 'column' | 'prefix' | 'row';
  /** For each subject, whether its rows are kept. */
  readonly wanted: Uint8Array;
  /** Bytes that the server reads, for the progress. */
  readonly weight: number;
}

/** Subjects by number, each with what there was of it. Of marks `sums` are modulo 2^64; of rows there are none. */
export interface Tally {
  readonly subjects: Uint32Array;
  readonly rows: Float64Array;
  readonly sums: BigUint64Array;
}

export type ToReader = { readonly kind: 'unit'; readonly unit: Unit } | { readonly kind: 'finish' };

export type FromReader =
  | { readonly kind: 'ready' }
  | { readonly kind: 'tally'; readonly tally: Tally }
  | { readonly kind: 'finished' }
  | { readonly kind: 'failed'; readonly failure: Failure };

/** An error on its way between threads. */
export interface Failure {
  /** Of PartywallError, or a SQLSTATE, or a code of the system. */
  readonly code: string | undefined;
  readonly expected: boolean;
  readonly message: string;
  readonly stack: string | undefined;
}
