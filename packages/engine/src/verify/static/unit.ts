import type { Policy } from '../../catalog/catalog.ts';
import { unitKeys } from '../../model/unit.ts';
import { unitPoliciesFor } from '../../wall/runtime/rollout-sql.ts';
import type { WantedTable } from '../../wall/shape.ts';
import { isUnitPolicy } from '../../wall/unit-policies.ts';
import { type Finding, finding } from '../finding.ts';
import type { StaticFacts } from './static-facts.ts';

/** Tables whose rows belong to units: their restrictive policies, and the key that holds the unit. */
export function unitTableRules(facts: StaticFacts): Finding[] {
  return [...facts.wanted.tables.values()].flatMap((table) => [...unitPolicies(table, facts), ...unitKey(table, facts)]);
}

/** A policy of another name that does the same is as good; one of the name that does something else is worse than it looks. */
function unitPolicies({ relation, unit }: WantedTable, { model }: StaticFacts): Finding[] {
  return (unit?.policies ?? []).flatMap((wanted) => {
    if (relation.policies.some((policy) => isUnitPolicy(policy, wanted, unitPoliciesFor(relation, model)))) return [];
    const named = relation.policies.find(({ name }) => name === wanted.name);
    const forWhat = wanted.command === 'all' ? '' : ` for ${wanted.command}`;
    return named
      ? [
          finding('unit.changed-policy', `policy "${named.name}" on ${relation.table}`, `policy "${named.name}" on ${relation.table} is not the unit’s`, {
            evidence: text(named),
          }),
        ]
      : [finding('unit.no-policy', relation.table, `${relation.table} has no policy of units${forWhat}; wanted ${wanted.name}`)];
  });
}

/** A key without the tenant is judged with all others. */
function unitKey({ relation, unit }: WantedTable, { model, catalog }: StaticFacts): Finding[] {
  if (!unit || !model.unit || relation.table === model.unit.table || unitKeys(catalog, relation, unit.column, model.unit).length > 0) return [];
  return [finding('unit.no-key', relation.table, `no foreign key holds ${unit.column} of ${relation.table}`)];
}

function text({ permissive, command, roles, using, check }: Policy): string {
  const said = [using === undefined ? '' : ` using ${using}`, check === undefined ? '' : ` with check ${check}`].join('');
  return `${permissive ? 'permissive' : 'restrictive'} for ${command} to ${roles.join(', ')}${said}`;
}
