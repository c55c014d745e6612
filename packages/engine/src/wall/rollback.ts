import type pg from 'pg';
import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { connect, sqlState } from '../db/connect.ts';
import { ident, literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { takeApplyLock } from './apply-lock.ts';
import { adoptTriggers, deriveTrigger, eventTriggerName, isInstalled, registerTriggerName, truncateTriggerName } from './derive-sql.ts';
import { addedFact, setFact } from './facts.ts';
import { isWallName } from './names.ts';
import type { WallStep } from './plan.ts';
import { bootstrapTenant, inSchema, transaction } from './plan-expand.ts';
import { refuseUnprivileged } from './privileges.ts';
import { forget, replacedThings } from './replaced.ts';
import { restoreSteps } from './restore.ts';
import { prepareSession, runStep } from './run-step.ts';
import { observePolicyName, observingFact } from './runtime/rollout-sql.ts';
import { tenantDefault, type WantedTable, type WantedWall, wantedWall } from './shape.ts';

/**
 * Takes the wall down, last thing first. `expanded` ends enforcement: row level security, policies, composite keys and per-tenant
 * uniques go, what they replaced comes back. `nothing` also removes what Partywall added: columns, triggers, schema.
 */
export interface RollbackOptions {
  readonly url: string;
  readonly model: TenancyModel;
  readonly to: 'expanded' | 'nothing';
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (step: WallStep, at: number, of: number) => void;
}

export interface RollbackReport {
  readonly steps: readonly WallStep[];
  readonly applied: readonly string[];
  /** What is still there afterwards, and why. */
  readonly stays: readonly string[];
}

/** Plans are made again after each round; a second one is needed only where another session changed something meanwhile. */
const roundsMax = 5;

/**
 * Running it again after a kill completes it; running it again on what it left does nothing.
 *
 * @throws PartywallError phase_refused when a per-tenant value would break a global unique that must come back, when something outside
 * depends on what would go, when the control plane is installed and `nothing` is to stay, or when an apply is running; permission_missing; what
 * `connect` throws
 */
export async function rollbackWall(options: RollbackOptions): Promise<RollbackReport> {
  const client = await connect(options.url, { purpose: 'rollback' });
  try {
    if (!options.dryRun) await takeApplyLock(client, 'rollback');
    if (options.to === 'nothing') await refuseUnderControl(client);
    const catalog = await readCatalog(client);
    const first = planRollback(options.model, catalog, options.to);
    const stays = whatStays(options.model, catalog, options.to);
    const applied: string[] = [];
    if (options.dryRun) return { steps: first, applied, stays };
    if (first.length > 0) await refuseUnprivileged(client, catalog, options.model, { url: options.url, purpose: 'rollback' });
    await prepareSession(client);
    let steps = first;
    for (let round = 1; steps.length > 0; round += 1) {
      if (round > roundsMax) throw new Error(`rolling back: these steps do not take effect: ${steps.map((step) => step.id).join(', ')}`);
      for (const [at, step] of steps.entries()) {
        options.onProgress?.(step, at + 1, steps.length);
        await runOrExplain(step, client, options);
        applied.push(step.id);
      }
      steps = planRollback(options.model, await readCatalog(client), options.to);
    }
    return { steps: first, applied, stays };
  } finally {
    await client.end();
  }
}

/**
 * The control plane stands on the wall's registry, and its triggers are on the application's tables. It holds what nothing else does: who people are,
 * the audit chain, certificates of erasure. So it is not swept away with the wall.
 */
async function refuseUnderControl(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>("select to_regnamespace('partywall_control') is not null as there");
  if (!rows[0]?.there) return;
  throw new PartywallError('phase_refused', 'rolling back to nothing: the control plane is installed, with people, audit records and certificates', {
    hint: 'keep what you need of it, then `drop schema partywall_control, partywall_people cascade`, and run this again',
  });
}

/** Enforcement ends first, then an application without a context can write again, then what was replaced returns; last, if asked, what was added goes. */
export function planRollback(model: TenancyModel, catalog: Catalog, to: RollbackOptions['to']): WallStep[] {
  // Without its registry the schema holds what a rollback leaves: the quarantine.
  if (catalog.runtime?.keyType === undefined) return [];
  const wanted = wantedWall(model, catalog);
  const steps = [...openSteps(catalog), ...sourceSteps(model, catalog, wanted, to), ...restoreSteps(catalog)];
  if (catalog.runtime.facts?.['phase'] === 'contract') {
    steps.push(
      step('rollback/phase', undefined, 'record that the wall is down', 'walled pools stop requiring row level security', [
        setFact('phase', 'expand'),
        "delete from partywall.facts where name = 'walled_tables'",
      ]),
    );
  }
  return [...steps, ...(to === 'expanded' ? watchSteps(catalog) : removeSteps(model, catalog))];
}

function openSteps(catalog: Catalog): WallStep[] {
  const steps: WallStep[] = [];
  if (catalog.eventTriggers.some(({ name }) => name === eventTriggerName)) {
    steps.push(
      step('rollback/new-tables', undefined, 'leave tables to come alone', 'the wall no longer holds', [
        `drop event trigger ${eventTriggerName}`,
        'drop function if exists partywall.new_tables()',
      ]),
    );
  }
  const before = new Map(replacedThings(catalog).flatMap((replaced) => (replaced.kind === 'row security' ? [[replaced.table, replaced] as const] : [])));
  for (const relation of catalog.relations.values()) {
    const ours = relation.policies.filter((policy) => policy.name.startsWith('partywall_'));
    const replaced = before.get(relation.table);
    if (ours.length === 0 && !replaced) continue;
    const name = quoted(relation.table);
    steps.push(
      step(`rollback/policy/${relation.table}`, relation.table, 'lift the policy', 'enforcement ends', [
        ...ours.map((policy) => `drop policy ${ident(policy.name)} on ${name}`),
        ...(replaced?.definition.includes('forced') ? [] : [`alter table ${name} no force row level security`]),
        ...(replaced?.definition.includes('enabled') ? [] : [`alter table ${name} disable row level security`]),
        ...(replaced ? [forget(replaced)] : []),
        ...(ours.some(({ name }) => name === observePolicyName) ? [removeTableMode(relation)] : []),
      ]),
    );
  }
  return steps;
}

/**
 * The modes of tenants stay, and what they need: an application that is observed goes on as it is, where without a mode its processes would begin to
 * refuse what has no context. Where nobody is observed, writes were logged for tables that were open, and none is any more.
 */
function watchSteps(catalog: Catalog): WallStep[] {
  if (isObserving(catalog)) return [];
  return [...catalog.relations.values()].flatMap((relation) => {
    const triggers = relation.isPartition ? [] : relation.triggers.filter(({ name }) => isWallName(name, ['observe']));
    if (triggers.length === 0) return [];
    const drops = triggers.map(({ name }) => `drop trigger if exists ${ident(name)} on ${quoted(relation.table)}`);
    return [step(`rollback/watch/${relation.table}`, relation.table, 'stop logging writes', 'nobody is observed', drops)];
  });
}

function isObserving(catalog: Catalog): boolean {
  return catalog.runtime?.facts?.[observingFact] === true;
}

/** With the policy that opened the table; a table that is not walled cannot be open. */
function removeTableMode({ schema, name }: Relation): string {
  return `delete from partywall.rollout where scope = 'table' and target = ${literal(`${schema}.${name}`)}`;
}

/** New rows get their tenant from their parent again, or need none; the context's default would refuse an application without one. */
function sourceSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall, to: RollbackOptions['to']): WallStep[] {
  const changed = replacedThings(catalog).filter(({ kind }) => kind === 'nullable column' || kind === 'column default');
  return [...catalog.relations.values()].flatMap((relation) => {
    const name = quoted(relation.table);
    const table = wanted.tables.get(relation.table);
    const replaced = changed.filter((candidate) => candidate.table === relation.table);
    const statements = [
      ...(table && to === 'expanded' ? deriveStatements(model, catalog, table, wanted) : []),
      ...contextDefaults(relation).map((column) => `alter table ${name} alter column ${ident(column)} drop default`),
      ...replaced.flatMap((column) => [
        column.kind === 'nullable column'
          ? `alter table ${name} alter column ${ident(column.name)} drop not null`
          : `alter table ${name} alter column ${ident(column.name)} set default ${column.definition}`,
        forget(column),
      ]),
      ...relation.constraints
        .filter((constraint) => isWallName(constraint.name, ['root', 'check', 'fk']) && !constraint.inherited)
        .map((constraint) => `alter table ${name} drop constraint if exists ${ident(constraint.name)}`),
    ];
    if (statements.length === 0) return [];
    const reason = 'an application without a context keeps inserting';
    return [step(`rollback/source/${relation.table}`, relation.table, 'let rows in without a context again', reason, statements)];
  });
}

