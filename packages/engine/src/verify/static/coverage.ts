import { columnOf, holdsRows, type Relation } from '../../catalog/catalog.ts';
import { closesNewTables, eventTriggerName } from '../../wall/derive-sql.ts';
import { effectiveRule, type WantedTable } from '../../wall/shape.ts';
import { type Finding, finding } from '../finding.ts';
import { canCloseNewTables, granteeText, isOpen, reached, type StaticFacts } from './static-facts.ts';

/** Functions that CREATE TYPE ... AS RANGE makes by itself. */
const ofRangeType = /^(multi)?range_constructor\d$/;

/** Extensions whose functions open connections or files of their own. Foreign data wrappers need a server, which is a rule of its own. */
const wayOutExtensions = new Set(['dblink', 'adminpack', 'http', 'pg_net']);

export function coverageRules(facts: StaticFacts): Finding[] {
  const findings = [
    ...[...facts.catalog.relations.values()].flatMap((relation) => [...classification(relation, facts), ...foreignTable(relation, facts)]),
    ...[...facts.wanted.tables.values()].flatMap((table) => [...rowSecurity(table, facts), ...reachableChild(table, facts)]),
    ...servers(facts),
    ...code(facts),
    ...newTables(facts),
    ...publications(facts),
  ];
  // What keeps the wall from being built is said once: by the rule that knows it, or by its own message.
  const named = new Set(findings.filter((found) => found.rule.startsWith('coverage.')).map((found) => found.target));
  const blocked = facts.wanted.blockers.filter(({ table, message }) => !named.has(table) && !ruledElsewhere.test(message));
  return [...findings, ...blocked.map(({ table, message }) => finding('coverage.blocked', table, `${table}: ${message}`))];
}

/** Blockers that a rule of another theme judges: permissive policies, shared tables that refer to scoped ones. */
const ruledElsewhere = /is permissive, so it would widen|^is shared, but /;

function classification(relation: Relation, { catalog, model, reach }: StaticFacts): Finding[] {
  if (relation.extension || !holdsRows(relation)) return [];
  const { table } = relation;
  const rule = effectiveRule(model, catalog, relation);
  const open = isOpen(relation, reach);
  if (rule === undefined) {
    if (!model.schemas.includes(relation.schema) && !open) return [];
    const severity = open ? 'critical' : 'medium';
    return [finding('coverage.unknown-table', table, `${table} is not in the model${open ? ', and the application may use it' : ''}`, { severity })];
  }
  if (rule === 'root') return [];
  if (rule.scope === 'unclassified') {
    return [
      finding('coverage.unclassified', table, `${table} is unclassified${open ? ', and the application may use it' : ''}`, {
        severity: open ? 'critical' : 'high',
      }),
    ];
  }
  if (rule.scope === 'scoped' && relation.kind !== 'foreign' && relation.kind !== 'matview' && !columnOf(relation, rule.column)) {
    return [finding('coverage.no-tenant-column', table, `${table} is scoped and has no column ${rule.column}`)];
  }
  return [];
}

/** A foreign table that the model opens is named as a residual instead. */
function foreignTable(relation: Relation, { catalog, model, reach }: StaticFacts): Finding[] {
  if (relation.kind !== 'foreign' || !isOpen(relation, reach)) return [];
  const rule = effectiveRule(model, catalog, relation);
  const intended = rule !== undefined && rule !== 'root' && (rule.scope === 'shared' || (rule.scope === 'platform' && rule.access !== 'none'));
  return intended ? [] : [finding('coverage.foreign-table', relation.table, `the application may use the foreign table ${relation.table}`)];
}

