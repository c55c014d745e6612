import type { Catalog, Index, Relation } from '../catalog/catalog.ts';
import { ident, identList, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted } from '../model/table-name.ts';
import { contextTenant } from './context-sql.ts';
import { adoptTriggers, deriveTrigger, isInstalled, tenantByPaths } from './derive-sql.ts';
import { addedFact, bootstrapEndedFact, forgetBackfill, isPassed, isSettled, noteQuarantineSql, setFact } from './facts.ts';
import { missingGrants } from './grants.ts';
import { installSql, isInstalledBy, runtimeFingerprint } from './installed-runtime.ts';
import { wallName } from './names.ts';
import type { Backfill, StepAction, WallStep } from './plan.ts';
import { roleStatements } from './roles.ts';
import { runtimeLock } from './runtime.ts';
import { runtimeDamage } from './runtime-damage.ts';
import { tenantColumn, type WantedTable, type WantedUnique, type WantedWall } from './shape.ts';
import { liveUnitPolicies } from './unit-policies.ts';

/**
 * Expand, in this order: roles and schema `partywall`; new nullable columns with the triggers that fill them; the backfill, each
 * table after those it derives from, so that a row written beside it always finds its parent's tenant; then keys and indexes.
 * Nothing here refuses anything to the old application.
 */
export function planExpand(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  return [
    ...unitSteps(catalog, wanted),
    ...runtimeSteps(model, catalog, wanted),
    ...columnSteps(model, catalog, wanted),
    ...backfillSteps(model, catalog, wanted).filter((step) => step.table === undefined || !isPassed(step.table, catalog)),
    ...keySteps(catalog, wanted),
    ...grantSteps(model, catalog, wanted),
    ...settleSteps(model, catalog, wanted),
  ];
}

/** Policies of units that the model no longer has go before `partywall.unit_id()`, on which they depend, changes its type. */
function unitSteps(catalog: Catalog, wanted: WantedWall): WallStep[] {
  if (wanted.context.unitType !== undefined) return [];
  return [...catalog.relations.values()].flatMap((relation) => {
    const drops = liveUnitPolicies(relation).map(({ name }) => `drop policy ${ident(name)} on ${quoted(relation.table)}`);
    if (drops.length === 0) return [];
    return {
      id: `expand/units/${relation.table}`,
      phase: 'expand' as const,
      table: relation.table,
      title: 'lift the policies of units',
      reason: 'the model has no units',
      lock: 'brief' as const,
      action: transaction(drops),
    };
  });
}

function runtimeSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const steps: WallStep[] = roleStatements(model, catalog).map(({ role, statements }) => ({
    id: `expand/role/${role}`,
    phase: 'expand',
    title: `make role ${role}`,
    reason: role === model.roles.app ? 'the application runs as a role that row level security binds' : 'work over all tenants has a login of its own',
    lock: 'none',
    action: { kind: 'transaction', statements },
  }));
  const statements = installSql(model, catalog, wanted);
  const isDamaged = runtimeDamage(catalog, { model, wanted, context: wanted.context }).some(({ mendedBy }) => mendedBy === 'expand');
  if (isDamaged || !isInstalledBy(statements, catalog)) {
    steps.push({
      id: 'expand/runtime',
      phase: 'expand',
      table: model.tenant.table,
      title: 'install schema partywall and register the tenants',
      reason: 'entering a tenant, the registry and its trigger on the tenant root live in the database',
      lock: 'brief',
      action: {
        kind: 'transaction',
        statements: [
          runtimeLock,
          ...statements,
          setFact('runtime', runtimeFingerprint(statements)),
          setFact('roles', model.roles),
          noteQuarantineSql,
          `${setFact('phase', 'expand').replace(/ do update .*$/s, ' do nothing')}`,
        ],
      },
    });
  }
  return steps;
}

function columnSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const steps: WallStep[] = [];
  for (const table of wanted.tables.values()) {
    const { rule, relation } = table;
    if (!rule?.added) continue;
    const live = tenantColumn(table);
    if (table.adds && !live) {
      const why = rule.why ?? 'rows of this table belong to one tenant';
      steps.push(tableStep(table, 'expand/column', `add ${table.column}`, why, 'brief', addColumn(model, catalog, table, wanted)));
    }
    // Contract sets NOT NULL and drops the triggers; from then on the default is the source.
    if (rule.paths.length === 0 || live?.notNull || relation.isPartition) continue;
    const derive = deriveTrigger(table, rule, wanted, bootstrapTenant(model, catalog, wanted));
    if (!isInstalled(derive, catalog)) {
      // Rows that were written without the trigger are found by going through the table again.
      const statements = [...derive.statements, forgetBackfill(relation.table)];
      const from = `from ${rule.paths.map((path) => path.table).join(', then ')}`;
      steps.push(tableStep(table, 'expand/derive', `derive ${table.column} of new rows`, from, 'brief', statements));
    }
    for (const adopt of adoptTriggers(table, rule, wanted)) {
      if (isInstalled(adopt, catalog)) continue;
      const title = `hand the tenant down from ${adopt.on}`;
      steps.push(tableStep(table, 'expand/adopt', title, 'the row exists before the one that owns it', 'brief', adopt.statements, adopt.name));
    }
  }
  return steps;
}

