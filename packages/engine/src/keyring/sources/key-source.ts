/**
 * Where key-encryption keys are: a folder, the environment, or a command that asks a key management system. They have versions, 1 and up. A
 * keybook is written under one of them; what it wraps is one key of 32 bytes for each write, however many tenants there are.
 */
export interface KeySource {
  /** For messages, without secrets: `folder /etc/partywall/keyring`. */
  readonly description: string;
  /** Versions that can be used now, ascending. */
  versions(): Promise<readonly number[]>;
  /**
   * Encrypts with authentication.
   *
   * @param context what it belongs to; unwrapping takes the same
   * @throws PartywallError keyring_refused: there is no such version
   */
  wrap(version: number, plain: Buffer, context: string): Promise<Buffer>;
  /** @throws PartywallError keyring_refused: there is no such version, or it did not wrap this, or not for this context */
  unwrap(version: number, wrapped: Buffer, context: string): Promise<Buffer>;
  /** A version above `above`: one that is there and above, else a new one. @throws PartywallError keyring_refused: it cannot make one */
  create(above: number): Promise<number>;
  /** Destroys a version for good; one that is gone is destroyed already. `pending`: somebody has to do it, as the documentation says. */
  destroy(version: number): Promise<'destroyed' | 'pending'>;
  /** Ends what it started. */
  close(): Promise<void>;
}