/** Columns whose default is the context; a partition's or child's goes with its parent's. */
function contextDefaults(relation: Relation): string[] {
  return relation.columns.filter((column) => column.default === tenantDefault && column.local && !relation.isPartition).map((column) => column.name);
}

function deriveStatements(model: TenancyModel, catalog: Catalog, table: WantedTable, wanted: WantedWall): string[] {
  const { rule, relation } = table;
  if (!rule?.added || rule.paths.length === 0 || relation.isPartition || !columnOf(relation, table.column)) return [];
  return [deriveTrigger(table, rule, wanted, bootstrapTenant(model, catalog, wanted)), ...adoptTriggers(table, rule, wanted)]
    .filter((trigger) => !isInstalled(trigger, catalog))
    .flatMap((trigger) => trigger.statements);
}

function removeSteps(model: TenancyModel, catalog: Catalog): WallStep[] {
  const relations = [...catalog.relations.values()];
  // All triggers before any column: a column goes from inheritance children too, and a trigger may write into another table's.
  const triggers = relations.flatMap((relation) => {
    // A partition's triggers and attached indexes go with its parent's.
    const ours = relation.isPartition ? [] : relation.triggers.filter((trigger) => isWallName(trigger.name, ['derive', 'adopt', 'observe']));
    return ours.length === 0
      ? []
      : [
          removal(
            'triggers',
            relation,
            ours.map((trigger) => `drop trigger if exists ${ident(trigger.name)} on ${quoted(relation.table)}`),
          ),
        ];
  });
  const columns = relations.flatMap((relation) => {
    const added = catalog.runtime?.facts?.[addedFact(relation)];
    const statements = [
      ...relation.indexes
        .filter((index) => isWallName(index.name) && !index.attachedTo)
        .map((index) => `drop index if exists ${inSchema(relation, index.name)}`),
      ...(typeof added === 'string' && columnOf(relation, added) ? [`alter table ${quoted(relation.table)} drop column ${ident(added)}`] : []),
    ];
    return statements.length === 0 ? [] : [removal('columns', relation, statements)];
  });
  const root = catalog.relations.get(model.tenant.table);
  const registers = root?.triggers.filter(({ name }) => name === registerTriggerName || name === truncateTriggerName) ?? [];
  const runtime = step('rollback/runtime', model.tenant.table, 'remove schema partywall', 'nothing refers to it any more; rows taken aside stay', [
    ...registers.map(({ name }) => `drop trigger ${name} on ${quoted(model.tenant.table)}`),
    dropRuntime,
  ]);
  return [...triggers, ...columns, runtime];
}