/**
 * SQL of the bootstrap tenant while it still owns what names no tenant. Its time is over when contract has been recorded: a table
 * that comes later must not hand its rows to one tenant of many.
 */
export function bootstrapTenant(model: TenancyModel, catalog: Catalog, wanted: WantedWall): string | undefined {
  if (model.bootstrap === undefined || catalog.runtime?.facts?.[bootstrapEndedFact] !== undefined) return undefined;
  return `${literal(model.bootstrap)}::${wanted.keyType}`;
}

/**
 * The column starts empty. With a bootstrap tenant as the only source its default fills every row at once, without a rewrite, and
 * stands back for the context, in which the application already is between switch and contract.
 */
function addColumn(model: TenancyModel, catalog: Catalog, table: WantedTable, wanted: WantedWall): string[] {
  const add = `alter table ${quoted(table.relation.table)} add column ${ident(table.column)} ${table.columnType}`;
  const bootstrap = table.rule?.paths.length === 0 ? bootstrapTenant(model, catalog, wanted) : undefined;
  return [
    bootstrap === undefined ? add : `${add} default coalesce(${contextTenant(wanted.context)}, ${bootstrap})`,
    setFact(addedFact(table.relation), table.column),
    forgetBackfill(table.relation.table),
  ];
}

/** For every table that has something to be filled from, parents first. */
function backfillSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): (WallStep & { action: Backfill })[] {
  const bootstrap = bootstrapTenant(model, catalog, wanted);
  return [...wanted.tables.values()].flatMap((table) => {
    const { rule, relation } = table;
    if (!rule?.added || relation.kind !== 'table' || tenantColumn(table)?.notNull) return [];
    const sources = [...(rule.paths.length > 0 ? [tenantByPaths(rule.paths, 'row', wanted)] : []), ...(bootstrap === undefined ? [] : [bootstrap])];
    if (sources.length === 0) return [];
    return {
      id: `expand/backfill/${relation.table}`,
      phase: 'expand' as const,
      table: relation.table,
      title: `fill ${table.column} of ${relation.estimatedRows < 0 ? 'all' : `about ${Math.round(relation.estimatedRows)}`} rows`,
      reason: `from ${[...rule.paths.map((path) => path.table), ...(bootstrap === undefined ? [] : ['the bootstrap tenant'])].join(', then ')}`,
      lock: 'none' as const,
      action: { kind: 'backfill' as const, table: relation.table, column: table.column, tenant: `coalesce(${sources.join(', ')})` },
    };
  });
}

/** All backfills once more, after whatever was open while they ran; undefined where there is none. */
export function settleStep(model: TenancyModel, catalog: Catalog, wanted: WantedWall): (WallStep & { action: Settle }) | undefined {
  const backfills = backfillSteps(model, catalog, wanted).map((step) => step.action);
  if (backfills.length === 0) return undefined;
  return {
    id: 'expand/late-rows',
    phase: 'expand',
    title: 'fill what older transactions wrote',
    reason: 'a transaction that does not see its parent’s tenant yet may show its row after the backfill has passed',
    lock: 'none',
    action: { kind: 'settle', backfills },
  };
}

/** Wanted as long as a backfill has not passed, or has and nobody has waited since. */
function settleSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const step = settleStep(model, catalog, wanted);
  return step && !(isSettled(catalog) && step.action.backfills.every(({ table }) => isPassed(table, catalog))) ? [step] : [];
}

type Settle = Extract<StepAction, { kind: 'settle' }>;

function keySteps(catalog: Catalog, wanted: WantedWall): WallStep[] {
  const steps: WallStep[] = [];
  for (const table of wanted.tables.values()) {
    for (const key of table.keys) {
      if (key.live) continue;
      const leading = [table.column, ...key.columns.filter((column) => column !== table.column)];
      const make: IndexBuild = { name: key.name, unique: true, rest: `(${identList(leading)})` };
      steps.push(
        ...indexSteps(
          catalog,
          table,
          make,
          `add key (${leading.join(', ')})`,
          'references from other scoped tables carry the tenant, and reads by tenant use it',
        ),
      );
    }
    if (table.index) {
      steps.push(
        ...indexSteps(
          catalog,
          table,
          { name: table.index, unique: false, rest: `(${ident(table.column)})` },
          `index ${table.column}`,
          'every read of the application is by tenant',
        ),
      );
    }
    // While it is being built an index checks every statement at once, which what is deferrable is there to avoid: contract does that.
    for (const unique of table.uniques) if (!unique.constraint?.deferrable) steps.push(...uniqueIndexSteps(catalog, table, unique, 'expand'));
  }
  return steps;
}

