/** What bounds the work of an S3 store; tests shorten them. */
export interface S3Limits {
  /** Until a connection stands. */
  readonly connectMs: number;
  /** Without a byte either way. */
  readonly idleMs: number;
  /** From the first failure, or the last progress, of one operation: a store may be away for a minute or two. */
  readonly retryForMs: number;
  /** For the first question, which a wrong endpoint should not take minutes to answer. */
  readonly openForMs: number;
  readonly firstPauseMs: number;
  readonly pauseMaxMs: number;
  /** Of a multipart upload. S3 wants at least 5 MiB. */
  readonly partBytes: number;
  /** With `partBytes`, the memory of an upload. */
  readonly partsAtOnce: number;
  readonly listedAtOnce: number;
}

export const s3Limits: S3Limits = {
  connectMs: 5_000,
  idleMs: 30_000,
  retryForMs: 150_000,
  openForMs: 15_000,
  firstPauseMs: 100,
  pauseMaxMs: 10_000,
  partBytes: 8 * 1024 * 1024,
  partsAtOnce: 4,
  listedAtOnce: 1_000,
};
