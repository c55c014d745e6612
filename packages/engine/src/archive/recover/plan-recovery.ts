import type { RolloutMode } from '@partywall/wall';
import { PartywallError } from '../../errors.ts';
import { tenantOfSubject } from '../../keyring/data-keys.ts';
import { parseTableName, type TableName } from '../../model/table-name.ts';
import { describeMode } from '../../rollout/plan-change.ts';
import { type ModeRow, observes } from '../../rollout/state.ts';
import type { Archive } from '../archive.ts';
import type { Manifest, ManifestSubject, ManifestTable } from '../format/manifest.ts';
import { type Tier, tierOrder } from '../ledger/reconcile-plan.ts';
import { readSchema } from '../read/backup-source.ts';
import { type Backup, refOf } from '../read/open-backup.ts';
import { retiredSubjects } from '../read/retired-subjects.ts';
import { parseSchema, type SchemaDdl } from '../schema/schema-document.ts';
import { withoutRollout } from '../schema/without-rollout.ts';
import { fieldOf, readLines } from './copy-lines.ts';

/** Subjects whose tier is looked up at once. */
const lookupsAtOnce = 16;

/** How deep the tenants of a tier are looked at when their rows are back. `full`: every row; `standard`: rows of each table of each tenant; `basic`: of each table. */
export const depths = { enterprise: 'full', pro: 'standard', starter: 'basic', free: 'basic' } as const satisfies Record<Tier, string>;
export type Depth = (typeof depths)[Tier];

export interface RecoveryTable {
  readonly name: TableName;
  readonly stored: ManifestTable;
}

export interface RecoverySubject {
  readonly ref: string;
  /** Text of the tenant's key; null: the platform. */
  readonly tenant: string | null;
  readonly rows: number;
  readonly bytes: number;
}

export interface RecoveryTier {
  readonly tier: Tier;
  readonly depth: Depth;
  readonly subjects: readonly RecoverySubject[];
}

/** What a restore of a whole database will do, in this order. */
export interface RecoveryPlan {
  readonly backup: Backup;
  readonly schema: SchemaDdl;
  readonly tables: readonly RecoveryTable[];
  readonly platform: RecoverySubject;
  readonly tiers: readonly RecoveryTier[];
  /** Tenants of tiers that were not asked for, and those that the backup holds no longer. */
  readonly leftOut: readonly RecoverySubject[];
  /** Of those left out, the ones whose rows retention has removed from this backup. */
  readonly retired: number;
  /** Subjects whose keys are gone: they were erased, and cannot come back. */
  readonly erased: number;
  /** Modes of a roll-out that observed, a line each: they do not come back. */
  readonly rollout: readonly string[];
}

/**
 * Reads what a backup holds and in which order it comes back: the platform, then tenants tier by tier.
 *
 * @throws PartywallError restore_refused (a backup of some tenants only, or without a schema), archive_damaged, archive_foreign, key_missing
 */
export async function planRecovery(archive: Archive, backup: Backup, tiers: readonly Tier[] = tierOrder): Promise<RecoveryPlan> {
  const { manifest } = backup;
  const refused = (why: string): PartywallError => new PartywallError('restore_refused', `restoring a database from backup ${manifest.id}: ${why}`);
  if (manifest.scope !== 'all') throw refused('it holds some tenants only');
  if (!isWhole(manifest)) throw refused(`it holds ${manifest.classes.join(', ')} only`);
  if (manifest.source.engine !== 'postgresql') throw refused(`it was made of a ${manifest.source.engine} database`);
  const schema = withoutRollout(parseSchema(await readSchema(archive, backup)));
  const tables = recoveryTables(manifest.tables, schema);
  const platformRef = refOf(archive, 'platform');
  const readable = manifest.subjects.flatMap((subject) => {
    const key = archive.keys.byRef(subject.subject);
    return key ? [recoverySubject(subject, tenantOfSubject(key.subject) ?? null)] : [];
  });
  const platform = readable.find(({ ref }) => ref === platformRef);
  if (!platform) throw refused('it holds nothing of the platform');
  const gone = await retiredSubjects(archive, manifest.id);
  if (gone.has(platformRef)) throw refused('retention has removed what belongs to the platform from it');
  const tenants = readable.filter((subject) => subject !== platform && !gone.has(subject.ref));
  const retired = readable.filter(({ ref }) => gone.has(ref));
  const tierOf = await readTiers(backup, platformRef, tables, tenants);
  const wanted = tierOrder.filter((tier) => tiers.includes(tier));
  return {
    backup,
    schema,
    tables,
    platform,
    tiers: wanted.map((tier) => ({ tier, depth: depths[tier], subjects: tenants.filter(({ ref }) => tierOf.get(ref) === tier) })),
    leftOut: [...tenants.filter(({ ref }) => !wanted.some((tier) => tierOf.get(ref) === tier)), ...retired],
    retired: retired.length,
    erased: manifest.subjects.length - readable.length,
    rollout: await readModes(backup, platformRef, tables),
  };
}

