import type { Grant, Relation } from '../../catalog/catalog.ts';
import { appPrivileges } from '../../wall/grants.ts';
import { effectiveRule } from '../../wall/shape.ts';
import { type Finding, finding } from '../finding.ts';
import type { FindingRuleId } from '../rules/rules.ts';
import { granteeText, isOpen, reached, type StaticFacts } from './static-facts.ts';

const rowPrivileges = new Set(['select', 'insert', 'update', 'delete']);
const beyondRows: Readonly<Record<string, FindingRuleId>> = {
  truncate: 'privilege.truncate',
  references: 'privilege.references',
  trigger: 'privilege.trigger',
  maintain: 'privilege.maintain',
};

export function privilegeRules(facts: StaticFacts): Finding[] {
  return [...[...facts.catalog.relations.values()].flatMap((relation) => relationPrivileges(relation, facts)), ...sequences(facts), ...standing(facts)];
}

/** Privileges on rows of partitions, children, foreign tables and materialised views are judged by the rules that say why they are closed. */
function relationPrivileges(relation: Relation, facts: StaticFacts): Finding[] {
  if (relation.extension || !isOpen(relation, facts.reach)) return [];
  const { reach, model } = facts;
  const { app } = model.roles;
  const { table } = relation;
  const grants = reached(relation.grants, reach);
  const findings: Finding[] = [];
  const report = (rule: FindingRuleId, of: readonly Grant[], message: string) => {
    if (of.length === 0) return;
    const evidence = `${[...new Set(of.map((grant) => grant.privilege))].join(', ')} to ${granteeText(
      of.map((grant) => grant.grantee),
      app,
    )}`;
    findings.push(finding(rule, table, message, { evidence }));
  };
  for (const [privilege, rule] of Object.entries(beyondRows)) {
    const of = grants.filter((grant) => grant.privilege === privilege && grant.grantee !== 'public');
    report(rule, of, `${app} has ${privilege.toUpperCase()} on ${table}`);
  }
  const everyone = grants.filter((grant) => grant.grantee === 'public');
  report('privilege.public', everyone, `everyone has ${privilegeText(everyone)} on ${table}`);
  report(
    'privilege.grant-option',
    grants.filter((grant) => grant.grantable),
    `${app} may pass on its privileges on ${table}`,
  );
  if (!judgesRows(relation, facts)) return findings;
  const allowed = appPrivileges(model, facts.catalog, relation, facts.wanted);
  const excess = grants.filter((grant) => grant.grantee !== 'public' && rowPrivileges.has(grant.privilege) && !allowed.includes(grant.privilege));
  report('privilege.excess', excess, `${app} may ${privilegeText(excess)} on ${table}, which the model does not give it`);
  for (const column of relation.columns) {
    const excess = reached(column.grants, reach).filter((grant) => grant.grantable || grant.grantee === 'public' || !allowed.includes(grant.privilege));
    if (excess.length === 0) continue;
    findings.push(
      finding('privilege.column', `column ${column.name} of ${table}`, `${app} has ${privilegeText(excess)} on column ${column.name} of ${table}`, {
        evidence: granteeText(
          excess.map((grant) => grant.grantee),
          app,
        ),
      }),
    );
  }
  return findings;
}

function judgesRows(relation: Relation, { model, catalog, wanted }: StaticFacts): boolean {
  if (relation.parents.some((parent) => wanted.tables.has(parent)) || relation.kind === 'foreign' || relation.kind === 'matview') return false;
  if (relation.kind === 'view') return model.schemas.includes(relation.schema);
  const rule = effectiveRule(model, catalog, relation);
  return rule !== undefined && (rule === 'root' || rule.scope !== 'unclassified');
}

function privilegeText(grants: readonly Grant[]): string {
  return [...new Set(grants.map((grant) => grant.privilege.toUpperCase()))].join(', ');
}

function sequences({ catalog, reach, model }: StaticFacts): Finding[] {
  return catalog.sequences.flatMap((sequence) => {
    const excess = reached(sequence.grants, reach).filter((grant) => grant.privilege !== 'usage' || grant.grantee === 'public' || grant.grantable);
    if (excess.length === 0) return [];
    const name = `${sequence.schema}.${sequence.name}`;
    return [
      finding('privilege.sequence', `sequence ${name}`, `${model.roles.app} has ${privilegeText(excess)} on sequence ${name}`, {
        evidence: granteeText(
          excess.map((grant) => grant.grantee),
          model.roles.app,
        ),
      }),
    ];
  });
}

/**
 * Functions start with EXECUTE for everyone, so that a grant to everyone opens nothing; the application's own outlives a REVOKE from everyone,
 * which is how functions with lent rights, and those of schema `partywall`, are closed.
 */
function standing({ catalog, reach }: StaticFacts): Finding[] {
  return catalog.defaultPrivileges.flatMap((entry) => {
    const { objects } = entry;
    if (objects !== 'tables' && objects !== 'sequences' && objects !== 'schemas' && objects !== 'functions') return [];
    const open = reached(entry.grants, reach).filter(({ grantee }) => objects !== 'functions' || grantee !== 'public');
    if (open.length === 0) return [];
    const where = entry.schema === undefined ? 'any schema' : `schema ${entry.schema}`;
    return [
      finding(
        'privilege.default',
        `default privileges of ${entry.role} on ${entry.objects} in ${where}`,
        `${entry.objects} that ${entry.role} will make in ${where} are open to the application`,
        {
          evidence: open.map((grant) => `${grant.privilege} to ${grant.grantee}`).join(', '),
        },
      ),
    ];
  });
}
