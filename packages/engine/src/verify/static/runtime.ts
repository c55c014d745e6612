import type { Catalog, Relation, RuntimeFunction } from '../../catalog/catalog.ts';
import { partsOf } from '../../model/table-name.ts';
import { installSql, isInstalledBy } from '../../wall/installed-runtime.ts';
import { observingFact } from '../../wall/runtime/rollout-sql.ts';
import { appFunctions, sealedFact, unsealedFunctions } from '../../wall/runtime.ts';
import { type Damage, runtimeDamage, signature } from '../../wall/runtime-damage.ts';
import { type Finding, finding } from '../finding.ts';
import type { Severity } from '../rules/rule-text.ts';
import type { FindingRuleId } from '../rules/rules.ts';
import { runsAsCaller } from './runs-as.ts';
import { granteeText, installedContext, isOpen, reached, reachOf, type StaticFacts } from './static-facts.ts';

/** What the application may call in schema `partywall`, by name and types of arguments. */
const openToApp: ReadonlySet<string> = new Set(appFunctions);
const closedBySeal: ReadonlySet<string> = new Set(unsealedFunctions);

export function runtimeRules(facts: StaticFacts): Finding[] {
  const { catalog } = facts;
  const { runtime } = catalog;
  if (!runtime?.functions.some(({ name }) => name === 'tenant_id') && !runtime?.relations.some(({ name }) => name === 'registry')) {
    return [finding('runtime.missing', 'schema partywall', 'schema partywall is not installed')];
  }
  const statements = installSql(facts.model, catalog, facts.wanted);
  const findings: Finding[] = [...damages(facts, statements), ...owners(facts), ...openFunctions(facts, statements), ...openRelations(facts)];
  // A reader that may not see the facts cannot say which phase they name.
  if (runtime.facts && runtime.facts['phase'] !== 'contract') {
    findings.push(
      finding('runtime.phase', 'schema partywall', `the wall is in phase ${JSON.stringify(runtime.facts['phase'] ?? null)}; contract has not been recorded`),
    );
  }
  if (runtime.facts?.[observingFact] === true) {
    findings.push(finding('runtime.observing', 'schema partywall', 'a roll-out observes tenants: processes that follow it serve them past the wall'));
  }
  return findings;
}

/** Rules by what was found to be wrong with schema `partywall`. */
const damageRules = {
  'function changed': 'runtime.function-changed',
  'function unknown': 'runtime.function-unknown',
  relation: 'runtime.relation-changed',
  trigger: 'runtime.trigger',
} as const satisfies Record<Damage['kind'], FindingRuleId>;

function damages(facts: StaticFacts, statements: readonly string[]): Finding[] {
  const { catalog, model, wanted } = facts;
  const isOlder = catalog.runtime?.facts !== undefined && !isInstalledBy(statements, catalog);
  const brought = isOlder ? ['installed by another version or for another model: `partywall apply --phase expand` brings it up to date'] : [];
  return runtimeDamage(catalog, { model, wanted, context: installedContext(facts) }).map(({ kind, target, how }) =>
    finding(damageRules[kind], target, `${target} is not as Partywall makes it: ${how.join('; ')}`, { evidence: brought.join() || undefined }),
  );
}

/** Whoever owns an object of the wall can change it. An apply by another superuser leaves two owners, who are equals. */
function owners({ catalog, model }: StaticFacts): Finding[] {
  const { runtime } = catalog;
  if (!runtime) return [];
  // What the application owns is judged as that.
  const strange = (owner: string): boolean => owner !== model.roles.app && !actsAsOwner(catalog, owner);
  const message = (target: string, owner: string): string => `${target} belongs to ${owner}, and schema partywall to ${runtime.owner}`;
  return [
    ...runtime.functions
      .filter(({ owner }) => strange(owner))
      .map((routine) => {
        const target = `function partywall.${routine.name}(${routine.arguments})`;
        return finding('runtime.owner', target, message(target, routine.owner));
      }),
    ...runtime.relations
      .filter(({ owner }) => strange(owner))
      .map(({ name, owner }) => finding('runtime.owner', `partywall.${name}`, message(`partywall.${name}`, owner))),
  ];
}

/** Superusers, the owner of schema `partywall`, and who can become that one. */
function actsAsOwner(catalog: Catalog, role: string): boolean {
  const owner = catalog.runtime?.owner;
  return role === owner || catalog.roles.get(role)?.superuser === true || (owner !== undefined && reachOf(catalog, role).becomes.has(owner));
}

