import type { Catalog, Policy, Relation } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { deferralOf, foreignKeySteps, rootKeySteps } from './contract-references.ts';
import { contractStep, onlineStep } from './contract-step.ts';
import { closesNewTables, eventTrigger, eventTriggerName } from './derive-sql.ts';
import { addedFact, bootstrapEndedFact, setFact } from './facts.ts';
import { excessGrants } from './grants.ts';
import { isWallName, wallName } from './names.ts';
import type { WallStep } from './plan.ts';
import { childrenOf, inSchema, transaction, uniqueIndexSteps } from './plan-expand.ts';
import { recordReplaced } from './replaced.ts';
import { observePolicyName, unitPoliciesFor } from './runtime/rollout-sql.ts';
import { runtimeDamage } from './runtime-damage.ts';
import { sameExpression, tenantColumn, tenantDefault, type WantedTable, type WantedWall } from './shape.ts';
import { isBuiltUnderLock, usingClause } from './shape-keys.ts';
import { createUnitPolicy, isUnitPolicy } from './unit-policies.ts';

/**
 * Contract, in this order: defaults change over from parents to the context, so that nothing is refused to the application, which is in
 * one by now; NOT NULL and references are validated while no policy binds anybody (a role under forced RLS validates zero rows);
 * policies are forced; what the wall replaces is dropped; grants that reach around it are revoked. What is dropped is recorded in
 * `partywall.facts`, in the same transaction, for rollback.
 */
export function planContract(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const tables = [...wanted.tables.values()];
  return [
    ...tables.flatMap((table) => defaultSteps(catalog, table)),
    ...tables.flatMap((table) => notNullSteps(table, wanted)),
    ...tables.flatMap((table) => rootKeySteps(model, catalog, table)),
    ...tables.flatMap((table) => table.foreignKeys.flatMap((key) => foreignKeySteps(catalog, table, key))),
    ...tables.flatMap((table) => policySteps(model, table)),
    ...deriveSteps(catalog),
    ...viewSteps(catalog, wanted),
    ...tables.flatMap((table) => uniqueSteps(catalog, table)),
    ...grantSteps(model, catalog, wanted),
    ...finalSteps(model, catalog, wanted),
  ];
}

/** NOT NULL by a validated check: the check is proven beside writers, and SET NOT NULL then reads nothing. */
function notNullSteps(table: WantedTable, wanted: WantedWall): WallStep[] {
  if (!table.rule || tenantColumn(table)?.notNull || table.relation.parents.some((parent) => wanted.tables.has(parent))) return [];
  const { relation, column } = table;
  const name = quoted(relation.table);
  const check = wallName('check', relation.name, relation.schema, column);
  const live = relation.constraints.find((constraint) => constraint.name === check);
  const because = 'a row without a tenant belongs to nobody';
  return [
    ...(live
      ? []
      : [
          contractStep(table, 'not-null-check', `require ${column} of new rows`, because, 'brief', [
            `alter table ${name} add constraint ${ident(check)} check (${ident(column)} is not null) not valid`,
          ]),
        ]),
    ...(live?.validated
      ? []
      : [onlineStep(table, 'not-null-validate', `prove that every row has ${column}`, because, `alter table ${name} validate constraint ${ident(check)}`)]),
    contractStep(table, 'not-null', `set ${column} not null`, because, 'brief', [
      recordReplaced({ table: relation.table, name: column, kind: 'nullable column', definition: '' }),
      `alter table ${name} alter column ${ident(column)} set not null`,
      `alter table ${name} drop constraint ${ident(check)}`,
    ]),
  ];
}

/** New rows take their tenant from the context. The bootstrap tenant's default goes, so that an insert without a tenant fails. */
function defaultSteps(catalog: Catalog, table: WantedTable): WallStep[] {
  const live = tenantColumn(table);
  const { relation, column } = table;
  if (table.rule && !table.rule.added && isConstant(live?.default)) {
    const drop = `alter table ${quoted(relation.table)} alter column ${ident(column)} drop default`;
    return [
      contractStep(table, 'default', `let ${column} have no default tenant`, 'a row written without a tenant would silently belong to that one', 'brief', [
        drop,
      ]),
    ];
  }
  if (!table.rule?.added || relation.isPartition || live?.default === tenantDefault) return [];
  const name = quoted(relation.table);
  // A default of the application's own comes back with a rollback; one tenant for everybody must not.
  const own = catalog.runtime?.facts?.[addedFact(relation)] === undefined && !isConstant(live?.default) ? live?.default : undefined;
  return [
    contractStep(
      table,
      'default',
      `let ${table.column} default to the context's tenant`,
      'an application that does not know the column keeps inserting, and without a context it fails',
      'brief',
      [
        ...(own === undefined ? [] : [recordReplaced({ table: relation.table, name: column, kind: 'column default', definition: own })]),
        `alter table ${name} alter column ${ident(column)} set default ${tenantDefault}`,
      ],
    ),
  ];
}

