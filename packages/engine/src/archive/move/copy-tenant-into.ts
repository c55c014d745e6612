import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { setApplicationPath } from '../../db/application-path.ts';
import type { Operation } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import { erasurePlan } from '../../tenants/erase/erasure-plan.ts';
import { findConflicts } from '../../tenants/transfer/conflicts.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { restoringSetting } from '../../tenants/transfer/restoring-sql.ts';
import { raiseSequences } from '../../tenants/transfer/sequences.ts';
import { inTransfer, pinTexts } from '../../tenants/transfer/session.ts';
import type { TransferTable } from '../../tenants/transfer/tables.ts';
import { tenantLockPrefix } from '../../wall/runtime.ts';
import type { CloneIdentity } from '../clone/fill-sql.ts';
import { type Insertion, insertRows, removeStrangers } from '../clone/insert-rows.ts';
import type { CloneTable } from '../clone/plan-clone.ts';
import { holdEqual, holdNeighbours, takeBaseline } from '../clone/prove-clone.ts';
import { refusedByRows } from '../clone/refused-by-rows.ts';
import { sourceTables } from '../live-source.ts';
import { alignSource } from '../restore/align.ts';
import { stageSource } from '../restore/stage-source.ts';
import type { TenantSource } from '../tenant-source.ts';
import { type ControlRows, writeControlRows } from './control-rows.ts';
import { bringForeignRows, type ForeignReader } from './foreign-rows.ts';
import { planCopy } from './plan-copy.ts';

export interface CopyInput {
  /** What the registry says of the tenant afterwards. Only `active` and `read_only` let anybody in. */
  readonly state: string;
  readonly reason: string | null;
  /** What the directory says of the tenant: that of the database it comes from. */
  readonly directory?: DirectoryEntry | undefined;
  /** What the control plane of the database it comes from has decided about it (`readControlRows`). */
  readonly control?: ControlRows | undefined;
  /** Reads what rows of the tenant refer to in the database they come from. */
  readonly read?: ForeignReader | undefined;
  /** Asked last, before the copy is committed; throws where it is not wanted any more. */
  readonly confirm?: (() => Promise<void>) | undefined;
  readonly onProgress?: ((progress: { readonly table: string; readonly rows: number }) => void) | undefined;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly contactEmail: string | null;
  readonly plan: string;
  readonly status: string;
  readonly reason: string | null;
  readonly retainedUntil: Date | null;
  /** What the root's own status column says again once the tenant is let in. */
  readonly rootStatus: string | null;
}

export interface CopyReport {
  readonly tenant: string;
  readonly rows: number;
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
  /** Rows of no tenant that came along, because the tenant's refer to them. */
  readonly brought: readonly { readonly table: string; readonly rows: number }[];
}

/**
 * Writes a tenant, with the ids it has, into another database that has the schema, the wall and the control plane already. The tenant must not be
 * there, but for its entry: the root's row of a tenant that is placed elsewhere. One transaction: shared rows that it refers to are compared first and
 * brought where they are missing, sequences go beyond what has come, and rows, counts and neighbours are proved before it commits.
 *
 * @param operation in the database that is written
 * @throws PartywallError restore_conflict (each line names rows or columns), move_refused (the tenant is at home there), transfers_busy
 */
export async function copyTenantInto(operation: Operation, source: TenantSource, input: CopyInput): Promise<CopyReport> {
  try {
    return await inTransfer(operation.database, (client) => copy(client, { operation, source, input }));
  } catch (error) {
    throw refusedByRows(error, `copying tenant ${source.tenant}`);
  }
}

interface Copying {
  readonly operation: Operation;
  readonly source: TenantSource;
  readonly input: CopyInput;
}

async function copy(client: pg.PoolClient, copying: Copying): Promise<CopyReport> {
  const { operation, source, input } = copying;
  const { model } = operation.database;
  const { tenant } = source;
  const catalog = await readCatalog(client);
  await client.query('begin isolation level read committed');
  await client.query("set local lock_timeout = '15s'");
  await client.query('select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))', [`${tenantLockPrefix}${tenant}`]);
  await pinTexts(client);
  const live = await sourceTables(client, model, catalog);
  const plan = decide(source, live, copying);
  const staged = await stageSource(client, { tenant, source, tables: plan.aligned, signal: operation.signal, onTable: input.onProgress });
  await client.query(setApplicationPath(model));
  await client.query(`select set_config('${restoringSetting}', 'on', true)`);
  const entry = await entryOf(client, copying, staged);
  const brought = await bringForeignRows(client, { catalog, staged, read: input.read });
  const conflicts = [...brought.conflicts, ...(await findConflicts(client, { tenant, catalog, tables: staged }))];
  if (conflicts.length > 0) throw new PartywallError('restore_conflict', `copying tenant ${tenant}: ${conflicts[0]}`, { details: conflicts });

  const baseline = await takeBaseline(client, erasurePlan(model, catalog));
  await addPlan(client, input.directory?.plan);
  const identity: CloneIdentity = { source: tenant, key: tenant, suffix: '', profile: { name: null, slug: null, plan: null, contactEmail: null } };
  const insertion: Insertion = {
    tables: plan.tables,
    staged: entry ? staged.filter(({ isRoot }) => !isRoot) : staged,
    maps: [],
    identity,
    signal: operation.signal,
    onProgress: input.onProgress,
  };
  const inserted = await insertRows(client, insertion);
  if (entry) inserted.set(model.tenant.table, { rows: 0, updated: await updateRoot(client, staged) });
  await removeStrangers(client, insertion);
  await raiseSequences(client, catalog, staged);
  // Plan and increases before quotas are looked at, which is when constraints are.
  await enlist(client, copying);
  await client.query('set constraints all immediate');
  await holdEqual(client, plan.tables, { staged, maps: [], source: tenant, key: tenant });
  await holdNeighbours(client, baseline, { tenant, meant: inserted });
  const tables = staged.map(({ relation, rows }) => ({ table: relation.table, rows }));
  const report = {
    tenant,
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    tables,
    brought: [...brought.copied].map(([table, rows]) => ({ table, rows })),
  };
  await appendAudit(client, operation, {
    tenant,
    action: 'tenant.copied',
    details: { from: source.description, at: source.at.toISOString(), rows: report.rows, brought: Object.fromEntries(brought.copied) },
  });
  await input.confirm?.();
  const { command } = await client.query('commit');
  if (command !== 'COMMIT') throw new Error('the copy was rolled back where it should have been committed');
  return report;
}

