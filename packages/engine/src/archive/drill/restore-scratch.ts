import type pg from 'pg';
import { endRolloutSql } from '../../wall/runtime/rollout-sql.ts';
import { settleRestoredSql } from '../../wall/runtime.ts';
import type { Archive } from '../archive.ts';
import { sideBySide } from '../backup/side-by-side.ts';
import { tierOrder } from '../ledger/reconcile-plan.ts';
import { readSchema } from '../read/backup-source.ts';
import { type Backup, refOf } from '../read/open-backup.ts';
import { loadRows } from '../recover/load-rows.ts';
import { depths, type RecoveryPlan, type RecoverySubject, recoveryTables } from '../recover/plan-recovery.ts';
import { setSequences } from '../recover/recover.ts';
import { makeRoles, progressSchema, takeTarget } from '../recover/target.ts';
import { runSchema } from '../schema/run-schema.ts';
import { parseSchema, type SchemaItem } from '../schema/schema-document.ts';
import { withoutRollout } from '../schema/without-rollout.ts';
import type { DrilledTenant } from './plan-drill.ts';
import { noteRoles, type Scratch, type ScratchPlace } from './scratch.ts';

const workers = 4;
const pagesAtOnce = 8;

/** What a drill restores, read from the backup; a recovery of chosen tenants. */
export interface ScratchRestore extends RecoveryPlan {
  /** Rows of each table that the pages of the platform and of the tenants promise. */
  readonly loaded: ReadonlyMap<string, number>;
  /** Tables that have rows of the platform. */
  readonly platformTables: ReadonlySet<string>;
  /** Ids of the keys that open all of it. */
  readonly dataKeys: ReadonlySet<string>;
}

/** @throws PartywallError archive_damaged, archive_foreign, key_missing, restore_refused (no schema), store_object_missing */
export async function readRestore(archive: Archive, backup: Backup, tenants: readonly DrilledTenant[]): Promise<ScratchRestore> {
  const schema = withoutRollout(parseSchema(await readSchema(archive, backup)));
  const platformRef = refOf(archive, 'platform');
  const chosen = tenants.map(({ ref, tenant, rows, bytes }): RecoverySubject => ({ ref, tenant, rows, bytes }));
  const stored = backup.subjects.get(platformRef);
  const platform: RecoverySubject = { ref: platformRef, tenant: null, rows: stored?.rows ?? 0, bytes: stored?.bytes ?? 0 };
  const loaded = new Map<string, number>();
  const dataKeys = new Set<string>();
  const platformTables = new Set<string>();
  const held = [platform, ...chosen];
  // Pages are read anew for each step: those of ten thousand tenants are more than a process should hold.
  await sideBySide(held, pagesAtOnce, async ({ ref }) => {
    for (const { table, rows, segments } of (await backup.page(ref)).tables) {
      loaded.set(table, (loaded.get(table) ?? 0) + rows);
      if (ref === platformRef) platformTables.add(table);
      for (const { key } of segments) dataKeys.add(key);
    }
  });
  const refs = new Set(held.map(({ ref }) => ref));
  return {
    backup,
    schema,
    tables: recoveryTables(backup.manifest.tables, schema),
    platform,
    tiers: tierOrder.map((tier) => ({
      tier,
      depth: depths[tier],
      subjects: chosen.filter(({ ref }) => tenants.some((each) => each.ref === ref && each.tier === tier)),
    })),
    leftOut: [...backup.subjects.values()].flatMap(({ subject, rows, bytes }) => (refs.has(subject) ? [] : [{ ref: subject, tenant: null, rows, bytes }])),
    retired: 0,
    erased: 0,
    rollout: [],
    loaded,
    platformTables,
    dataKeys,
  };
}

export interface ScratchTarget {
  readonly client: pg.Client;
  readonly scratch: Scratch;
  readonly place: ScratchPlace;
  readonly signal: AbortSignal | undefined;
}

/** Roles that are missing on the server, and the tables. Returns the names of the roles that were made. */
export async function makeTables({ client, place, signal }: ScratchTarget, restore: ScratchRestore): Promise<string[]> {
  await takeTarget(client, restore);
  await client.query('begin');
  // With their note, so that no kill leaves a role that nobody knows of.
  const made = (await makeRoles(client, restore.schema)).map(({ name }) => name);
  await noteRoles(client, place, made);
  await client.query('commit');
  await runSchema(client, restore.schema, 'before', { signal });
  return made;
}

/** Every row of the platform and of the tenants. */
export async function loadScratch({ client, scratch, signal }: ScratchTarget, restore: ScratchRestore): Promise<void> {
  const subjects = [restore.platform, ...restore.tiers.flatMap((tier) => tier.subjects)];
  await loadRows({ url: scratch.url, backup: restore.backup, tables: restore.tables, subjects, done: new Set(), workers, signal });
  await setSequences(client, restore.backup.manifest.sequences);
}

/** Keys, indexes, rights: what makes the rows a database. Returns what had to be left out, because rows of other tenants are not there. */
export async function makeKeys({ client, signal }: ScratchTarget, restore: ScratchRestore): Promise<string[]> {
  const left = keysToOthers(restore);
  await runSchema(client, restore.schema, 'after', { signal, made: new Set(left.map(({ id }) => id)) });
  await client.query(`drop schema ${progressSchema} cascade; analyze`);
  return left.map(({ id }) => id);
}

/**
 * Foreign keys from rows of the platform to tables of which rows were left out: they could not hold, and say nothing of the backup. None where everybody
 * is restored.
 */
export function keysToOthers({ backup, schema, loaded, platformTables }: ScratchRestore): SchemaItem[] {
  const isPart = new Set(backup.manifest.tables.filter(({ name, rows }) => (loaded.get(name) ?? 0) < rows).map(({ name }) => name));
  const tableOf = new Map(schema.items.map(({ id, table }) => [id, table]));
  return schema.items.filter(
    ({ kind, table, needs }) =>
      kind === 'foreign key' && platformTables.has(table ?? '') && needs.some((id) => tableOf.get(id) !== table && isPart.has(tableOf.get(id) ?? '')),
  );
}

/** Lets the tenants in that are there, whatever state they were in, and forgets the others: nobody but the drill enters this database. */
export async function admitTenants(client: pg.ClientBase, tenants: readonly string[]): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>("select pg_catalog.to_regclass('partywall.registry') is not null as there");
  if (!rows[0]?.there) return;
  await client.query(settleRestoredSql);
  await client.query(endRolloutSql);
  await client.query('delete from partywall.registry g where g.tenant_id::text <> all ($1::text[])', [tenants]);
  await client.query("update partywall.registry g set state = 'active', placement = null, reason = null where g.state <> 'active' or g.placement is not null");
}