/** One tenant for everybody. An expression of the application's own, such as a setting, may well be its way to the right one. */
function isConstant(expression: string | undefined): boolean {
  return expression !== undefined && /^\(?(?:'(?:[^']|'')*'(?:::[\w ]+(?:\(\d+\))?)?|-?\d+(?:::\w+)?)\)?$/.test(expression);
}

function policySteps(model: TenancyModel, table: WantedTable): WallStep[] {
  const { relation, policy, unit } = table;
  const units = unitPoliciesFor(relation, model);
  const name = quoted(relation.table);
  const live = relation.policies.find((candidate) => candidate.name === policy.name);
  const right =
    live?.permissive &&
    live.command === 'all' &&
    live.roles.join() === 'public' &&
    sameExpression(live.using, policy.stored) &&
    sameExpression(live.check, policy.stored);
  const missing = (unit?.policies ?? []).filter(
    (wanted) => !relation.policies.some((candidate) => candidate.name === wanted.name && isUnitPolicy(candidate, wanted, units)),
  );
  const keeps = (candidate: Policy): boolean =>
    (candidate.name === policy.name && right) ||
    (unit?.policies.some((wanted) => wanted.name === candidate.name && !missing.includes(wanted)) ?? false) ||
    // A table that a roll-out has opened stays open until it is enforced.
    candidate.name === observePolicyName;
  const stale = relation.policies.filter((candidate) => candidate.name.startsWith('partywall_') && !keeps(candidate));
  if (right && missing.length === 0 && stale.length === 0 && relation.rls && relation.rlsForced) return [];
  const isFirst = !relation.policies.some((candidate) => candidate.name.startsWith('partywall_'));
  const before = `${relation.rls ? 'enabled' : ''}${relation.rlsForced ? ' forced' : ''}`;
  return [
    contractStep(
      table,
      'policy',
      'force the policy',
      `a row is there for the tenant in ${table.column} alone${unit === undefined ? '' : `, inside a unit for the one in ${unit.column}`}`,
      'brief',
      [
        ...(isFirst && before !== '' ? [recordReplaced({ table: relation.table, name: 'row level security', kind: 'row security', definition: before })] : []),
        ...stale.map((candidate) => `drop policy ${ident(candidate.name)} on ${name}`),
        ...(right ? [] : [`create policy ${ident(policy.name)} on ${name} using (${policy.expression}) with check (${policy.expression})`]),
        ...missing.map((wanted) => createUnitPolicy(name, wanted, units)),
        `alter table ${name} enable row level security`,
        `alter table ${name} force row level security`,
      ],
    ),
  ];
}

/** The triggers of expand read the parent's tenant; from here on the context is the source and the composite key the proof. */
function deriveSteps(catalog: Catalog): WallStep[] {
  return [...catalog.relations.values()].flatMap((relation) =>
    // A partition's go with its parent's.
    relation.triggers
      .filter(({ name }) => isWallName(name, ['derive', 'adopt']) && !relation.isPartition)
      .map(({ name, function: routine }) => ({
        id: `contract/drop-derive/${relation.table}/${name}`,
        phase: 'contract' as const,
        table: relation.table,
        title: 'stop deriving the tenant from parents',
        reason: 'the context is the source now',
        lock: 'brief' as const,
        action: transaction([
          `drop trigger ${ident(name)} on ${quoted(relation.table)}`,
          `drop function partywall.${ident(routine.replace(/^partywall\./, ''))}()`,
        ]),
      })),
  );
}

function viewSteps(catalog: Catalog, wanted: WantedWall): WallStep[] {
  return wanted.views.flatMap((view) => {
    const relation = catalog.relations.get(view);
    const option = relation?.options.find((candidate) => candidate.startsWith('security_invoker='))?.slice('security_invoker='.length);
    if (!relation || /^(true|on|1|yes)$/i.test(option ?? '')) return [];
    return {
      id: `contract/view/${view}`,
      phase: 'contract' as const,
      table: view,
      title: "run the view with the caller's rights",
      reason: `it runs as ${relation.owner}, whom the wall may not bind`,
      lock: 'brief' as const,
      action: transaction([
        recordReplaced({ table: view, name: 'security_invoker', kind: 'view', definition: option ?? '' }),
        `alter view ${quoted(view)} set (security_invoker = true)`,
      ]),
    };
  });
}

