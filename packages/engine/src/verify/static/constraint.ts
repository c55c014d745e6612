import { type Constraint, columnOf, type Relation } from '../../catalog/catalog.ts';
import { effectiveRule, type WantedTable } from '../../wall/shape.ts';
import { type Finding, finding } from '../finding.ts';
import type { StaticFacts } from './static-facts.ts';

export function constraintRules(facts: StaticFacts): Finding[] {
  return [
    ...[...facts.wanted.tables.values()].flatMap((table) => [
      ...table.relation.constraints.flatMap((constraint) => foreignKey(constraint, table, facts)),
      ...tenantReference(table, facts),
      ...uniques(table),
      ...indexes(table.relation),
    ]),
    ...sharedReferences(facts),
    ...facts.server.silentConstraints.map(({ table, constraint }) =>
      finding('key.disabled', `${constraint} on ${table}`, `the triggers behind ${constraint} of ${table} are disabled`),
    ),
  ];
}

function foreignKey(constraint: Constraint, table: WantedTable, { wanted, model }: StaticFacts): Finding[] {
  const { foreign } = constraint;
  const target = foreign && wanted.tables.get(foreign.table);
  if (!foreign || !target || constraint.inherited) return [];
  const { relation, column } = table;
  const name = `${constraint.name} on ${relation.table}`;
  const evidence = constraint.definition;
  const findings: Finding[] = [];
  const toRoot = foreign.table === model.tenant.table;
  const carriesTenant = constraint.columns.some((from, at) => from === column && foreign.columns[at] === target.column);
  if (!toRoot && !carriesTenant)
    findings.push(finding('key.plain', name, `${constraint.name} of ${relation.table} refers to ${foreign.table} without the tenant`, { evidence }));
  // Wanted again although it carries the tenant: its actions reach the tenant column.
  const deleteSets = foreign.onDelete === 'set null' || foreign.onDelete === 'set default';
  const updateSets = foreign.onUpdate === 'set null' || foreign.onUpdate === 'set default';
  const set = [...(deleteSets ? (foreign.setColumns.length > 0 ? foreign.setColumns : constraint.columns) : []), ...(updateSets ? constraint.columns : [])];
  // The tenant column is NOT NULL: a tenant that goes while its rows are there is refused, whatever the key's action is.
  if (!toRoot && set.includes(column))
    findings.push(finding('key.nulls-tenant', name, `${constraint.name} of ${relation.table} changes ${column}`, { evidence }));
  // A reference to other tenants on purpose is a residual, and the application's own.
  if (toRoot && !carriesTenant) return findings;
  if (!constraint.enforced) findings.push(finding('key.not-enforced', name, `${constraint.name} of ${relation.table} is not enforced`, { evidence }));
  else if (!constraint.validated) findings.push(finding('key.not-validated', name, `${constraint.name} of ${relation.table} is not validated`, { evidence }));
  return findings;
}

function tenantReference({ relation, rule, column, rootKey }: WantedTable, { model }: StaticFacts): Finding[] {
  if (!rule || rootKey === undefined || !columnOf(relation, column)) return [];
  const there = relation.constraints.some(
    ({ columns, foreign }) => foreign?.table === model.tenant.table && columns.length === 1 && columns[0] === column && foreign.columns[0] === model.tenant.key,
  );
  return there ? [] : [finding('key.no-root', relation.table, `${column} of ${relation.table} refers to no tenant`)];
}

/** Uniques over all tenants that the model calls global are residuals. */
function uniques({ relation, uniques: wanted }: WantedTable): Finding[] {
  return wanted.map(({ replaces }) =>
    finding(
      'unique.not-per-tenant',
      `${replaces.name} on ${relation.table}`,
      `${replaces.name} of ${relation.table} spans tenants; the model says per tenant`,
      {
        evidence: replaces.definition,
      },
    ),
  );
}

function indexes(relation: Relation): Finding[] {
  return relation.indexes
    .filter((index) => !index.valid)
    .map((index) =>
      finding('index.invalid', `index ${index.name} on ${relation.table}`, `index ${index.name} of ${relation.table} is invalid`, {
        severity: index.unique ? 'medium' : 'low',
        evidence: index.definition,
      }),
    );
}

function sharedReferences({ catalog, model, wanted }: StaticFacts): Finding[] {
  return [...catalog.relations.values()].flatMap((relation) => {
    const rule = effectiveRule(model, catalog, relation);
    if (rule === undefined || rule === 'root' || rule.scope !== 'shared') return [];
    return relation.constraints.flatMap(({ foreign, name, definition }) =>
      foreign && wanted.tables.has(foreign.table) && foreign.table !== model.tenant.table
        ? [
            finding('key.shared-to-scoped', `${name} on ${relation.table}`, `${relation.table} is shared, and ${name} refers to ${foreign.table}`, {
              evidence: definition,
            }),
          ]
        : [],
    );
  });
}
