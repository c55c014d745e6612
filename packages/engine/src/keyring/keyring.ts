import { PartywallError } from '../errors.ts';
import { type BookEntry, type Erasure, type KeyBook, openBook, readHeader } from './book.ts';
import { activeEntries, type Contents, emptyContents, erasuresOf, withKek, withNewKey, withoutSubject, withSubjects } from './change-book.ts';
import { type CopiesState, readCopy } from './copies.ts';
import type { DataKey, DataKeys, Subject } from './data-keys.ts';
import { escrowStore } from './escrow.ts';
import { compareKeyFiles, type FilesState } from './escrow-files.ts';
import { type BookPlaces, sharedBook } from './open-book.ts';
import { signingKey } from './signing.ts';

export interface KeyringOptions extends BookPlaces {
  readonly clock: () => Date;
}

/** An open keyring: the data keys, and what is done to them. Several processes may use one keybook at once. */
export interface Keyring extends DataKeys {
  /** Reads what other processes have written since. */
  refresh(): Promise<void>;
  /** What is there, and what differs; changes nothing. */
  status(): Promise<KeyringStatus>;
  /**
   * Proves that a backup could run: escrow is a place of its own that can be written, and has all that is needed. Copies to it what it lacks.
   *
   * @throws PartywallError escrow_unverified
   */
  verify(): Promise<KeyringStatus>;
  /**
   * Wraps every key anew under another key-encryption key. Data stays as it is, and so do old backups.
   *
   * @param options.retire destroy the key-encryption keys before it, so that older copies of the keybook open nothing any more
   */
  rotate(options?: { readonly retire?: boolean }): Promise<Rotation>;
  /** A new key for what is encrypted from now on; the old ones stay to read what they encrypted. @throws PartywallError key_missing */
  rekey(subject: Subject): Promise<DataKey>;
  /**
   * Destroys every key of a subject: it leaves the keybook, whose other keys are wrapped under a new key-encryption key; then every older
   * key-encryption key is destroyed, so that no old copy of the keybook opens. Can be run again after a crash, and ends with the same evidence.
   */
  destroy(subject: Subject): Promise<KeyDestruction>;
  /** The stored keybook as it is now, kept as a thief would keep it, to be tried later. Undefined where there is none. */
  copied(): Promise<CopiedKeybook | undefined>;
  close(): Promise<void>;
}

export interface CopiedKeybook {
  readonly generation: number;
  /** Whether it opens with the key-encryption keys that are there now. @throws PartywallError what keeps them from being asked */
  opens(): Promise<boolean>;
}

export interface Rotation {
  readonly kek: number;
  readonly generation: number;
  /** Keys that were wrapped anew. */
  readonly keys: number;
  readonly keks: DestroyedKeks;
}

/** Versions of key-encryption keys that are gone, and those that somebody has to take away. */
export interface DestroyedKeks {
  readonly destroyed: readonly number[];
  readonly pending: readonly number[];
}

export interface KeyDestruction {
  /** Empty where the subject never had a key. */
  readonly refs: readonly string[];
  readonly keys: readonly string[];
  readonly keks: DestroyedKeks;
  /** Write of the keybook since which it is gone. */
  readonly generation: number | null;
}

export interface KeyringStatus {
  readonly generation: number | null;
  /** Version of the key-encryption key in use; null where no keybook has been written. */
  readonly kek: number | null;
  /** Versions that can be used, those that nothing is wrapped with any more included. */
  readonly keks: readonly number[];
  /** Versions that are to be gone, and are still there. */
  readonly pending: readonly number[];
  readonly subjects: number;
  readonly keys: { readonly active: number; readonly retired: number };
  readonly erased: number;
  readonly escrow: { readonly copies: CopiesState; readonly files: FilesState | undefined };
}

/**
 * Opens the keyring, whether or not a keybook has been written.
 *
 * @throws PartywallError keyring_refused (the keybook was changed, or its key-encryption key is missing or another one), store_unavailable
 */
