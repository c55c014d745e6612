/**
 * The keys that data of backups is encrypted with, one for each subject: a tenant, or the platform (what belongs to no tenant). Each is wrapped
 * by a key-encryption key and kept in a keybook outside of the database that is backed up, with a copy in escrow.
 */
export type Subject = 'platform' | `tenant:${string}`;

export interface DataKey {
  /** Of this key: 32 hex digits, random. In manifests it stands for the key. */
  readonly id: string;
  /** Of the subject: 32 hex digits, random, the same for all its keys. In manifests and object names it stands for the tenant. */
  readonly ref: string;
  readonly subject: Subject;
  /** 32 bytes. */
  readonly secret: Buffer;
}

/** An open keyring. */
export interface DataKeys {
  /**
   * The key of each subject that new data is encrypted with; made where there is none, in one write of keybook and escrow.
   *
   * @throws PartywallError escrow_unverified (the copy is missing, or is not the same), keyring_refused, store_unavailable
   */
  ensure(subjects: readonly Subject[]): Promise<ReadonlyMap<Subject, DataKey>>;
  /** Any key that is left, also one that new data is not encrypted with any more. @throws PartywallError key_missing */
  byId(id: string): DataKey;
  /** Undefined where the keyring has no key of that subject any more: it was erased, or belongs to another keyring. */
  byRef(ref: string): DataKey | undefined;
  /** All subjects. */
  subjects(): readonly { readonly subject: Subject; readonly ref: string }[];
}

export function tenantSubject(tenant: string): Subject {
  return `tenant:${tenant}`;
}

/** The tenant's key as text; undefined for the platform. */
export function tenantOfSubject(subject: Subject): string | undefined {
  return subject === 'platform' ? undefined : subject.slice('tenant:'.length);
}