function rowSecurity({ relation, policy, column }: WantedTable, { reach }: StaticFacts): Finding[] {
  const { table } = relation;
  if (!columnOf(relation, column)) return [];
  const open = isOpen(relation, reach);
  if (!relation.rls) {
    const severity = open ? 'critical' : 'medium';
    if (relation.policies.length === 0) return [finding('rls.off', table, `row level security is off on ${table}`, { severity })];
    const evidence = relation.policies.map(({ name }) => name).join(', ');
    return [finding('rls.off-with-policies', table, `${table} has policies, and row level security is off`, { severity, evidence })];
  }
  return [
    ...(relation.policies.some(({ permissive }) => permissive)
      ? []
      : [finding('rls.no-policy', table, `${table} has row level security and no policy that admits rows; wanted ${policy.name}`)]),
    ...(relation.rlsForced ? [] : [finding('rls.not-forced', table, `${relation.owner} owns ${table} and is not bound by its policy`)]),
  ];
}

function reachableChild({ relation, policy }: WantedTable, { wanted, reach, model }: StaticFacts): Finding[] {
  const parent = relation.parents.find((name) => wanted.tables.has(name));
  if (!parent || !isOpen(relation, reach)) return [];
  const walled = relation.rls && relation.policies.some(({ name }) => name === policy.name);
  const grants = [...relation.grants, ...relation.columns.flatMap((column) => column.grants)];
  const evidence = granteeText(
    reached(grants, reach).map((grant) => grant.grantee),
    model.roles.app,
  );
  return [
    finding('rls.child-reachable', relation.table, `${relation.table} can be used past its parent ${parent}`, {
      severity: walled ? 'medium' : 'critical',
      evidence: `granted to ${evidence}`,
    }),
  ];
}

function servers({ catalog, model, reach }: StaticFacts): Finding[] {
  return catalog.foreignServers
    .filter((server) => reached(server.grants, reach).some((grant) => grant.privilege === 'usage'))
    .map(({ name, wrapper }) => finding('coverage.foreign-server', `server ${name}`, `${model.roles.app} may use the foreign server ${name}, of ${wrapper}`));
}

function code({ catalog, reach }: StaticFacts): Finding[] {
  const untrusted = new Set(['c', 'internal', ...catalog.languages.filter((language) => !language.trusted).map((language) => language.name)]);
  const open = catalog.functions.filter((routine) => !routine.returnsTrigger && reached(routine.grants, reach).some((grant) => grant.privilege === 'execute'));
  const extensions = new Map<string, string[]>();
  const findings: Finding[] = [];
  for (const routine of open) {
    const name = `${routine.schema}.${routine.name}(${routine.arguments})`;
    if (routine.extension !== undefined) {
      if (wayOutExtensions.has(routine.extension)) extensions.set(routine.extension, [...(extensions.get(routine.extension) ?? []), name]);
    } else if (untrusted.has(routine.language) && !ofRangeType.test(routine.source)) {
      findings.push(finding('coverage.untrusted-code', `function ${name}`, `the application may call ${name}, in the untrusted language ${routine.language}`));
    }
  }
  for (const [extension, names] of extensions) {
    findings.push(
      finding('coverage.extension', `extension ${extension}`, `the application may call ${names.length} functions of ${extension}`, {
        evidence: names.slice(0, 5).join(', '),
      }),
    );
  }
  return findings;
}

/** Only a superuser can make an event trigger; where the wall was built without one, a residual says so. */
function newTables({ catalog }: StaticFacts): Finding[] {
  if (!canCloseNewTables(catalog) || catalog.runtime?.facts?.['phase'] !== 'contract') return [];
  const trigger = catalog.eventTriggers.find(({ name }) => name === eventTriggerName);
  if (trigger && closesNewTables(trigger)) return [];
  const state = trigger
    ? `calls ${trigger.function} on ${trigger.event} of ${trigger.tags.join(', ') || 'all commands'} and is ${trigger.enabled}`
    : 'is missing';
  return [finding('coverage.event-trigger', `event trigger ${eventTriggerName}`, `the event trigger ${eventTriggerName} ${state}`)];
}

function publications({ catalog }: StaticFacts): Finding[] {
  return catalog.publications
    .filter((publication) => publication.allTables)
    .map(({ name }) => finding('coverage.publication', `publication ${name}`, `publication ${name} sends all tables`));
}