export async function openKeys(options: KeyringOptions): Promise<Keyring> {
  const { escrow, source, keyring, clock } = options;
  const shared = sharedBook(options);
  let book: KeyBook | undefined;
  let byId: ReadonlyMap<string, BookEntry> = new Map();
  let byRef: ReadonlyMap<string, BookEntry> = new Map();

  const use = (read: KeyBook | undefined): void => {
    if (read === book) return;
    book = read;
    byId = new Map((read?.entries ?? []).map((entry) => [entry.id, entry]));
    byRef = new Map((read ? activeEntries(read) : []).map((entry) => [entry.ref, entry]));
  };

  /** One change after the other: of the same process they would only get in each other's way. */
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> => {
    const mine = last.then(work, work);
    last = mine.catch(() => undefined);
    return mine;
  };

  const change = async (make: (current: KeyBook) => Promise<Contents | undefined> | Contents | undefined): Promise<KeyBook | undefined> => {
    const changed = await shared.change((current) => current && make(current));
    use(changed);
    return changed;
  };

  const ensure = async (subjects: readonly Subject[]): Promise<ReadonlyMap<Subject, DataKey>> => {
    // Escrow has it then: what a backup is signed with is as needed as what it is encrypted with.
    await signingKey(keyring);
    const changed = await shared.change(async (current) => withSubjects(current ?? emptyContents(await source.create(0)), subjects, clock()));
    use(changed);
    const wanted = new Set(subjects);
    return new Map((changed ? activeEntries(changed) : []).flatMap((entry) => (wanted.has(entry.subject) ? [[entry.subject, entry]] : [])));
  };

  /** Destroys what the keybook says is destroyed, wherever there is something left of it. */
  const sweep = async (destroyed: readonly number[]): Promise<DestroyedKeks> => {
    const left = (await source.versions()).filter((version) => destroyed.includes(version));
    const pending: number[] = [];
    for (const version of left) if ((await source.destroy(version)) === 'pending') pending.push(version);
    // Verifying escrow deletes there what is left of them.
    await shared.change(() => undefined);
    return { destroyed: destroyed.filter((version) => !pending.includes(version)), pending };
  };

  const rotate = async (retire: boolean): Promise<Rotation> => {
    const changed = await change(async (current) => withKek(current, await newKek(current), retire ? await olderKeks(current) : []));
    if (!changed) throw noKeys('rotating the key-encryption key');
    const keks = await sweep(changed.destroyed);
    return { kek: changed.kek, generation: changed.generation, keys: changed.entries.length, keks };
  };

  const newKek = async (current: KeyBook): Promise<number> => source.create(Math.max(current.kek, ...current.destroyed));
  const olderKeks = async (current: KeyBook): Promise<number[]> => [...(await source.versions()).filter((version) => version < current.kek), current.kek];

  const destroy = async (subject: Subject): Promise<KeyDestruction> => {
    const changed = await change(async (current) => {
      if (!current.entries.some((entry) => entry.subject === subject)) return undefined;
      return withoutSubject(current, subject, { kek: await newKek(current), destroyed: await olderKeks(current), at: clock() });
    });
    const erasures = changed ? erasuresOf(changed, subject) : [];
    const versions = erasures.flatMap(({ keks }) => keks);
    const { pending } = await sweep(changed?.destroyed ?? []);
    return {
      refs: erasures.map(({ ref }) => ref),
      keys: erasures.flatMap(({ keys }) => keys),
      keks: { destroyed: versions.filter((version) => !pending.includes(version)), pending: versions.filter((version) => pending.includes(version)) },
      generation: erasures.at(-1)?.generation ?? null,
    };
  };

  const copied = async (): Promise<CopiedKeybook | undefined> => {
    const copy = await readCopy(options.book);
    if (!copy) return undefined;
    const place = `a copy of ${options.book.description}`;
    const opens = () => openBook(copy.stored, source, place).then(() => true, isRefused);
    return { generation: readHeader(copy.stored, place).generation, opens };
  };

  const escrowStatus = async (destroyed: readonly number[]): Promise<KeyringStatus['escrow']> => {
    try {
      return { copies: await shared.state(), files: escrow && (await compareKeyFiles(keyring, escrowStore(escrow), destroyed)) };
    } catch (error) {
      if (!(error instanceof PartywallError) || error.code !== 'escrow_unverified') throw error;
      return { copies: { kind: 'differs', reason: error.message }, files: undefined };
    }
  };

  const status = async (): Promise<KeyringStatus> => {
    const keks = await source.versions();
    const destroyed = book?.destroyed ?? [];
    return {
      generation: book?.generation ?? null,
      kek: book?.kek ?? null,
      keks: keks.filter((version) => !destroyed.includes(version)),
      pending: keks.filter((version) => destroyed.includes(version)),
      subjects: byRef.size,
      keys: { active: byRef.size, retired: byId.size - byRef.size },
      erased: book?.erased.length ?? 0,
      escrow: await escrowStatus(destroyed),
    };
  };

  use(await shared.read());
  return {
    ensure: (subjects) => inTurn(() => ensure(subjects)),
    byId: (id) => {
      const found = byId.get(id);
      if (found) return found;
      throw missing(
        id,
        book?.erased.find(({ keys }) => keys.includes(id)),
      );
    },
    byRef: (ref) => byRef.get(ref),
    subjects: () => [...byRef.values()].map(({ subject, ref }) => ({ subject, ref })),
    refresh: () => inTurn(async () => use(await shared.read())),
    status: () => inTurn(status),
    verify: () =>
      inTurn(async () => {
        await change(() => undefined);
        return status();
      }),
    rotate: ({ retire = false } = {}) => inTurn(() => rotate(retire)),
    rekey: (subject) =>
      inTurn(async () => {
        const changed = await change((current) => withNewKey(current, subject, clock()));
        const made = changed && activeEntries(changed).find((entry) => entry.subject === subject);
        if (made) return made;
        throw noKeys('making a new key for a tenant');
      }),
    destroy: (subject) => inTurn(() => destroy(subject)),
    copied: () => inTurn(copied),
    close: () => source.close(),
  };
}

/** False for a key that refuses. */
function isRefused(error: unknown): false {
  if (error instanceof PartywallError && error.code === 'keyring_refused') return false;
  throw error;
}

function missing(id: string, erasure: Erasure | undefined): PartywallError {
  const doing = `looking for data key ${id}`;
  return erasure
    ? new PartywallError('key_missing', `${doing}: it was destroyed at ${erasure.at}`)
    : new PartywallError('key_missing', `${doing}: the keybook has none`);
}

function noKeys(doing: string): PartywallError {
  return new PartywallError('key_missing', `${doing}: there is no key yet`, { hint: 'the first backup makes the keys' });
}
