import type pg from 'pg';
import { connect, describeTarget } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { parseTableName, quoted } from '../../model/table-name.ts';
import { verify } from '../../verify/verify.ts';
import { endRolloutSql } from '../../wall/runtime/rollout-sql.ts';
import { settleRestoredSql } from '../../wall/runtime.ts';
import type { Archive } from '../archive.ts';
import type { Tier } from '../ledger/reconcile-plan.ts';
import { recoveredReasonSql } from '../ledger/recovered.ts';
import { findBackup } from '../read/list-backups.ts';
import { runSchema } from '../schema/run-schema.ts';
import type { SchemaItem } from '../schema/schema-document.ts';
import { checkContent, checkCounts, checkTotals } from './check-rows.ts';
import { type Journal, openJournal } from './journal.ts';
import { loadRows } from './load-rows.ts';
import { type Depth, isWhole, planRecovery, type RecoveryPlan, type RecoveryTier } from './plan-recovery.ts';
import { type MadeRole, makeRoles, progressSchema, refuseOccupied, remember, takeTarget } from './target.ts';

const workersDefault = 4;
const workersMax = 16;

export interface RecoverInput {
  /** A backup's id, a time, or `latest`. */
  readonly from: string;
  /** Connection string of an empty database, as a superuser or a role that policies do not bind and that may act as every owner. */
  readonly into: string;
  readonly tiers?: readonly Tier[] | undefined;
  readonly dryRun?: boolean | undefined;
}

export interface RecoverOptions {
  readonly clock: () => Date;
  /** What the wall is compared with at the end; without one it is not. */
  readonly model?: TenancyModel | undefined;
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: RecoverProgress) => void) | undefined;
}

export interface RecoverProgress {
  readonly step: string;
  readonly done: number;
  readonly of: number;
  readonly unit: 'statements' | 'bytes' | 'tenants';
}

export interface RecoverTierReport {
  readonly tier: Tier;
  readonly depth: Depth;
  readonly tenants: number;
  readonly rows: number;
  readonly bytes: number;
  /** Rows that were looked at in that depth; null: not yet. */
  readonly checked: number | null;
  /** From the beginning of this run until its rows were there, and were checked. */
  readonly loadedAfterSeconds: number | null;
  readonly checkedAfterSeconds: number | null;
}

export interface RecoverReport {
  readonly backup: string;
  readonly at: string;
  readonly target: string;
  readonly applied: boolean;
  readonly resumed: boolean;
  readonly tiers: readonly RecoverTierReport[];
  readonly platform: { readonly rows: number; readonly bytes: number };
  readonly leftOut: number;
  /** Of those, tenants whose rows retention has removed from this backup: a later one has them. */
  readonly retired: number;
  /** Subjects without a key: erased since. */
  readonly erased: number;
  readonly roles: readonly MadeRole[];
  /** Modes of the roll-out in the backup, a line each, where it observed anything. None comes back: what is restored enforces. */
  readonly rollout: readonly string[];
  /** What the backup could not hold and the schema could not say, a line each. */
  readonly notes: readonly string[];
  /** What the wall lacks, by the static rules; null: not looked at. */
  readonly findings: number | null;
  readonly journal: string | null;
}

/**
 * Restores a whole database into an empty one: schema, rows tier by tier, what stands on them, checks in the depth of each tier. Its tenants stay fenced until
 * `reconcile` has asked the ledger, and the wall holds for all of them, whatever a roll-out observed. Killed anywhere, the same call goes on.
 *
 * @throws PartywallError backup_unknown, restore_refused, archive_damaged, key_missing, permission_missing, and what `connect` throws
 */
export async function recoverDatabase(archive: Archive, input: RecoverInput, options: RecoverOptions): Promise<RecoverReport> {
  const backup = await findBackup(archive, input.from, ({ manifest }) => isWhole(manifest));
  const plan = await planRecovery(archive, backup, input.tiers);
  const client = await connect(input.into, { purpose: 'recover' });
  try {
    if (input.dryRun) {
      await refuseOccupied(client);
      return report(plan, input, { applied: false });
    }
    return await carryOut(client, { plan, input, options, journal: await openJournal(archive.workFolder, describeTarget(input.into), options.clock) });
  } finally {
    await client.end();
  }
}

interface Run {
  readonly plan: RecoveryPlan;
  readonly input: RecoverInput;
  readonly options: RecoverOptions;
  readonly journal: Journal;
}