/** Whether a database can be made of it: rows and configuration of everybody. Without the audit log its chains begin anew. */
export function isWhole({ scope, classes }: Pick<Manifest, 'scope' | 'classes'>): boolean {
  return scope === 'all' && classes.includes('database') && classes.includes('configuration');
}

function recoverySubject({ subject, rows, bytes }: ManifestSubject, tenant: string | null): RecoverySubject {
  return { ref: subject, tenant, rows, bytes };
}

/** Every table with rows must be one that the schema makes: what has no place would be lost in silence. @throws PartywallError archive_damaged */
export function recoveryTables(stored: readonly ManifestTable[], schema: SchemaDdl): RecoveryTable[] {
  const made = new Set(schema.items.filter(({ kind }) => kind === 'table').map(({ table }) => table));
  return stored.flatMap((table) => {
    if (table.kind !== 'rows') return [];
    const name = parseTableName(table.name);
    if (!name || !made.has(name)) throw new PartywallError('archive_damaged', `reading a backup: its schema does not make ${table.name}, which it has rows of`);
    return [{ name, stored: table }];
  });
}

/** What a roll-out observed when the backup was made; nothing where everything was enforced. */
async function readModes(backup: Backup, platformRef: string, tables: readonly RecoveryTable[]): Promise<string[]> {
  const stored = tables.find(({ name }) => name === 'partywall.rollout')?.stored;
  if (!stored) return [];
  const modes: { readonly scope: ModeRow['scope']; readonly target: string; readonly mode: RolloutMode }[] = [];
  for await (const line of readLines(backup.content(platformRef, stored.name))) {
    const scope = modeScopes.find((each) => each === fieldOf(line, stored, 'scope'));
    const mode = fieldOf(line, stored, 'mode') === 'observe' ? 'observe' : 'enforce';
    if (scope) modes.push({ scope, target: fieldOf(line, stored, 'target') ?? '', mode });
  }
  return observes(modes) ? modes.map(describeMode) : [];
}

const modeScopes = ['all', 'percent', 'tenant', 'table'] as const;
const plansTable = 'partywall_control.plans';
const directoryTable = 'partywall_control.directory';

/** The tier of each tenant's plan, from the backup itself. A database without a control plane has no tiers: its tenants come last. */
async function readTiers(
  backup: Backup,
  platformRef: string,
  tables: readonly RecoveryTable[],
  tenants: readonly RecoverySubject[],
): Promise<ReadonlyMap<string, Tier>> {
  const directory = tables.find(({ name }) => name === directoryTable)?.stored;
  const plans = tables.find(({ name }) => name === plansTable)?.stored;
  const tierOfPlan = new Map<string, Tier>();
  if (plans) {
    for await (const line of readLines(backup.content(platformRef, plans.name))) {
      const tier = tierOrder.find((each) => each === fieldOf(line, plans, 'tier'));
      if (tier) tierOfPlan.set(fieldOf(line, plans, 'name') ?? '', tier);
    }
  }
  const tiers = new Map<string, Tier>();
  for (let at = 0; at < tenants.length; at += lookupsAtOnce) {
    await Promise.all(
      tenants.slice(at, at + lookupsAtOnce).map(async ({ ref }) => {
        tiers.set(ref, 'free');
        if (!directory) return;
        for await (const line of readLines(backup.content(ref, directory.name)))
          tiers.set(ref, tierOfPlan.get(fieldOf(line, directory, 'plan') ?? '') ?? 'free');
      }),
    );
  }
  return tiers;
}
