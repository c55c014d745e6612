import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { type DataKeys, tenantOfSubject } from '../../keyring/data-keys.ts';
import { signingKey } from '../../keyring/signing.ts';
import { type Archive, verifiedObject } from '../archive.ts';
import type { DataClass } from '../format/manifest.ts';
import { signRecord } from '../format/record.ts';
import { type Backup, openBackup } from '../read/open-backup.ts';
import { readHistory } from '../retention/history.ts';
import { skewSecondsMax } from './due.ts';

/** What a backup gives to whom, once it was found whole. */
interface GivenPoints {
  readonly backup: string;
  readonly at: Date;
  readonly verifiedAt: Date;
  readonly classes: readonly DataClass[];
  readonly tenants: readonly string[];
  /** Of what belongs to no tenant: only of backups of everything. */
  readonly platform: boolean;
}

export interface RecordedPoints {
  readonly backup: string;
  /** Tenants that have a new recovery point. */
  readonly tenants: number;
}

/** Tenants of one statement. */
const batchMax = 5_000;

/** A point that was made under a clock ahead of time gives way to one that was made under the right one. */
const upsertSql = `insert into partywall_control.recovery_points as r (tenant_id, class, backup, at, verified_at)
select d.tenant_id, c.class, $3, $4, $5 from unnest($1::text[]) as t (tenant_id)
join partywall_control.directory d on d.tenant_id = t.tenant_id cross join unnest($2::text[]) as c (class)
on conflict (tenant_id, class) do update set backup = excluded.backup, at = excluded.at, verified_at = excluded.verified_at
where r.at < excluded.at or r.at > $6`;
const platformSql = `insert into partywall_control.recovery_points as r (tenant_id, class, backup, at, verified_at)
select null, c.class, $2, $3, $4 from unnest($1::text[]) as c (class)
on conflict (tenant_id, class) do update set backup = excluded.backup, at = excluded.at, verified_at = excluded.verified_at
where r.at < excluded.at or r.at > $5`;
const runSql = `insert into partywall_control.backup_runs (backup, reason, scope, classes, state, started_at, finished_at, verified_at)
values ($1, $2, $3, $4, 'verified', $5, $6, $7)
on conflict (backup) do update set state = 'verified', error = null, verified_at = excluded.verified_at, finished_at = coalesce(backup_runs.finished_at, excluded.finished_at)`;
const sinceSql = `insert into partywall_control.backup_schedule as s (since) values ($1) on conflict (id) do update set since = least(s.since, excluded.since)`;

/**
 * Records that a backup was found whole, in the archive and then here: it counts from now on, as the recovery point of all that it holds. For whoever
 * has just verified it. Can be repeated.
 *
 * @throws PartywallError backup_unknown, archive_damaged, store_unavailable, store_refused
 */
export async function recordVerified(operation: Operation, archive: Archive, id: string): Promise<RecordedPoints> {
  const { database } = operation;
  const opened = await openBackup(archive, id);
  const verifiedAt = database.clock();
  await writeVerified(archive, opened, verifiedAt);
  const { manifest } = opened;
  const points = pointsOf(archive.keys, opened, { verifiedAt, at: new Date(manifest.at), whole: manifest.scope === 'all', classes: manifest.classes });
  await transaction(database.pool, async (client) => {
    await client.query(sinceSql, [points.at]);
    await client.query(runSql, [id, manifest.reason, manifest.scope, points.classes, points.at, new Date(manifest.finishedAt), verifiedAt]);
    await writePoints(client, points, verifiedAt);
    const details = { backup: id, at: manifest.at, tenants: points.tenants.length, classes: points.classes };
    await appendAudit(client, operation, { tenant: null, action: 'backup.verified', target: `backup:${id}`, details });
  });
  return { backup: id, tenants: points.tenants.length };
}

export interface RebuiltPoints {
  /** Verified backups of the archive, and how many of them were read. */
  readonly backups: number;
  readonly visited: number;
  readonly points: number;
  readonly problems: readonly string[];
}

