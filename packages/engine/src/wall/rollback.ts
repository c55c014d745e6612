import type pg from 'pg';
import type { Catalog, Relation } from '../catalog/catalog.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { connect } from '../db/connect.ts';
import { ident, literal } from '../db/sql.ts';
import { PartywallError } from '../errors.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { adoptTriggers, deriveTrigger, eventTriggerName, registerTriggerName } from './derive-sql.ts';
import { wallName } from './names.ts';
import type { StepAction, WallStep } from './plan.ts';
import { type Replaced, replacedFact } from './plan-contract.ts';
import { inSchema, setFact, transaction } from './plan-expand.ts';
import { prepareSession, runStep } from './run-step.ts';
import { wantedWall } from './shape.ts';

/**
 * Takes the wall down, last thing first. `contract` (the default) ends enforcement: row level security, policies, composite keys and
 * per-tenant uniques go, what they replaced comes back. `expand` also removes what Partywall added: columns, triggers, schema.
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

/**
 * @throws PartywallError phase_refused when a per-tenant value would break a global unique that must come back; what `connect` throws
 */
export async function rollbackWall(options: RollbackOptions): Promise<RollbackReport> {
  const client = await connect(options.url, { purpose: 'rollback' });
  try {
    const catalog = await readCatalog(client);
    const steps = planRollback(options.model, catalog, options.to);
    const stays = whatStays(options.model, catalog, options.to);
    if (options.dryRun || steps.length === 0) return { steps, applied: [], stays };
    await prepareSession(client);
    const applied: string[] = [];
    for (const [at, step] of steps.entries()) {
      options.onProgress?.(step, at + 1, steps.length);
      await runOrExplain(step, client, options);
      applied.push(step.id);
    }
    return { steps, applied, stays };
  } finally {
    await client.end();
  }
}

/** Enforcement ends first, then an application without a context can write again, then what was replaced returns; last, if asked, what was added goes. */
export function planRollback(model: TenancyModel, catalog: Catalog, to: RollbackOptions['to']): WallStep[] {
  if (!catalog.runtime) return [];
  const steps = [...openSteps(catalog), ...sourceSteps(model, catalog, to), ...restoreSteps(catalog)];
  if (catalog.runtime.facts?.['phase'] === 'contract') {
    steps.push(
      step('rollback/phase', undefined, 'record that the wall is down', 'walled pools stop requiring row level security', [
        setFact('phase', 'expand'),
        "delete from partywall.facts where name = 'walled_tables'",
      ]),
    );
  }
  return to === 'expanded' ? steps : [...steps, ...removeSteps(model, catalog)];
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
  for (const relation of catalog.relations.values()) {
    const ours = relation.policies.filter((policy) => policy.name.startsWith('partywall_'));
    if (ours.length === 0) continue;
    const name = quoted(relation.table);
    const others = relation.policies.length > ours.length;
    steps.push(
      step(`rollback/policy/${relation.table}`, relation.table, 'lift the policy', 'enforcement ends', [
        ...ours.map((policy) => `drop policy ${ident(policy.name)} on ${name}`),
        `alter table ${name} no force row level security`,
        // Restrictive policies of the application's own keep row level security on.
        ...(others ? [] : [`alter table ${name} disable row level security`]),
      ]),
    );
  }
  return steps;
}

function restoreSteps(catalog: Catalog): WallStep[] {
  return replacedThings(catalog).flatMap((replaced) => {
    const relation = catalog.relations.get(replaced.table);
    if (!relation) return [];
    if (replaced.kind === 'view') return viewSteps(replaced);
    return replaced.kind === 'foreign key' ? foreignKeySteps(relation, replaced) : uniqueSteps(relation, replaced);
  });
}

function viewSteps(replaced: Replaced): WallStep[] {
  const restore = [`alter view ${quoted(replaced.table)} reset (security_invoker)`, forget(replaced)];
  return [step(`rollback/view/${replaced.table}`, replaced.table, "run the view with its owner's rights again", 'as it was before contract', restore)];
}

