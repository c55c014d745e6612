import { createHash } from 'node:crypto';
import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { setApplicationPath } from '../../db/application-path.ts';
import type { Operation } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { quoted } from '../../model/table-name.ts';
import { erasurePlan } from '../../tenants/erase/erasure-plan.ts';
import { type FirstAdmin, insertAppPerson, insertSignIn } from '../../tenants/first-admin.ts';
import { freeSlug, refuseUnknownPlan } from '../../tenants/provision.ts';
import { provisionKey } from '../../tenants/provision-names.ts';
import { triggersOf } from '../../tenants/transfer/changes.ts';
import type { StagedTable } from '../../tenants/transfer/difference-sql.ts';
import { restoringSetting } from '../../tenants/transfer/restoring-sql.ts';
import { inTransfer, pinTexts } from '../../tenants/transfer/session.ts';
import { sourceTables } from '../live-source.ts';
import { alignSource } from '../restore/align.ts';
import { stageSource } from '../restore/stage-source.ts';
import type { TenantSource } from '../tenant-source.ts';
import { describeFill } from './describe-fill.ts';
import { type CloneIdentity, madeSql, newIdsFunction, newSuffix } from './fill-sql.ts';
import { findHiddenIds } from './hidden-ids.ts';
import { type IdMap, makeIdMaps, mapOf } from './id-maps.ts';
import { type Inserted, type Insertion, insertRows, removeStrangers } from './insert-rows.ts';
import { type ClonePlan, planClone } from './plan-clone.ts';
import { holdEqual, holdNeighbours, takeBaseline } from './prove-clone.ts';
import { refusedByRows } from './refused-by-rows.ts';
import { readUniques } from './unique-facts.ts';

export interface CloneInput {
  /** Of the new tenant. */
  readonly name: string;
  /** Default: that of the source. */
  readonly plan?: string | undefined;
  /** Default: that of the source. */
  readonly contactEmail?: string | undefined;
  /** Who signs in to the clone first; without, nobody does until somebody is appointed. */
  readonly admin?: FirstAdmin | undefined;
  /** Reads, plans and searches, and writes nothing. */
  readonly dryRun?: boolean | undefined;
}

export interface CloneOptions {
  readonly onProgress?: (progress: { readonly step: 'reading' | 'writing'; readonly table: string; readonly rows: number }) => void;
}

export interface CloneReport {
  readonly source: string;
  /** What was read: `the live database`, `backup 20261121t020000z-1f2e3d4c`. */
  readonly from: string;
  /** Of the new tenant; null where nothing was written. */
  readonly tenant: string | null;
  /** False where the same request had made the clone before, or nothing was written. */
  readonly created: boolean;
  readonly tables: readonly {
    readonly table: string;
    readonly rows: number;
    /** Columns that are not simply kept. */
    readonly filled: readonly { readonly column: string; readonly how: string }[];
  }[];
  /** What a person should look at: ids that no reference follows, columns that differ from the source's. */
  readonly notes: readonly string[];
  /** Triggers of the application that fire. */
  readonly triggers: readonly string[];
}

/**
 * Makes a new tenant with the rows of another, from the live database or a backup: new ids, references that follow, everything that may be there
 * once filled by the model's rules. One transaction, so nobody sees half a clone and a crash leaves none; before it commits, counts, a hash with the
 * ids taken back, and the server's own row counters prove that the clone is whole and that no other tenant was touched.
 *
 * Asking again with the same name and source finds the clone that the first one made.
 *
 * @throws PartywallError restore_conflict (undecided columns, each named; a constraint or quota refuses), tenant_exists, plan_unknown,
 * transfers_busy, and what the source throws
 */
export async function cloneTenant(operation: Operation, source: TenantSource, input: CloneInput, options: CloneOptions = {}): Promise<CloneReport> {
  if (provisionKey(input.name) === '') throw new PartywallError('input_invalid', 'reading the name of the clone: it is empty');
  try {
    return await inTransfer(operation.database, (client) => clone(client, { operation, source, input, options }));
  } catch (error) {
    throw refusedByRows(error, `cloning tenant ${source.tenant}`);
  }
}

interface Cloning {
  readonly operation: Operation;
  readonly source: TenantSource;
  readonly input: CloneInput;
  readonly options: CloneOptions;
}