/**
 * Makes the recovery points anew from the archive's own records: after the database was restored from a time that knew fewer of them, or more.
 *
 * @throws PartywallError store_unavailable, store_refused
 */
export async function rebuildRecoveryPoints(operation: Operation, archive: Archive): Promise<RebuiltPoints> {
  const { database, signal } = operation;
  const history = await readHistory(archive);
  const verified = history.backups.filter(({ verifiedAt }) => verifiedAt !== null).reverse();
  const problems = [...history.problems];
  let visited = 0;
  const points = await transaction(database.pool, async (client) => {
    // Between its statements it reads every manifest.
    await client.query('set local idle_in_transaction_session_timeout = 0');
    await client.query('lock table partywall_control.recovery_points in share row exclusive mode');
    await client.query('delete from partywall_control.recovery_points');
    // Newest first: what is there is newer than what comes.
    for (const facts of verified) {
      signal?.throwIfAborted();
      try {
        const backup = await openBackup(archive, facts.id);
        await writePoints(client, pointsOf(archive.keys, backup, { ...facts, verifiedAt: facts.verifiedAt ?? facts.at }), database.clock());
        visited += 1;
      } catch (error) {
        if (!(error instanceof PartywallError) || !error.code.startsWith('archive_')) throw error;
        problems.push(error.message);
      }
    }
    const [oldest] = history.backups;
    if (oldest) await client.query(sinceSql, [oldest.at]);
    const { rows } = await client.query<{ count: number }>('select count(*)::integer as count from partywall_control.recovery_points');
    const count = rows[0]?.count ?? 0;
    const details = { backups: verified.length, visited, points: count };
    await appendAudit(client, operation, { tenant: null, action: 'backup.points_rebuilt', details });
    return count;
  });
  return { backups: verified.length, visited, points, problems };
}

/** The record in the archive; one that is there stays. */
async function writeVerified({ store, keyring }: Archive, { manifest, sha256 }: Backup, verifiedAt: Date): Promise<void> {
  const record = {
    format: 'partywall.verified/1' as const,
    archive: manifest.archive,
    backup: manifest.id,
    manifest: sha256,
    verifiedAt: verifiedAt.toISOString(),
    at: manifest.at,
    scope: manifest.scope,
    classes: manifest.classes,
  };
  try {
    await store.put(verifiedObject(manifest.id), signRecord(record, await signingKey(keyring)), { ifAbsent: true });
  } catch (error) {
    if (!(error instanceof PartywallError) || error.code !== 'store_conflict') throw error;
  }
}

interface Facts {
  readonly at: Date;
  readonly verifiedAt: Date;
  readonly whole: boolean;
  readonly classes: readonly DataClass[];
}

/**
 * Subjects whose keys are gone get no recovery point: nobody can restore them. Nor do those of a SQLite file: what it holds of a tenant is not what this
 * database has of it.
 */
function pointsOf(keys: Pick<DataKeys, 'byRef'>, { manifest, subjects }: Backup, { at, verifiedAt, whole, classes }: Facts): GivenPoints {
  const refs = manifest.source.engine === 'postgresql' ? [...subjects.keys()] : [];
  const tenants = refs.flatMap((ref) => {
    const key = keys.byRef(ref);
    return key ? (tenantOfSubject(key.subject) ?? []) : [];
  });
  return { backup: manifest.id, at, verifiedAt, classes, tenants, platform: whole };
}

async function writePoints(client: pg.ClientBase, { backup, at, verifiedAt, classes, tenants, platform }: GivenPoints, now: Date): Promise<void> {
  const tooNew = new Date(now.getTime() + skewSecondsMax * 1000);
  for (let from = 0; from < tenants.length; from += batchMax) {
    await client.query(upsertSql, [tenants.slice(from, from + batchMax), classes, backup, at, verifiedAt, tooNew]);
  }
  if (platform) await client.query(platformSql, [classes, backup, at, verifiedAt, tooNew]);
}