function removal(what: 'triggers' | 'columns', relation: Relation, statements: readonly string[]): WallStep {
  return step(`rollback/${what}/${relation.table}`, relation.table, `remove the ${what} of expand`, 'expand added them', statements);
}

/**
 * Drops schema partywall, or all of it but the quarantine, which holds the only copy of its rows. Never by CASCADE: that would take
 * along what others made to depend on it. What depends on each other inside goes in as many turns as it takes.
 */
const dropRuntime = `do $pw$
declare
  item record;
  dropped boolean := true;
  keeps boolean := to_regclass('partywall.quarantine') is not null;
begin
  while dropped loop
    dropped := false;
    -- By name: of what an earlier drop took along, regclass would give the number.
    for item in
      select format('drop %s partywall.%I', case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.relname) as statement
        from pg_class c where c.relnamespace = 'partywall'::regnamespace and c.relkind in ('r', 'v', 'S') and c.relname not in ('quarantine', 'quarantine_id_seq')
      union all
      select format('drop function partywall.%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) from pg_proc p where p.pronamespace = 'partywall'::regnamespace and not (keeps and p.proname = 'put_back')
    loop
      begin
        execute item.statement;
        dropped := true;
      exception
        when dependent_objects_still_exist or undefined_table or undefined_function then null;
      end;
    end loop;
  end loop;
  -- What is left depends on something outside; dropping it once more says on what.
  if item.statement is not null then execute item.statement; end if;
  if not keeps then drop schema partywall; end if;
end $pw$`;