async function clone(client: pg.PoolClient, cloning: Cloning): Promise<CloneReport> {
  const { operation, source, input, options } = cloning;
  const { model } = operation.database;
  const { signal } = operation;
  const catalog = await readCatalog(client);
  await client.query('begin isolation level read committed');
  await pinTexts(client);
  const known = await findClone(client, cloning);
  const { plan, aligned } = await decide(client, cloning, catalog);
  const report = (staged: readonly StagedTable[], hidden: readonly string[]): Omit<CloneReport, 'tenant' | 'created'> => ({
    source: source.tenant,
    from: source.description,
    tables: plan.tables.map(({ table, rows, columns }) => ({
      table: table.relation.table,
      rows,
      filled: columns.flatMap(({ name, fill }) => (fill.kind === 'kept' ? [] : [{ column: name, how: describeFill(fill) }])),
    })),
    notes: [...plan.notes, ...hidden],
    triggers: staged.flatMap(triggersOf),
  });
  if (known !== undefined && !input.dryRun) {
    await client.query('rollback');
    return { ...report([], []), tenant: known, created: false };
  }
  if (plan.undecided.length > 0) {
    throw new PartywallError('restore_conflict', `cloning tenant ${source.tenant}: ${plan.undecided[0]}`, {
      details: plan.undecided,
      hint: 'say in `clone` of partywall.config.ts how each listed column is filled',
    });
  }
  const staged = await stageSource(client, {
    tenant: source.tenant,
    source,
    tables: aligned,
    signal,
    onTable: (progress) => options.onProgress?.({ step: 'reading', ...progress }),
  });
  await client.query(setApplicationPath(model));
  const named = await identify(client, cloning);
  const made = (column: Parameters<typeof madeSql>[0]): string => (input.dryRun ? `null::${column.type}` : madeSql(column, named));
  const maps = await makeIdMaps(client, plan.tables, staged, made);
  const hidden = await findHiddenIds(client, plan.tables, staged, maps);
  if (input.dryRun) {
    await client.query('rollback');
    return { ...report(staged, hidden), tenant: null, created: false };
  }
  const key = await rootKey(client, maps, { cloning, identity: named });
  const identity = { ...named, key };
  const baseline = await takeBaseline(client, erasurePlan(model, catalog));
  const inserted = await write(client, {
    tables: plan.tables,
    staged,
    maps,
    identity,
    leave: await leftColumns(client, cloning, staged),
    signal,
    onProgress: (progress) => options.onProgress?.({ step: 'writing', ...progress }),
  });
  await enlist(client, cloning, identity);
  await holdEqual(client, plan.tables, { staged, maps, source: source.tenant, key });
  await holdNeighbours(client, baseline, { tenant: key, meant: inserted });
  await appoint(client, cloning, identity);
  await record(client, cloning, { key, inserted });
  const { command } = await client.query('commit');
  if (command !== 'COMMIT') throw new Error('the clone was rolled back where it should have been committed');
  return { ...report(staged, hidden), tenant: key, created: true };
}

async function decide(client: pg.ClientBase, { operation, source }: Cloning, catalog: Catalog) {
  const { model } = operation.database;
  const live = await sourceTables(client, model, catalog);
  const alignment = alignSource(source.tables, live, model);
  const uniques = await readUniques(
    client,
    live.map(({ relation }) => relation),
  );
  const plan: ClonePlan = planClone({ model, catalog, live, uniques, alignment });
  return { plan, aligned: alignment.tables };
}

/** @throws PartywallError plan_unknown, tenant_exists */
async function identify(client: pg.ClientBase, { operation, source, input }: Cloning): Promise<CloneIdentity> {
  const { rows } = await client.query<{ plan: string; contact_email: string | null }>(
    'select d.plan, d.contact_email from partywall_control.directory d where d.tenant_id = $1',
    [source.tenant],
  );
  const plan = input.plan ?? rows[0]?.plan;
  if (plan === undefined)
    throw new PartywallError('plan_unknown', `cloning tenant ${source.tenant}: it is not here any more, so say which plan the clone gets`);
  await refuseUnknownPlan(client, plan);
  const slug = await freeSlug(client, operation.database.model, input.name, false);
  const contactEmail = input.contactEmail ?? rows[0]?.contact_email ?? null;
  return { source: source.tenant, key: undefined, profile: { name: input.name.trim(), slug, plan, contactEmail }, suffix: newSuffix() };
}

/** The key of the clone: made with the other ids, or for roots that are known by their name, the slug. */
async function rootKey(client: pg.ClientBase, maps: readonly IdMap[], { cloning, identity }: { cloning: Cloning; identity: CloneIdentity }): Promise<string> {
  const { table, key } = cloning.operation.database.model.tenant;
  const map = mapOf(maps, table, key);
  if (!map) return identity.profile.slug ?? '';
  const { rows } = await client.query<{ key: string }>(`select m.new::text as key from ${map.name} m`);
  return rows[0]?.key ?? '';
}