/** Back as NOT VALID at once, then proven beside writers; a partitioned table takes no NOT VALID key before PostgreSQL 18. */
function foreignKeySteps(relation: Relation, replaced: Replaced): WallStep[] {
  const table = quoted(replaced.table);
  const name = ident(replaced.name);
  const id = `${replaced.table}/${replaced.name}`;
  const wasValid = !replaced.definition.endsWith('NOT VALID');
  const later = wasValid && relation.kind !== 'partitioned';
  const drop = relation.constraints.some((constraint) => constraint.name === replaced.name) ? [`alter table ${table} drop constraint ${name}`] : [];
  const swap = step(`rollback/foreign-key/${id}`, replaced.table, `bring back ${replaced.name}`, 'as it was before contract', [
    ...drop,
    `alter table ${table} add constraint ${name} ${replaced.definition}${later ? ' not valid' : ''}`,
    later ? setFact(replacedFact(replaced), { ...replaced, restored: true }) : forget(replaced),
  ]);
  const prove: WallStep[] = later
    ? [
        {
          ...swap,
          id: `rollback/validate/${id}`,
          title: `prove ${replaced.name} for every row`,
          lock: 'online',
          action: { kind: 'concurrent', statement: `alter table ${table} validate constraint ${name}` },
        },
        step(`rollback/restored/${id}`, replaced.table, `record that ${replaced.name} is back`, 'as it was before contract', [forget(replaced)]),
      ]
    : [];
  return replaced.restored ? prove : [swap, ...prove];
}

/** The global form is built beside writers under a name of its own and takes its old name in the moment the per-tenant form goes. */
function uniqueSteps(relation: Relation, replaced: Replaced): WallStep[] {
  const table = quoted(replaced.table);
  const build = wallName('unique', relation.name, relation.schema, replaced.name, 'restored');
  const id = `${replaced.table}/${replaced.name}`;
  const live = relation.indexes.find((index) => index.name === build);
  const perTenant = relation.indexes.some((index) => index.name === replaced.name) ? [`drop index ${inSchema(relation, replaced.name)}`] : [];
  const swap = step(`rollback/unique/${id}`, replaced.table, `bring back ${replaced.name}`, 'as it was before contract', [
    ...perTenant,
    replaced.kind === 'unique constraint'
      ? `alter table ${table} add constraint ${ident(replaced.name)} unique using index ${ident(build)}${replaced.deferral ?? ''}`
      : `alter index ${inSchema(relation, build)} rename to ${ident(replaced.name)}`,
    forget(replaced),
  ]);
  if (live?.valid) return [swap];
  const make: StepAction = {
    kind: 'concurrent',
    ...(live && { cleanup: `drop index concurrently if exists ${inSchema(relation, build)}` }),
    statement: `create unique index concurrently ${ident(build)} on ${table}${replaced.definition}`,
  };
  return [{ ...swap, id: `rollback/unique-build/${id}`, title: `build ${replaced.name} over all tenants`, lock: 'online', action: make }, swap];
}

function forget(replaced: Replaced): string {
  return `delete from partywall.facts where name = ${literal(replacedFact(replaced))}`;
}

/** New rows get their tenant from their parent again; the context's default would refuse an application without one. */
function sourceSteps(model: TenancyModel, catalog: Catalog, to: RollbackOptions['to']): WallStep[] {
  const wanted = wantedWall(model, catalog);
  const steps: WallStep[] = [];
  for (const table of wanted.tables.values()) {
    const { rule, relation } = table;
    const column = relation.columns.find(({ name }) => name === table.column);
    if (!rule?.added || !column || relation.isPartition || to === 'nothing') continue;
    const derive = rule.paths.length > 0 ? deriveTrigger(table, rule, wanted, undefined) : undefined;
    const adopts = adoptTriggers(table, rule, catalog, wanted);
    const isRestored = !column.notNull && column.default === undefined && (derive === undefined || relation.triggers.some(({ name }) => name === derive.name));
    if (isRestored) continue;
    const name = quoted(relation.table);
    const root = relation.constraints.find((constraint) => constraint.name === table.rootKey);
    steps.push(
      step(
        `rollback/source/${relation.table}`,
        relation.table,
        `derive ${table.column} from parents again`,
        'an application without a context keeps inserting',
        [
          ...(derive?.statements ?? []),
          ...adopts.flatMap((adopt) => adopt.statements),
          `alter table ${name} alter column ${ident(table.column)} drop default`,
          `alter table ${name} alter column ${ident(table.column)} drop not null`,
          ...(root ? [`alter table ${name} drop constraint ${ident(root.name)}`] : []),
        ],
      ),
    );
  }
  return steps;
}

