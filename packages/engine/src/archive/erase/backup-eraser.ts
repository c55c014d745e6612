import { keepDetails, readDetails } from '../../durable/operations.ts';
import type { Works } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { tenantSubject } from '../../keyring/data-keys.ts';
import type { KeyDestruction } from '../../keyring/keyring.ts';
import type { BackupEraser, ErasedBackups, Erasing } from '../../tenants/erase/backup-eraser.ts';
import { eraseKind } from '../../tenants/erase/erase.ts';
import { eraseWork } from '../../tenants/erase/erase-work.ts';
import type { Archive } from '../archive.ts';
import { countFiles, removeFiles } from '../files/remove-files.ts';
import { ensureIdentity } from '../identity.ts';
import { appendLedger, readLedger } from '../ledger/ledger.ts';
import type { LedgerRecord } from '../ledger/ledger-object.ts';
import type { OpenArchive } from '../open-archive.ts';
import { openSegment } from '../read/open-backup.ts';
import { assertKept, checkOthers, keysBut, type OthersCheck } from './check-others.ts';
import { writeErasureList } from './erasure-list.ts';
import { type Held, heldSegments } from './held-segments.ts';
import { proveArchive } from './prove-archive.ts';
import { withoutBackups } from './without-backups.ts';

/** Works that erase tenants from an archive too. @param open opens it for one piece of work; it is closed afterwards */
export function eraseWorks(open: () => Promise<OpenArchive>): Works {
  return { [eraseKind]: eraseWork(backupEraser(open)) };
}

/**
 * Erases tenants from an archive by destroying their keys. Objects stay until retention lets them go, and cannot be read any more. In this order:
 *
 * 1. The ledger says that the tenant goes, so that no restore brings it back, whatever happens next.
 * 2. Rows go. A backup that runs meanwhile holds fewer and fewer of them, under the tenant's key.
 * 3. No backup runs from here to the end. Keys are destroyed, in escrow too, with every key-encryption key that an older keybook opens with.
 * 4. Every segment is looked up and tried; everybody else's keys and newest backup are too.
 * 5. The ledger says that it has gone; the certificate is issued, with the last row, and says all of this.
 */
export function backupEraser(open: () => Promise<OpenArchive>): BackupEraser {
  const opened = async <Result>(work: (archive: OpenArchive) => Promise<Result>): Promise<Result> => {
    const archive = await open();
    return work(archive).finally(() => archive.close());
  };
  return {
    prepare: (operation, tenant) =>
      opened(async (archive) => {
        await proveArchive(operation, archive, tenant);
        await countFiles(operation, tenant, archive);
      }),
    announce: ({ database }, tenant) => opened((archive) => announce(archive, tenant, { status: 'erasing', at: database.clock() })),
    conclude: (erasing, certify) =>
      opened((archive) =>
        withoutBackups(
          erasing.operation,
          () => erasing.say('waiting for a backup to end'),
          async (client) => certify(client, await eraseKeys(archive, erasing)),
        ),
      ),
  };
}

async function announce(archive: Archive, tenant: string, { status, at }: { readonly status: LedgerRecord['status']; readonly at: Date }): Promise<void> {
  if ((await readLedger(archive)).tenants.get(tenant)?.status === status) return;
  await appendLedger(archive, [{ tenant, at: at.toISOString(), status, retainedUntil: null, placement: null }], at);
}

