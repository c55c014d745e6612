/**
 * Where an archive keeps its objects: a folder or an S3-compatible bucket, one interface and one conformance suite. Keys are relative paths of
 * `[a-z0-9._-]` parts joined by `/`. An object is there whole or not at all, and is never changed: a key is written once, but for those
 * written with `ifMatch`.
 */
export interface Store {
  /** For messages, without secrets: `folder /var/backups`, `s3://bucket/prefix`. */
  readonly description: string;
  /** What this store can do; known after it is opened. */
  readonly can: StoreAbilities;
  /**
   * Writes an object, from memory or as it comes, in bounded memory. Retries by itself what passes; a body that comes is asked for once only.
   *
   * @throws PartywallError store_conflict (`ifAbsent`: there is one; `ifMatch`: it is another one now), store_unavailable, store_refused, store_full
   */
  put(key: string, body: Buffer | AsyncIterable<Buffer>, options?: PutOptions): Promise<StoredObject>;
  /**
   * The bytes of an object, or of a part of it. A body that ends early is an error, never a short answer.
   *
   * @throws PartywallError store_object_missing, store_unavailable, store_refused
   */
  get(key: string, range?: ByteRange): AsyncIterable<Buffer>;
  /** Undefined where there is none. @throws PartywallError store_unavailable, store_refused */
  head(key: string): Promise<StoredObject | undefined>;
  /** Objects whose key begins with `prefix`, in the order of their keys, page by page. */
  list(prefix: string): AsyncIterable<StoredObject>;
  /** Deletes an object; one that is not there is deleted already. @throws PartywallError store_locked, store_unavailable, store_refused */
  delete(key: string): Promise<void>;
  /** Keeps an object from being deleted until then; never shortens. Does nothing where `can.lock` is false. */
  extendLock(key: string, until: Date): Promise<void>;
  /** Closes connections. */
  close(): Promise<void>;
}

export interface StoreAbilities {
  /** Objects can be locked against deletion until a date. */
  readonly lock: boolean;
}

export interface PutOptions {
  /** Only where there is no such object. */
  readonly ifAbsent?: boolean;
  /** Only where the object is still the one with this tag. */
  readonly ifMatch?: string;
  readonly lockUntil?: Date;
}

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface StoredObject {
  readonly key: string;
  readonly bytes: number;
  /** Changes with the content. */
  readonly tag: string;
  readonly modifiedAt: Date;
  readonly lockedUntil?: Date | undefined;
}