function openFunctions({ reach, model, catalog }: StaticFacts, statements: readonly string[]): Finding[] {
  const sealed = catalog.runtime?.facts?.[sealedFact] !== undefined;
  const isInstalled = grantsOf(statements);
  return (catalog.runtime?.functions ?? []).flatMap((routine) => {
    const own = signature(routine.name, routine.types);
    const name = `partywall.${routine.name}(${routine.arguments})`;
    const grants = routine.grants.filter((grant) => grant.privilege === 'execute');
    const app = reached(grants, reach);
    const bySeal = sealed && closedBySeal.has(own);
    const forApp = openToApp.has(own);
    const excess = bySeal ? [] : app.filter(({ grantee, grantable }) => grantee === 'public' || grantable || !forApp);
    const others = grants.filter(({ grantee }) => !reach.grantees.has(grantee) && !isInstalled(grantee, own) && isStranger(catalog, grantee));
    const who = [...(excess.length > 0 ? [granteeText(granteesOf(excess), model.roles.app)] : []), ...granteesOf(others)].join(', ');
    return [
      ...(bySeal && app.length > 0
        ? [finding('runtime.seal-open', `function ${name}`, `the database is sealed, and ${granteeText(granteesOf(app), model.roles.app)} may call ${name}`)]
        : []),
      ...(who === ''
        ? []
        : [finding('runtime.function-open', `function ${name}`, `${who} may call ${name}`, { severity: openSeverity(routine, forApp, excess.length > 0) })]),
    ];
  });
}

function openSeverity(routine: RuntimeFunction, forApp: boolean, byApp: boolean): Severity {
  if (forApp) return 'low';
  return routine.returnsTrigger ? 'medium' : byApp ? 'critical' : 'high';
}

function granteesOf(grants: readonly { readonly grantee: string }[]): string[] {
  return [...new Set(grants.map(({ grantee }) => grantee))];
}

/** Who is given which functions, read from the statements that give them. */
function grantsOf(statements: readonly string[]): (role: string, routine: string) => boolean {
  const given = new Set<string>();
  for (const [, list = '', role = ''] of statements.join('\n').matchAll(/grant execute on ([^;\n]*?) to "((?:[^"]|"")+)"/g)) {
    const name = role.replaceAll('""', '"');
    const functions = [...list.matchAll(/partywall\.(\w+)\(([^)]*)\)/g)].map(([, routine = '', types = '']) => signature(routine, types));
    for (const routine of list === 'all functions in schema partywall' ? ['*'] : functions) given.add(`${routine} ${name}`);
  }
  return (role, routine) => given.has(`${routine} ${role}`) || given.has(`* ${role}`);
}

/** Not one who may do everything in schema `partywall` anyway, and not a role that only functions run as: one that nobody can log in as or become. */
function isStranger(catalog: Catalog, role: string): boolean {
  if (actsAsOwner(catalog, role)) return false;
  const members = [...catalog.roles.values()].filter(({ memberOf }) => memberOf.some((membership) => membership.role === role));
  return catalog.roles.get(role)?.login !== false || members.some(({ name }) => !actsAsOwner(catalog, name));
}

function openRelations(facts: StaticFacts): Finding[] {
  const { catalog, server, reach, model } = facts;
  const relations = (catalog.runtime?.relations ?? []).flatMap((relation) => {
    const open = reached(relation.grants, reach);
    // Whoever has a key of the seal enters every tenant; everything else may be shown to other roles.
    const others = relation.name === 'seal_keys' ? granteesOf(relation.grants).filter((role) => !reach.grantees.has(role) && isStranger(catalog, role)) : [];
    const what = relation.owner === model.roles.app ? 'owns' : [...new Set(open.map((grant) => grant.privilege))].join(', ');
    const who = [...(what === '' ? [] : [`the application has ${what}`]), ...(others.length > 0 ? [`${others.join(', ')} may use it`] : [])].join('; ');
    return who === '' ? [] : [finding('runtime.registry-open', `partywall.${relation.name}`, `partywall.${relation.name} is not closed: ${who}`)];
  });
  const create = reached(server.runtimeSchemaGrants, reach).filter((grant) => grant.privilege === 'create');
  return [
    ...relations,
    ...(create.length === 0 ? [] : [finding('runtime.registry-open', 'schema partywall', 'the application may create objects in schema partywall')]),
    ...openViews(facts),
  ];
}

/** Views of other schemas that show the application what lies in schema `partywall`, as their owners see it. */
function openViews({ catalog, reach }: StaticFacts): Finding[] {
  const reads = (relation: Relation): boolean =>
    !(relation.kind === 'view' && runsAsCaller(relation)) &&
    relation.reads.some((table) => {
      const next = catalog.relations.get(table);
      return partsOf(table).schema === 'partywall' || (next !== undefined && reads(next));
    });
  return [...catalog.relations.values()]
    .filter((relation) => isOpen(relation, reach) && reads(relation))
    .map(({ table, owner }) => finding('runtime.registry-open', table, `the application reads what lies in schema partywall as ${owner}, by ${table}`));
}