function whatStays(model: TenancyModel, catalog: Catalog, to: RollbackOptions['to']): string[] {
  if (!catalog.runtime) return ['nothing of the wall was there'];
  const { app, system, service, operator } = model.roles;
  const roles = [app, system, service, operator].filter((role) => role !== undefined && catalog.roles.has(role));
  const stays = [`roles ${roles.join(', ')} and their grants: other databases may use them; revoke and drop them by hand when nobody connects as them`];
  stays.push('revoked grants and default privileges: they reached around the wall and are not given back');
  if (catalog.runtime.facts?.['quarantined'] !== undefined || catalog.runtime.keyType === undefined)
    stays.push('partywall.quarantine: rows taken aside, the only copy of them');
  if (to === 'expanded' && isObserving(catalog)) {
    stays.push(
      'modes of the roll-out, and the triggers that log what the wall would refuse: without a mode processes refuse what has no context; `partywall rollout enforce` ends both',
    );
  }
  if (to === 'expanded') stays.push('tenant columns with their values, keys, indexes, schema partywall: a later contract starts from here');
  if (model.bootstrap !== undefined)
    stays.push('no default tenant: a bootstrap default does not come back, because every row written without a tenant would belong to it');
  const closed = [...catalog.relations.values()].filter(
    (relation) => relation.rls && relation.policies.length === 0 && model.schemas.includes(relation.schema),
  );
  if (closed.length > 0) stays.push(`row level security without a policy on ${closed.map(({ table }) => table).join(', ')}: closed when they were made`);
  return stays;
}

async function runOrExplain(step: WallStep, client: pg.Client, options: RollbackOptions): Promise<void> {
  try {
    await runStep(step, { client, quiet: true, signal: options.signal, onProgress: () => undefined });
  } catch (error) {
    const details = error instanceof Error && 'detail' in error && typeof error.detail === 'string' ? error.detail.split('\n') : [];
    const on = step.table === undefined ? '' : ` on ${step.table}`;
    if (step.id.startsWith('rollback/unique') && sqlState(error) === '23505') {
      throw new PartywallError('phase_refused', `${step.title}${on}: tenants share a value by now, which it forbids`, {
        cause: error,
        hint: 'the per-tenant form stays in place and enforcement is off; make the values distinct and run again',
        details,
      });
    }
    if (sqlState(error) === '2BP01') {
      throw new PartywallError('phase_refused', `${step.title}${on}: something that Partywall did not make depends on it`, {
        cause: error,
        hint: 'drop or change what the details name, then run again',
        details,
      });
    }
    throw error;
  }
}

function step(id: string, table: TableName | undefined, title: string, reason: string, statements: readonly string[]): WallStep {
  return { id, phase: 'contract', ...(table && { table }), title, reason, lock: 'brief', action: transaction(statements) };
}