function removeSteps(model: TenancyModel, catalog: Catalog): WallStep[] {
  const wanted = wantedWall(model, catalog);
  const steps: WallStep[] = [];
  for (const table of [...wanted.tables.values()].reverse()) {
    const { rule, relation } = table;
    const name = quoted(relation.table);
    if (!rule) continue;
    const indexes = relation.indexes.filter((index) => index.name.startsWith('pw_') && !index.attachedTo);
    const constraints = relation.constraints.filter((constraint) => constraint.name.startsWith('pw_') && !constraint.inherited);
    const triggers = relation.triggers.filter((trigger) => trigger.name.startsWith('pw_'));
    const statements = [
      ...triggers.map((trigger) => `drop trigger ${ident(trigger.name)} on ${name}`),
      ...constraints.map((constraint) => `alter table ${name} drop constraint if exists ${ident(constraint.name)}`),
      ...indexes.map((index) => `drop index if exists ${ident(relation.schema)}.${ident(index.name)}`),
      ...(table.adds && relation.columns.some((column) => column.name === table.column) ? [`alter table ${name} drop column ${ident(table.column)}`] : []),
    ];
    if (statements.length > 0)
      steps.push(step(`rollback/table/${relation.table}`, relation.table, 'remove what expand added', 'columns, keys, triggers', statements));
  }
  const root = catalog.relations.get(model.tenant.table);
  const aside = catalog.runtime?.facts?.['quarantined'] !== undefined;
  steps.push(
    step(
      'rollback/runtime',
      model.tenant.table,
      'remove schema partywall',
      aside ? 'rows taken aside stay in partywall.quarantine' : 'nothing refers to it any more',
      [
        ...(root?.triggers.some(({ name }) => name === registerTriggerName) ? [`drop trigger ${registerTriggerName} on ${quoted(root.table)}`] : []),
        ...(aside ? [keepQuarantine] : ['drop schema partywall cascade']),
      ],
    ),
  );
  return steps;
}

/** Drops all of schema partywall but the quarantine, which holds the only copy of its rows. */
const keepQuarantine = `do $pw$
declare item record;
begin
  for item in select c.oid::regclass as name, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind from pg_class c
    where c.relnamespace = 'partywall'::regnamespace and c.relkind in ('r', 'v', 'S') and c.relname not in ('quarantine', 'quarantine_id_seq') loop
    execute format('drop %s if exists %s cascade', item.kind, item.name);
  end loop;
  for item in select p.oid::regprocedure as name from pg_proc p where p.pronamespace = 'partywall'::regnamespace loop
    execute format('drop function if exists %s cascade', item.name);
  end loop;
end $pw$`;

function whatStays(model: TenancyModel, catalog: Catalog, to: RollbackOptions['to']): string[] {
  if (!catalog.runtime) return ['nothing of the wall was there'];
  const { app, system, service } = model.roles;
  const roles = [app, system, service].filter((role) => catalog.roles.has(role));
  const stays = [`roles ${roles.join(', ')} and their grants: other databases may use them; revoke and drop them by hand when nobody connects as them`];
  stays.push('revoked grants and default privileges: they reached around the wall and are not given back');
  if (catalog.runtime.facts?.['quarantined'] !== undefined) stays.push('partywall.quarantine: rows taken aside, the only copy of them');
  if (to === 'expanded') stays.push('tenant columns with their values, keys, indexes, schema partywall: a later contract starts from here');
  if (model.bootstrap !== undefined)
    stays.push('no default tenant: a bootstrap default does not come back, because every row written without a tenant would belong to it');
  return stays;
}

function replacedThings(catalog: Catalog): Replaced[] {
  const facts = catalog.runtime?.facts ?? {};
  return Object.entries(facts).flatMap(([fact, value]) => (fact.startsWith('replaced:') ? [value as Replaced] : [])); // written by plan-contract.ts alone
}

async function runOrExplain(step: WallStep, client: pg.Client, options: RollbackOptions): Promise<void> {
  try {
    await runStep(step, { client, superuser: true, signal: options.signal, onProgress: () => undefined });
  } catch (error) {
    if (step.id.startsWith('rollback/unique-build/') && error instanceof Error && 'code' in error && error.code === '23505') {
      throw new PartywallError('phase_refused', `${step.title} on ${step.table}: tenants share a value by now, which it forbids`, {
        cause: error,
        hint: 'the per-tenant form stays in place and enforcement is off; make the values distinct and run again',
        details: 'detail' in error && typeof error.detail === 'string' ? [error.detail] : [],
      });
    }
    throw error;
  }
}

function step(id: string, table: TableName | undefined, title: string, reason: string, statements: readonly string[]): WallStep {
  return { id, phase: 'contract', ...(table && { table }), title, reason, lock: 'brief', action: transaction(statements) };
}