/** The global form goes once the per-tenant one is there; that one takes its name, and is a constraint where the old one was. */
function uniqueSteps(catalog: Catalog, table: WantedTable): WallStep[] {
  const { relation } = table;
  const name = quoted(relation.table);
  return table.uniques.flatMap((unique) => {
    const { replaces, constraint } = unique;
    const deferral = deferralOf(constraint);
    const underLock = constraint?.deferrable && isBuiltUnderLock(relation);
    const perTenant = !constraint
      ? `alter index ${inSchema(relation, unique.name)} rename to ${ident(replaces.name)}`
      : underLock
        ? `alter table ${name} add constraint ${ident(constraint.name)} ${constraint.definition.replace('(', `(${ident(table.column)}, `)}`
        : relation.kind !== 'partitioned'
          ? `alter table ${name} add constraint ${ident(constraint.name)} unique using index ${ident(unique.name)}${deferral}`
          : // A partitioned table takes no constraint from an index; there the index alone holds it.
            `alter index ${inSchema(relation, unique.name)} rename to ${ident(replaces.name)}`;
    const swap = contractStep(
      table,
      'unique',
      `let ${replaces.name} hold per tenant`,
      'a value that is taken must not tell that another tenant has it',
      'brief',
      [
        recordReplaced({
          table: relation.table,
          name: replaces.name,
          kind: constraint ? 'unique constraint' : 'unique index',
          definition: ` ${usingClause(replaces)}`,
          deferral,
          ...(constraint && { constraint: constraint.definition }),
          ...(relation.kind === 'partitioned' && { parts: attachedIndexes(catalog, relation, replaces.name) }),
        }),
        constraint ? `alter table ${name} drop constraint ${ident(constraint.name)}` : `drop index ${inSchema(relation, replaces.name)}`,
        perTenant,
      ],
      replaces.name,
    );
    return [...(constraint?.deferrable && !underLock ? uniqueIndexSteps(catalog, table, unique, 'contract') : []), swap];
  });
}

/** Names of the indexes attached to one of a partitioned table, by partition, all levels down. */
function attachedIndexes(catalog: Catalog, relation: Relation, name: string): Record<TableName, string> {
  return Object.fromEntries(
    childrenOf(catalog, relation).flatMap((child) => {
      const attached = child.indexes.find((index) => index.attachedTo === name);
      return attached ? [[child.table, attached.name], ...Object.entries(attachedIndexes(catalog, child, attached.name))] : [];
    }),
  );
}

function grantSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const changes = excessGrants(model, catalog, wanted);
  if (changes.length === 0) return [];
  return [
    {
      id: 'contract/grants',
      phase: 'contract',
      title: `revoke ${changes.length} grants that reach around the wall`,
      reason: 'nothing on rows for everyone, nothing standing for tables to come, and for the application rows only',
      lock: 'brief',
      action: transaction(changes.map((change) => change.statement)),
    },
  ];
}

function finalSteps(model: TenancyModel, catalog: Catalog, wanted: WantedWall): WallStep[] {
  const steps: WallStep[] = [];
  const trigger = catalog.eventTriggers.find(({ name }) => name === eventTriggerName);
  const isDamaged = runtimeDamage(catalog, { model, wanted, context: wanted.context }).some(({ mendedBy }) => mendedBy === 'contract');
  const isClosing = trigger !== undefined && closesNewTables(trigger) && !isDamaged;
  if (catalog.roles.get(catalog.currentUser)?.superuser && !isClosing) {
    steps.push({
      id: 'contract/new-tables',
      phase: 'contract',
      title: "close tomorrow's tables until the model knows them",
      reason: 'a new table starts without row level security',
      lock: 'none',
      action: transaction(eventTrigger(model)),
    });
  }
  const facts = catalog.runtime?.facts ?? {};
  const walled = [...wanted.tables.values()].map(({ relation }) => ({ name: relation.name, schema: relation.schema }));
  if (facts['phase'] !== 'contract' || JSON.stringify(facts['walled_tables']) !== JSON.stringify(walled)) {
    steps.push({
      id: 'contract/done',
      phase: 'contract',
      title: 'record that the wall holds',
      reason: 'walled pools refuse to start where one of these tables is open',
      lock: 'none',
      action: transaction([setFact('walled_tables', walled), setFact('phase', 'contract'), setFact(bootstrapEndedFact, true)]),
    });
  }
  return steps;
}
