import { columnOf, type Policy, type Relation } from '../../catalog/catalog.ts';
import { observePolicyName } from '../../wall/runtime/rollout-sql.ts';
import { hasLeadingIndex, sameExpression, tenantDefault, type WantedTable } from '../../wall/shape.ts';
import { type Finding, type FindingDetail, finding } from '../finding.ts';
import type { FindingRuleId } from '../rules/rules.ts';
import type { StaticFacts } from './static-facts.ts';

export function policyRules(facts: StaticFacts): Finding[] {
  return [...facts.wanted.tables.values()].flatMap((table) => [...policies(table, facts), ...tenantColumnRules(table, facts)]);
}

/**
 * A restrictive policy only narrows, so it may stay. Of the permissive ones, one is the wall's (by name, by body, or the only one)
 * and is compared with the canonical form; every other one widens it.
 */
function policies(table: WantedTable, facts: StaticFacts): Finding[] {
  const permissive = table.relation.policies.filter((policy) => policy.permissive);
  const main =
    permissive.find((policy) => policy.name === table.policy.name) ??
    permissive.find((policy) => sameExpression(policy.using, table.policy.stored)) ??
    permissive.find((policy) => policy.name !== observePolicyName) ??
    permissive[0];
  if (!main) return [];
  const others = permissive.filter((policy) => policy !== main);
  return [
    ...judge(main, table, facts),
    ...others.map((policy) => (isOpening(policy, facts) ? opened(table.relation) : widening(policy, table.relation, facts))),
  ];
}

/** What `partywall rollout observe --table` makes, and nothing that only has its name. */
function isOpening({ name, command, roles, using, check }: Policy, { model }: StaticFacts): boolean {
  return name === observePolicyName && command === 'all' && roles.join() === model.roles.app && using === 'true' && check === 'true';
}

function opened({ table }: Relation): Finding {
  return finding('policy.observed-table', table, `${table} is open to the application of every tenant: a roll-out observes it`);
}

function judge(policy: Policy, table: WantedTable, { reach }: StaticFacts): Finding[] {
  const { relation, policy: wanted } = table;
  const found = (rule: FindingRuleId, message: string, detail: FindingDetail) => finding(rule, nameOf(policy, relation), message, detail);
  const findings: Finding[] = [];
  const usingRight = sameExpression(policy.using, wanted.stored);
  if (policy.command !== 'all') {
    findings.push(found('policy.wrong-command', `${nameOf(policy, relation)} is for ${policy.command} only`, { evidence: policy.command }));
  }
  if (!policy.roles.includes('public')) {
    const severity = policy.roles.some((role) => reach.grantees.has(role)) ? 'medium' : 'high';
    findings.push(found('policy.wrong-role', `${nameOf(policy, relation)} is for ${policy.roles.join(', ')} only`, { severity }));
  }
  if (!usingRight && (policy.using !== undefined || policy.command !== 'insert'))
    findings.push(found(ruleOfBody(policy.using), bodyText(policy, relation), { evidence: policy.using }));
  // Without WITH CHECK an ALL or UPDATE policy checks by USING.
  if (policy.check !== undefined && !sameExpression(policy.check, wanted.stored) && policy.check !== policy.using) {
    findings.push(found('policy.weak-check', `${nameOf(policy, relation)} checks written rows by another expression`, { evidence: policy.check }));
  }
  if (findings.length === 0 && policy.name !== wanted.name) {
    findings.push(found('policy.renamed', `${nameOf(policy, relation)} should be named ${wanted.name}`, {}));
  }
  return findings;
}

function ruleOfBody(body: string | undefined): FindingRuleId {
  if (body === undefined) return 'policy.changed';
  const foreignSetting = /current_setting\(/i.test(body) || /\b(current_user|session_user|pg_has_role)\b/i.test(body);
  if (foreignSetting) return 'policy.forgeable';
  return /\bselect\b/i.test(body) ? 'policy.subquery' : 'policy.changed';
}

function bodyText(policy: Policy, relation: Relation): string {
  return `${nameOf(policy, relation)} has a body that is not the wall's`;
}

function widening(policy: Policy, relation: Relation, { reach, model }: StaticFacts): Finding {
  const applies = policy.roles.some((role) => reach.grantees.has(role));
  const rule = policy.using !== undefined && ruleOfBody(policy.using) === 'policy.forgeable' ? 'policy.forgeable' : 'policy.second-permissive';
  const who = applies ? '' : `, for ${policy.roles.join(', ')} and not for ${model.roles.app}`;
  return finding(rule, nameOf(policy, relation), `${nameOf(policy, relation)} widens the wall${who}`, {
    severity: applies ? 'critical' : 'medium',
    evidence: [policy.using && `using ${policy.using}`, policy.check && `with check ${policy.check}`].filter(Boolean).join(' '),
  });
}

function nameOf(policy: Policy, relation: Relation): string {
  return `policy "${policy.name}" on ${relation.table}`;
}

function tenantColumnRules({ relation, rule, column }: WantedTable, { model, catalog }: StaticFacts): Finding[] {
  const live = columnOf(relation, column);
  if (!live || !rule) return [];
  const { table } = relation;
  const findings: Finding[] = [];
  if (!live.notNull) findings.push(finding('tenant.nullable', table, `${column} of ${table} takes NULL`));
  if (live.default !== undefined && live.default !== tenantDefault) {
    const bootstrap = model.bootstrap !== undefined && live.default.includes(model.bootstrap);
    findings.push(
      finding(
        'tenant.default',
        table,
        `${column} of ${table} defaults to ${bootstrap ? 'the bootstrap tenant' : 'something other than the context’s tenant'}`,
        {
          evidence: live.default,
        },
      ),
    );
  }
  if (rule.added && live.default === undefined && !relation.isPartition) {
    findings.push(finding('tenant.no-default', table, `${column} of ${table} was added by the wall and has no default`));
  }
  const inherits = relation.isPartition && relation.parents.some((parent) => leads(catalog.relations.get(parent), column));
  if (!inherits && !leads(relation, column)) findings.push(finding('tenant.no-index', table, `no index of ${table} leads with ${column}`));
  return findings;
}

function leads(relation: Relation | undefined, column: string): boolean {
  return relation !== undefined && hasLeadingIndex(relation, column);
}