function decide(
  source: TenantSource,
  live: readonly TransferTable[],
  { operation }: Copying,
): { tables: readonly CloneTable[]; aligned: Parameters<typeof stageSource>[1]['tables'] } {
  const alignment = alignSource(source.tables, live, operation.database.model);
  const plan = planCopy(live, alignment);
  if (plan.problems.length > 0) {
    throw new PartywallError('restore_conflict', `copying tenant ${source.tenant}: ${plan.problems[0]}`, { details: plan.problems });
  }
  return { tables: plan.tables, aligned: alignment.tables };
}

/** Whether the tenant has an entry. @throws PartywallError move_refused where it is at home, or has rows */
async function entryOf(client: pg.ClientBase, { operation, source }: Copying, staged: readonly StagedTable[]): Promise<boolean> {
  const { model } = operation.database;
  const refuse = (why: string): PartywallError => new PartywallError('move_refused', `copying tenant ${source.tenant}: ${why}`);
  const { rows } = await client.query<{ state: string; placement: string | null }>(
    'select g.state, g.placement from partywall.registry g where g.tenant_id::text = $1 for update',
    [source.tenant],
  );
  const [registered] = rows;
  if (!registered) return false;
  if (registered.placement === null && registered.state !== 'fenced') throw refuse('it is at home in that database');
  for (const { relation, isRoot, tenantColumn } of staged) {
    if (isRoot) continue;
    const { rowCount } = await client.query(`select from ${quoted(relation.table)} t where t.${ident(tenantColumn)}::text = $1 limit 1`, [source.tenant]);
    if (rowCount !== 0) throw refuse(`rows of it are left in ${relation.table} of that database`);
  }
  const { rowCount } = await client.query(`select from ${quoted(model.tenant.table)} r where r.${ident(model.tenant.key)}::text = $1`, [source.tenant]);
  return rowCount === 1;
}

async function updateRoot(client: pg.ClientBase, staged: readonly StagedTable[]): Promise<number> {
  const root = staged.find(({ isRoot }) => isRoot);
  const [key] = root?.key ?? [];
  if (!root || key === undefined) return 0;
  const settable = root.columns.filter(({ name, alwaysIdentity }) => name !== key && !alwaysIdentity);
  if (settable.length === 0) return 0;
  const set = settable.map(({ name }) => `${ident(name)} = s.${ident(name)}`).join(', ');
  const { rowCount } = await client.query(`update ${quoted(root.relation.table)} t set ${set} from ${root.stage} s where t.${ident(key)} = s.${ident(key)}`);
  return rowCount ?? 0;
}

/** A plan of that name stays as it is. */
async function addPlan(client: pg.ClientBase, plan: string | undefined): Promise<void> {
  if (plan === undefined) return;
  const { rowCount } = await client.query('select from partywall_control.plans p where p.name = $1', [plan]);
  if (rowCount === 0) {
    throw new PartywallError('plan_unknown', `copying a tenant: the other database has no plan ${JSON.stringify(plan)}`, {
      hint: 'make the plan there too: `partywall plans set`',
    });
  }
}

/** Registry and directory, which triggers have made or changed by now. */
async function enlist(client: pg.ClientBase, { source, input }: Copying): Promise<void> {
  const { rowCount } = await client.query('update partywall.registry g set state = $2, reason = $3, placement = null where g.tenant_id::text = $1', [
    source.tenant,
    input.state,
    input.reason,
  ]);
  if (rowCount !== 1)
    throw new PartywallError('restore_conflict', `copying tenant ${source.tenant}: it did not register itself; \`partywall verify\` says why`);
  const { directory, control } = input;
  if (directory) {
    await client.query(
      'update partywall_control.directory d set name = $2, contact_email = $3, plan = $4, status = $5, reason = $6, retained_until = $7, root_status = $8 where d.tenant_id = $1',
      [
        source.tenant,
        directory.name,
        directory.contactEmail,
        directory.plan,
        directory.status,
        directory.reason,
        directory.retainedUntil,
        directory.rootStatus,
      ],
    );
  }
  if (control) await writeControlRows(client, source.tenant, control);
}

/** Rows that a copy needs of the database that the tenant comes from. */
export async function readDirectory({ database }: Operation, tenant: string): Promise<DirectoryEntry> {
  const { rows } = await database.pool.query<DirectoryEntry>(
    `select d.name, d.contact_email as "contactEmail", d.plan, d.status, d.reason, d.retained_until as "retainedUntil", d.root_status as "rootStatus" from partywall_control.directory d where d.tenant_id = $1`,
    [tenant],
  );
  const entry = rows[0];
  if (!entry) throw new PartywallError('tenant_unknown', `looking for tenant ${tenant.slice(0, 100)}: there is none`);
  return entry;
}