async function eraseKeys(archive: OpenArchive, erasing: Erasing): Promise<ErasedBackups> {
  const { operation, tenant, id, say } = erasing;
  const { signal, database } = operation;
  const subject = tenantSubject(tenant);
  await archive.keys.refresh();
  const own = archive.keys.subjects().flatMap(({ subject: each, ref }) => (each === subject ? [ref] : []));
  const kept = keysBut(archive, own);
  const files = await removeUploads(archive, erasing);
  const copy = await archive.keys.copied();
  await say('destroying the keys');
  const gone = await archive.keys.destroy(subject);
  // One that was written since is no older one: the run that destroyed the keys was cut off, and took its copy along.
  const oldKeybookOpens = copy && gone.generation !== null && copy.generation < gone.generation ? await copy.opens() : null;
  assertKept(archive, kept);
  await say('naming every segment');
  const held = await heldSegments(archive, gone.refs, { signal });
  await say('trying every segment');
  assertUnreadable(archive, gone, { held, oldKeybookOpens });
  await say('reading the backups of the others');
  const others = await checkOthers(archive, signal);
  refuseLost(others);
  const identity = await ensureIdentity(archive.store);
  const { refs, keys, keks } = { refs: [...gone.refs], keys: [...gone.keys], keks: { destroyed: [...gone.keks.destroyed], pending: [...gone.keks.pending] } };
  const list = refs.length === 0 ? null : await writeErasureList(archive.store, { operation: id, archive: identity, refs, keys, held });
  await announce(archive, tenant, { status: 'erased', at: database.clock() });
  return {
    archive: identity,
    ...(files !== null && { files }),
    refs,
    keys,
    keks,
    oldKeybookOpens,
    ...sumsOf(held),
    list,
    others: { of: others.of, visited: others.visited, opened: others.opened, without: others.without, damaged: others.damaged.length },
    ledger: (await readLedger(archive)).number,
  };
}

/** Null where the model names no place of files. A run after a crash counts what the first one found. */
async function removeUploads(archive: OpenArchive, { operation, tenant, id, say }: Erasing): Promise<number | null> {
  const { pool, model } = operation.database;
  if (model.archive.files.size === 0) return null;
  await say('removing files');
  const { filesFound } = await readDetails(pool, id);
  const found = typeof filesFound === 'number' ? filesFound : await countFiles(operation, tenant, archive);
  await keepDetails(pool, id, { filesFound: found });
  await removeFiles(operation, tenant, archive);
  return found;
}

interface Unreadable {
  readonly held: Held;
  readonly oldKeybookOpens: boolean | null;
}

/** Tries every segment, and an older keybook. @throws PartywallError erasure_refused where something opens */
export function assertUnreadable(archive: OpenArchive, { refs, keks }: Pick<KeyDestruction, 'refs' | 'keks'>, { held, oldKeybookOpens }: Unreadable): void {
  const opens = (what: string): PartywallError => new PartywallError('erasure_refused', `proving an erasure: ${what}, so nothing is certified`);
  // Where somebody has to take a key-encryption key away it does until then, and the certificate says so.
  if (oldKeybookOpens && keks.pending.length === 0) throw opens('a copy of the keybook from before opens with what is left of the keyring');
  for (const ref of refs) if (archive.keys.byRef(ref)) throw opens(`the keyring has a key of subject ${ref}`);
  for (const { object, segments } of held.objects) {
    for (const place of segments) if (!isKeyless(archive, place)) throw opens(`a segment in ${object} opens`);
  }
}

/** Whether reading fails for want of a key; nothing is read. */
export function isKeyless(archive: Pick<Archive, 'store' | 'keys'>, place: Parameters<typeof openSegment>[1]): boolean {
  try {
    openSegment(archive, place);
    return false;
  } catch (error) {
    if (error instanceof PartywallError && error.code === 'key_missing') return true;
    throw error;
  }
}

/** @throws PartywallError key_missing: somebody's backup is as it was stored, and does not open */
function refuseLost({ lost }: OthersCheck): void {
  if (lost.length === 0) return;
  throw new PartywallError('key_missing', `reading the backups of the others: ${lost.length} subjects have no key that opens them`, {
    details: lost.slice(0, 20).map((ref) => `packs/${ref}`),
  });
}

export function sumsOf({ backups, objects, unread }: Held): Pick<ErasedBackups, 'held' | 'lockedUntil' | 'unread'> {
  const locks = objects.flatMap(({ lockedUntil }) => lockedUntil ?? []).sort();
  return {
    held: {
      backups: new Set(backups.map(({ id }) => id)).size,
      objects: objects.length,
      segments: objects.reduce((sum, { segments }) => sum + segments.length, 0),
      bytes: objects.reduce((sum, { bytes }) => sum + bytes, 0),
    },
    lockedUntil: locks.at(-1) ?? null,
    unread: unread.length,
  };
}
