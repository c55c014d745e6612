/** What decides how many threads read a backup. */
export interface Reading {
  readonly processors: number;
  /** Tenants that the backup is of; undefined: all. */
  readonly tenants: number | undefined;
  /** Subjects that every thread knows. */
  readonly subjects: number;
  /** Of the tables. */
  readonly bytes: number;
}

/** More threads than this do not fill the network better, unless asked for. */
const threadsMax = 4;
/** Bytes of tables that a thread of its own is worth: to start one takes as long as to read about so much. */
const bytesPerThread = 16 * 1024 ** 2;
/**
 * What a thread takes beside its share of the rows that wait: measured with two and with four threads at 10,000 subjects. A third thread would make a backup
 * of ten thousand tenants larger than 500 MB.
 */
const threadMemory = { bytes: 18e6, perSubject: 7_500 };
/** For all threads together. */
export const threadsMemoryBytes = 200e6;

export function threadCount({ processors, tenants, subjects, bytes }: Reading): number {
  const affordable = Math.floor(threadsMemoryBytes / threadBytes(subjects));
  return Math.max(1, Math.min(threadsMax, processors, tenants ?? threadsMax, Math.ceil(bytes / bytesPerThread), affordable));
}

/** What a thread takes, in bytes. */
export function threadBytes(subjects: number): number {
  return threadMemory.bytes + subjects * threadMemory.perSubject;
}
