import { createHash, randomBytes } from 'node:crypto';
import type { Archive, OpenArchive } from '@partywall/engine';
import { backupId, manifestObject, packObject, pagesObject, verifiedObject } from '../../../src/archive/archive.ts';
import { canonicalJson } from '../../../src/archive/format/canonical-json.ts';
import { type DataClass, dataClasses, type Manifest, type ManifestSubject } from '../../../src/archive/format/manifest.ts';
import { signRecord } from '../../../src/archive/format/record.ts';
import { signManifest } from '../../../src/archive/format/signed-manifest.ts';
import { ensureIdentity } from '../../../src/archive/identity.ts';
import { backupIds } from '../../../src/archive/read/list-backups.ts';
import { openBackup } from '../../../src/archive/read/open-backup.ts';
import { type Subject, tenantSubject } from '../../../src/keyring/data-keys.ts';
import { signingKey } from '../../../src/keyring/signing.ts';

export interface MadeBackup {
  /** Time of the snapshot. */
  readonly at: Date;
  /** Keys of the tenants that it holds, beside the platform. */
  readonly tenants: readonly string[];
  /** Of those, the tenants whose rows are as they were: their pages and packs are those of the backup before. Default: none. */
  readonly unchanged?: readonly string[];
  readonly whole?: boolean;
  readonly classes?: readonly DataClass[];
  /** Default: true. */
  readonly verified?: boolean;
  readonly lockUntil?: Date;
}

/** Backups whose names, manifests, signatures and objects are real, and whose rows are noise: for what handles backups without opening segments. */
export async function makeBackup(archive: OpenArchive, made: MadeBackup): Promise<string> {
  const { at, tenants, unchanged = [], whole = true, classes = dataClasses, verified = true, lockUntil } = made;
  const id = backupId(at, randomBytes(4).toString('hex'));
  const subjects: Subject[] = [...(whole ? (['platform'] as const) : []), ...tenants.map(tenantSubject)];
  const keys = await archive.keys.ensure(subjects);
  const last = (await backupIds(archive)).filter((each) => each < id).at(-1);
  const before = last === undefined ? undefined : await openBackup(archive, last);
  const lock = lockUntil ? { lockUntil } : {};
  const pages: Buffer[] = [];
  let offset = 0;
  const listed: ManifestSubject[] = [];
  for (const subject of subjects) {
    const ref = keys.get(subject)?.ref ?? '';
    const known = unchanged.some((tenant) => tenantSubject(tenant) === subject) ? before?.subjects.get(ref) : undefined;
    if (known) {
      listed.push(known);
      continue;
    }
    const pack = randomBytes(100);
    await archive.store.put(packObject(ref, id, 0), pack, { ifAbsent: true, ...lock });
    const page = Buffer.from(canonicalJson({ format: 'partywall.page/1', backup: id, subject: ref, tables: [] }));
    listed.push({
      subject: ref,
      page: { backup: id, offset, bytes: page.length, sha256: hash(page) },
      packs: [{ backup: id, pack: 0, bytes: pack.length, sha256: hash(pack) }],
      rows: 1,
      bytes: 100,
    });
    pages.push(page);
    offset += page.length;
  }
  if (pages.length > 0) await archive.store.put(pagesObject(id), Buffer.concat(pages), { ifAbsent: true, ...lock });
  const manifest: Manifest = {
    format: 'partywall.backup',
    version: { major: 1, minor: 0 },
    encryption: 'aes-256-gcm-stream/1',
    archive: await ensureIdentity(archive.store),
    id,
    scope: whole ? 'all' : 'tenants',
    classes: [...classes],
    reason: 'a test',
    at: at.toISOString(),
    finishedAt: at.toISOString(),
    source: { engine: 'postgresql', version: '18.4', lsn: '0/1', lineage: 'a', settings: {} },
    model: 'a'.repeat(64),
    schema: 'b'.repeat(64),
    tables: [],
    sequences: [],
    subjects: listed,
    left: [],
    previous: null,
  };
  await archive.store.put(manifestObject(id), signManifest(manifest, await signingKey(archive.keyring)), { ifAbsent: true, ...lock });
  if (verified) await verifyMade(archive, id, at);
  return id;
}

export async function verifyMade(archive: Archive, id: string, verifiedAt: Date): Promise<void> {
  const { manifest, sha256 } = await openBackup(archive, id);
  const record = {
    format: 'partywall.verified/1' as const,
    archive: manifest.archive,
    backup: id,
    manifest: sha256,
    verifiedAt: verifiedAt.toISOString(),
    at: manifest.at,
    scope: manifest.scope,
    classes: manifest.classes,
  };
  await archive.store.put(verifiedObject(id), signRecord(record, await signingKey(archive.keyring)), { ifAbsent: true });
}

/** Names of all objects, sorted. */
export async function objectsOf(archive: Pick<Archive, 'store'>, prefix = ''): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of archive.store.list(prefix)) keys.push(key);
  return keys.sort();
}

/**
 * What every manifest reaches and the store does not have, by backup: nothing, whatever was cut off where. And which objects nothing reaches.
 */
export async function soundness(archive: Archive): Promise<{ readonly missing: string[]; readonly unreached: string[] }> {
  const there = new Set(await objectsOf(archive));
  const reached = new Set<string>();
  for (const id of await backupIds(archive)) {
    reached.add(manifestObject(id));
    reached.add(verifiedObject(id));
    for (const { subject, page, packs } of (await openBackup(archive, id)).subjects.values()) {
      reached.add(pagesObject(page.backup));
      for (const { backup, pack } of packs) reached.add(packObject(subject, backup, pack));
    }
  }
  const optional = /(?:verified|retired-\d+)\.json$|^archive\.json$|^sweep\//;
  return {
    missing: [...reached].filter((key) => !there.has(key) && !optional.test(key)),
    unreached: [...there].filter((key) => !reached.has(key) && !optional.test(key)),
  };
}

function hash(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