/** A status that keeps the source out is left to its default. */
async function leftColumns(client: pg.ClientBase, { operation }: Cloning, staged: readonly StagedTable[]): Promise<Set<string>> {
  const { status } = operation.database.model.tenant;
  const root = staged.find(({ isRoot }) => isRoot);
  if (!status || !root?.columns.some(({ name }) => name === status.column)) return new Set();
  const { rows } = await client.query<{ value: string | null }>(`select s.${ident(status.column)}::text as value from ${root.stage} s`);
  const means = status.values[rows[0]?.value ?? ''];
  return new Set(means === undefined || means === 'active' ? [] : [status.column]);
}

async function write(client: pg.ClientBase, insertion: Insertion): Promise<Map<string, Inserted>> {
  // Triggers of the application may look at it, and those of the control plane keep each row as it was read.
  await client.query(`select set_config('${restoringSetting}', 'on', true)`);
  if (insertion.tables.some(({ columns }) => columns.some(({ fill }) => fill.kind === 'rule' && fill.rule.kind === 'ids'))) await client.query(newIdsFunction);
  const inserted = await insertRows(client, insertion);
  await removeStrangers(client, insertion);
  await client.query('set constraints all immediate');
  await client.query(`select set_config('${restoringSetting}', 'off', true)`);
  return inserted;
}

/** Completes the row that the registry's trigger put into the directory. */
async function enlist(client: pg.ClientBase, cloning: Cloning, { key, profile }: CloneIdentity): Promise<void> {
  const { rowCount } = await client.query(
    'update partywall_control.directory d set name = $2, contact_email = $3, plan = $4, provision_key = $5, provision_hash = $6 where d.tenant_id = $1',
    [key, profile.name, profile.contactEmail, profile.plan, provisionKey(cloning.input.name), contentHash(cloning)],
  );
  if (rowCount !== 1) throw new PartywallError('restore_conflict', 'cloning a tenant: it did not register itself; `partywall verify` says why');
}

/** The first admin signs in, and is among the application's people unless the copied ones have that address. */
async function appoint(client: pg.ClientBase, { operation, input }: Cloning, { key, profile }: CloneIdentity): Promise<void> {
  const { admin } = input;
  if (!admin || key === undefined) return;
  const { model } = operation.database;
  await insertSignIn(client, { id: key, name: profile.name ?? key, slug: profile.slug ?? key }, admin);
  const rule = model.people && model.tables.get(model.people.table);
  if (!model.people || rule?.scope !== 'scoped') return;
  const { rowCount } = await client.query(
    `select from ${quoted(model.people.table)} p where p.${ident(rule.column)} = $1 and lower(p.${ident(model.people.email)}::text) = lower($2) limit 1`,
    [key, admin.adminEmail],
  );
  if (rowCount === 0) await insertAppPerson(client, model, key, { name: admin.adminName, email: admin.adminEmail });
}

/** In both chains: a tenant's rows have been read, and another has come. */
async function record(
  client: pg.ClientBase,
  { operation, source, input }: Cloning,
  done: { key: string; inserted: ReadonlyMap<string, Inserted> },
): Promise<void> {
  const rows = Object.fromEntries([...done.inserted].map(([table, { rows: count }]) => [table, count]));
  const { rowCount } = await client.query('select from partywall_control.directory d where d.tenant_id = $1', [source.tenant]);
  if (rowCount) await appendAudit(client, operation, { tenant: source.tenant, action: 'tenant.cloned', details: { into: done.key, from: source.description } });
  await appendAudit(client, operation, {
    tenant: done.key,
    action: 'tenant.clone',
    details: { source: source.tenant, from: source.description, at: source.at.toISOString(), rows, ...(input.admin && { admin: true }) },
  });
}

/** The clone that the same request made before. @throws PartywallError tenant_exists */
async function findClone(client: pg.ClientBase, cloning: Cloning): Promise<string | undefined> {
  const key = provisionKey(cloning.input.name);
  if (!cloning.input.dryRun) await client.query("select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('partywall:provision:' || $1, 0))", [key]);
  const { rows } = await client.query<{ id: string; same: boolean }>(
    "select d.tenant_id as id, d.provision_hash = $2 and d.status = 'active' as same from partywall_control.directory d where d.provision_key = $1",
    [key, contentHash(cloning)],
  );
  const found = rows[0];
  if (!found || found.same) return found?.id;
  throw new PartywallError('tenant_exists', `cloning tenant ${cloning.source.tenant}: there is a tenant of the name ${JSON.stringify(cloning.input.name)}`, {
    extra: { tenant: found.id },
  });
}

/** All that was asked for; two moments of the live database are the same request. */
function contentHash({ source, input }: Cloning): Buffer {
  const asked = ['clone', source.tenant, source.description, provisionKey(input.name), input.plan, input.contactEmail, input.admin?.adminEmail.toLowerCase()];
  return createHash('sha256')
    .update(JSON.stringify(asked.map((part) => part ?? null)))
    .digest();
}
