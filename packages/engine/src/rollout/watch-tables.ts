import { columnOf, type Relation } from '../catalog/catalog.ts';
import { ident, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { partsOf, quoted, type TableName } from '../model/table-name.ts';
import { contextTenant } from '../wall/context-sql.ts';
import { setFact } from '../wall/facts.ts';
import { isWallName, lastTriggerName } from '../wall/names.ts';
import { observePolicyName, rolloutTablesFact } from '../wall/runtime/rollout-sql.ts';
import type { WantedTable, WantedWall } from '../wall/shape.ts';
import { bindUnitPolicy, liveUnitPolicies } from '../wall/unit-policies.ts';

/** Statements on one table, carried out in one transaction. Each can be carried out twice: another change of the modes may do the same at this moment. */
export interface TableStep {
  readonly table: TableName;
  readonly title: string;
  readonly statements: readonly string[];
}

/** Which tables hold tenants' rows and where the tenant is in them, for the processes. */
export function tablesFact(wanted: WantedWall): string {
  const tables = [...wanted.tables.values()].filter(hasTenant).map(({ relation, column }) => ({ schema: relation.schema, name: relation.name, column }));
  return setFact(rolloutTablesFact, tables);
}

/**
 * The logging triggers as they must be: on every walled table while anything is observed, on none otherwise. Their conditions let only rows
 * through that the wall would refuse, written by the application: by its own role (on a table that is open), or in a transaction that an
 * observing session has marked. So a right write costs a comparison, and everybody else's a look at a name.
 */
export function triggerSteps(model: TenancyModel, wanted: WantedWall, observing: boolean): TableStep[] {
  return [...wanted.tables.values()].flatMap((table) => {
    // A partition has its parent's.
    if (table.relation.isPartition) return [];
    const needed = observing && hasTenant(table) ? writeTriggers(table, model, wanted) : [];
    const live = table.relation.triggers.filter(({ name }) => isWallName(name, ['observe']));
    const missing = needed.filter(({ name }) => !live.some((trigger) => trigger.name === name && trigger.enabled !== 'disabled'));
    const stale = live.filter(({ name }) => !needed.some((trigger) => trigger.name === name) || missing.some((trigger) => trigger.name === name));
    if (missing.length === 0 && stale.length === 0) return [];
    return [
      {
        table: table.relation.table,
        title: needed.length > 0 ? 'log writes that the wall would refuse' : 'stop logging writes',
        statements: [
          ...stale.map(({ name }) => `drop trigger if exists ${ident(name)} on ${quoted(table.relation.table)}`),
          ...missing.map(({ statement }) => statement),
        ],
      },
    ];
  });
}

/** Opens a table to the application, whatever tenant and unit it is in: a second permissive policy, which verify names, and nobody is asked for a unit. */
export function openTable(relation: Relation, model: TenancyModel): string[] {
  return [
    dropPolicy(relation),
    ...unitPolicies(relation, model.roles.system),
    `create policy ${observePolicyName} on ${quoted(relation.table)} as permissive for all to ${ident(model.roles.app)} using (true) with check (true)`,
  ];
}

export function closeTable(relation: Relation): string[] {
  return [dropPolicy(relation), ...unitPolicies(relation, 'public')];
}

function dropPolicy({ table }: Relation): string {
  return `drop policy if exists ${observePolicyName} on ${quoted(table)}`;
}

function unitPolicies(relation: Relation, role: string): string[] {
  return liveUnitPolicies(relation).map(({ name }) => bindUnitPolicy(quoted(relation.table), name, role));
}

/** The target of a table's mode, which processes compare: schema and name as they are. */
export function modeTarget(table: TableName): string {
  const { schema, name } = partsOf(table);
  return `${schema}.${name}`;
}

function hasTenant(table: WantedTable): boolean {
  return columnOf(table.relation, table.column) !== undefined;
}

/** The name carries a hash of the condition, so that a trigger of an earlier form is replaced. */
function writeTriggers({ relation, column }: WantedTable, model: TenancyModel, wanted: WantedWall): { name: string; statement: string }[] {
  const context = contextTenant(wanted.context);
  const observed = `(current_user = ${literal(model.roles.app)} or pg_catalog.current_setting('partywall.observe', true) = 'on')`;
  const foreign = (row: 'old' | 'new'): string => `${row}.${ident(column)} is distinct from ${context}`;
  const conditions = { insert: foreign('new'), update: `(${foreign('old')} or ${foreign('new')})`, delete: foreign('old') };
  return Object.entries(conditions).map(([event, condition]) => {
    const when = `${observed} and ${condition}`;
    const name = lastTriggerName('observe', relation.name, relation.schema, event, when);
    return {
      name,
      statement: `create or replace trigger ${ident(name)} after ${event} on ${quoted(relation.table)} for each row when (${when}) execute function partywall.observe_write()`,
    };
  });
}