async function carryOut(client: pg.Client, { plan, input, options, journal }: Run): Promise<RecoverReport> {
  const { manifest } = plan.backup;
  const { signal, clock } = options;
  const started = clock().getTime();
  const elapsed = (): number => Math.round((clock().getTime() - started) / 1000);
  const { done, resumed, finished } = await takeTarget(client, plan);
  if (finished) return report(plan, input, { applied: true, resumed, journal: journal.file });
  await journal.write({ event: resumed ? 'resumed' : 'begun', backup: manifest.id, sha256: plan.backup.sha256, target: describeTarget(input.into) });
  const once = async (name: string, work: () => Promise<void>): Promise<void> => {
    signal?.throwIfAborted();
    if (done.has(name)) return;
    await work();
    await journal.write({ event: 'step', step: name, afterSeconds: elapsed() });
  };
  const roles = await makeRoles(client, plan.schema);
  const unfilled: string[] = [];
  await makeSchema(client, { plan, options, phase: 'before', done, unfilled });

  const load = (step: string, subjects: RecoveryTier['subjects']): Promise<void> => {
    const of = subjects.reduce((sum, { bytes }) => sum + bytes, 0);
    let loaded = subjects.filter(({ ref }) => done.has(ref)).reduce((sum, { bytes }) => sum + bytes, 0);
    return loadRows({
      url: input.into,
      backup: plan.backup,
      tables: plan.tables,
      subjects,
      done,
      workers: Math.min(workersMax, options.workers ?? workersDefault),
      signal,
      onLoaded: ({ bytes }) => {
        loaded += bytes;
        options.onProgress?.({ step, done: loaded, of, unit: 'bytes' });
      },
    });
  };
  await load('loading the platform', [plan.platform]);
  const times = new Map<Tier, { loaded: number; checked: number; rows: number }>();
  for (const { tier, subjects } of plan.tiers) {
    await load(`loading ${tier} tenants`, subjects);
    times.set(tier, { loaded: elapsed(), checked: 0, rows: 0 });
    await journal.write({ event: 'tier', tier, tenants: subjects.length, loadedAfterSeconds: elapsed() });
  }
  await once('step totals', () => inTransaction(client, 'step totals', async () => void (await checkTotals(client, plan))));
  await once('step fence', () => inTransaction(client, 'step fence', () => fenceAll(client, plan)));
  await once('step sequences', () => inTransaction(client, 'step sequences', () => setSequences(client, manifest.sequences)));
  await makeSchema(client, { plan, options, phase: 'after', done, unfilled });
  await once('step analyze', () => inTransaction(client, 'step analyze', async () => void (await client.query('analyze'))));

  for (const tier of plan.tiers) {
    signal?.throwIfAborted();
    options.onProgress?.({ step: `checking ${tier.tier} tenants`, done: 0, of: tier.subjects.length, unit: 'tenants' });
    const known = times.get(tier.tier);
    const rows = await checkTier(client, plan, tier);
    if (known) times.set(tier.tier, { ...known, checked: elapsed(), rows });
    await journal.write({ event: 'tier', tier: tier.tier, depth: tier.depth, checkedRows: rows, checkedAfterSeconds: elapsed() });
  }
  const findings = options.model ? await wallFindings(input.into, options.model) : null;
  await client.query(`drop schema ${progressSchema} cascade`);
  await journal.write({ event: 'done', afterSeconds: elapsed() });
  return report(plan, input, { applied: true, resumed, roles, times, findings, unfilled, journal: journal.file });
}

interface SchemaRun {
  readonly plan: RecoveryPlan;
  readonly options: RecoverOptions;
  readonly phase: SchemaItem['phase'];
  readonly done: ReadonlySet<string>;
  /** Takes a line for each materialised view that could not be filled: a report of yesterday must not keep a database down. */
  readonly unfilled: string[];
}

async function makeSchema(client: pg.Client, { plan, options, phase, done, unfilled }: SchemaRun): Promise<void> {
  const step = phase === 'before' ? 'making the tables' : 'making keys, indexes and rights';
  const made = new Set([...done].flatMap((item) => (item.startsWith('schema ') ? [item.slice('schema '.length)] : [])));
  await runSchema(client, plan.schema, phase, {
    signal: options.signal,
    made,
    remember: ({ id }) => remember(client, `schema ${id}`),
    onUnfilled: (_, why) => unfilled.push(why),
    onProgress: (at, of) => options.onProgress?.({ step, done: at, of, unit: 'statements' }),
  });
}