export function uniqueIndexSteps(catalog: Catalog, table: WantedTable, unique: WantedUnique, phase: 'expand' | 'contract'): WallStep[] {
  if (table.relation.indexes.some((index) => index.name === unique.name && index.valid)) return [];
  const make: IndexBuild = { name: unique.name, unique: true, rest: unique.definition };
  const title = `add the per-tenant form of ${unique.replaces.name}`;
  return indexSteps(catalog, table, make, title, 'both forms exist until contract, so that the old `on conflict` still works', phase);
}

interface IndexBuild {
  readonly name: string;
  readonly unique: boolean;
  /** Columns in parentheses, or `using method (columns) ...`. */
  readonly rest: string;
}

/** Built beside writers; an invalid leftover is dropped first. On a partitioned table: each partition's, then attached. */
function indexSteps(
  catalog: Catalog,
  table: WantedTable,
  make: IndexBuild,
  title: string,
  reason: string,
  phase: 'expand' | 'contract' = 'expand',
): WallStep[] {
  const steps: WallStep[] = [];
  const add = (kind: string, relation: Relation, name: string, text: string, lock: WallStep['lock'], action: StepAction): void => {
    steps.push({ ...step(table, `${phase}/${kind}/${relation.table}/${name}`, text, reason, lock, action), phase });
  };
  const build = (relation: Relation, name: string, text: string): void => {
    if (relation.kind !== 'partitioned') {
      add('index', relation, name, text, 'online', buildConcurrently(relation, { ...make, name }));
      return;
    }
    if (!relation.indexes.some((index) => index.name === name)) {
      const statement = `create ${make.unique ? 'unique ' : ''}index ${ident(name)} on only ${quoted(relation.table)} ${make.rest}`;
      add('index', relation, name, text, 'brief', transaction([statement]));
    }
    for (const child of childrenOf(catalog, relation)) {
      // A partition that was made after the parent's index came with one of its own, under a name of the server's choosing.
      const attached = child.indexes.find((index) => index.attachedTo === name);
      const childName = attached?.name ?? wallName(make.unique ? 'key' : 'index', child.name, child.schema, make.name);
      const live = attached ?? child.indexes.find((index) => index.name === childName);
      if (!live?.valid) build(child, childName, `${title} on partition ${child.table}`);
      if (!attached) {
        const statement = `alter index ${inSchema(relation, name)} attach partition ${inSchema(child, childName)}`;
        add('attach', child, childName, `attach it to ${relation.table}`, 'brief', transaction([statement]));
      }
    }
  };
  build(table.relation, make.name, title);
  return steps;
}

function buildConcurrently(relation: Relation, make: IndexBuild): StepAction {
  const leftover: Index | undefined = relation.indexes.find((index) => index.name === make.name && !index.valid);
  return {
    kind: 'concurrent',
    ...(leftover && { cleanup: `drop index concurrently if exists ${inSchema(relation, make.name)}` }),
    statement: `create ${make.unique ? 'unique ' : ''}index concurrently ${ident(make.name)} on ${quoted(relation.table)} ${make.rest}`,
  };
}

function grantSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const changes = missingGrants(model, catalog, wanted);
  if (changes.length === 0) return [];
  return [
    {
      id: 'expand/grants',
      phase: 'expand',
      title: `grant ${changes.length} relations, sequences and schemas to the three roles`,
      reason: 'the application can move to its role before the wall holds',
      lock: 'none',
      action: transaction(changes.map((change) => change.statement)),
    },
  ];
}

export function childrenOf(catalog: Catalog, parent: Relation): Relation[] {
  return [...catalog.relations.values()].filter((relation) => relation.parents.includes(parent.table));
}

export function inSchema(relation: Relation, name: string): string {
  return `${ident(relation.schema)}.${ident(name)}`;
}

export function transaction(statements: readonly string[]): StepAction {
  return { kind: 'transaction', statements };
}

function tableStep(
  table: WantedTable,
  kind: string,
  title: string,
  reason: string,
  lock: WallStep['lock'],
  statements: readonly string[],
  part?: string,
): WallStep {
  return step(table, [kind, table.relation.table, ...(part ? [part] : [])].join('/'), title, reason, lock, transaction(statements));
}

function step(table: WantedTable, id: string, title: string, reason: string, lock: WallStep['lock'], action: StepAction): WallStep {
  return { id, phase: 'expand', table: table.relation.table, title, reason, lock, action };
}