async function inTransaction(client: pg.Client, name: string, work: () => Promise<void>): Promise<void> {
  await client.query('begin');
  try {
    await work();
    await remember(client, name);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

/**
 * Before anything that lets somebody in exists. Tenants without a readable subject were erased: nothing of them is left to enter. Those whose
 * tier was left out have no rows here, and no reconciliation lets them in.
 */
async function fenceAll(client: pg.ClientBase, plan: RecoveryPlan): Promise<void> {
  if (!plan.tables.some(({ name }) => name === 'partywall.registry')) return;
  await client.query(settleRestoredSql);
  await client.query(endRolloutSql);
  const ids = (subjects: readonly { readonly tenant: string | null }[]): (string | null)[] => subjects.map(({ tenant }) => tenant);
  const loaded = ids(plan.tiers.flatMap(({ subjects }) => subjects));
  const leftOut = ids(plan.leftOut);
  await client.query('delete from partywall.registry g where g.tenant_id::text <> all ($1::text[])', [[...loaded, ...leftOut]]);
  await client.query(
    `update partywall.registry g set state = 'fenced', reason = ${recoveredReasonSql('$1::text')} where g.tenant_id::text = any ($2::text[])`,
    [plan.backup.manifest.id, loaded],
  );
  await client.query(
    `update partywall.registry g set state = 'fenced', reason = 'left out when the database was restored' where g.tenant_id::text = any ($1::text[])`,
    [leftOut],
  );
}

/** Gives sequences the values that a manifest has. @throws PartywallError archive_damaged */
export async function setSequences(client: pg.ClientBase, sequences: RecoveryPlan['backup']['manifest']['sequences']): Promise<void> {
  for (const { name, last, called } of sequences) {
    const parsed = parseTableName(name);
    if (!parsed) throw new PartywallError('archive_damaged', `setting a sequence: not a name: ${JSON.stringify(name.slice(0, 100))}`);
    await client.query('select pg_catalog.setval($1::regclass, $2::bigint, $3)', [quoted(parsed), last, called]);
  }
}

function checkTier(client: pg.Client, plan: RecoveryPlan, tier: RecoveryTier): Promise<number> {
  switch (tier.depth) {
    case 'full':
      return checkContent(client, plan, tier);
    case 'standard':
      return checkCounts(client, plan, tier);
    case 'basic':
      // The totals of every table were compared when the rows were there.
      return Promise.resolve(tier.subjects.reduce((sum, { rows }) => sum + rows, 0));
  }
}

async function wallFindings(url: string, model: TenancyModel): Promise<number> {
  const { findings } = await verify({ model, adminUrl: url, staticOnly: true });
  return findings.length;
}

interface Outcome {
  readonly applied: boolean;
  readonly resumed?: boolean;
  readonly roles?: readonly MadeRole[];
  readonly times?: ReadonlyMap<Tier, { readonly loaded: number; readonly checked: number; readonly rows: number }>;
  readonly findings?: number | null;
  readonly unfilled?: readonly string[];
  readonly journal?: string;
}

function report(plan: RecoveryPlan, { into }: RecoverInput, outcome: Outcome): RecoverReport {
  const { manifest } = plan.backup;
  return {
    backup: manifest.id,
    at: manifest.at,
    target: describeTarget(into),
    applied: outcome.applied,
    resumed: outcome.resumed ?? false,
    tiers: plan.tiers.map(({ tier, depth, subjects }) => {
      const times = outcome.times?.get(tier);
      return {
        tier,
        depth,
        tenants: subjects.length,
        rows: subjects.reduce((sum, { rows }) => sum + rows, 0),
        bytes: subjects.reduce((sum, { bytes }) => sum + bytes, 0),
        checked: times?.rows ?? null,
        loadedAfterSeconds: times?.loaded ?? null,
        checkedAfterSeconds: times?.checked ?? null,
      };
    }),
    platform: { rows: plan.platform.rows, bytes: plan.platform.bytes },
    leftOut: plan.leftOut.length,
    retired: plan.retired,
    erased: plan.erased,
    roles: outcome.roles ?? [],
    rollout: plan.rollout,
    notes: [...plan.schema.unsupported, ...manifest.left, ...(outcome.unfilled ?? [])],
    findings: outcome.findings ?? null,
    journal: outcome.journal ?? null,
  };
}
