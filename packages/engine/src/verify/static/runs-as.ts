import type { Catalog, DatabaseFunction, Relation, Trigger } from '../../catalog/catalog.ts';
import { readsScoped, type WantedWall } from '../../wall/shape.ts';
import { type Finding, finding } from '../finding.ts';
import type { Severity } from '../rules/rule-text.ts';
import { bypasses, isOpen, isUnbound, reached, type StaticFacts } from './static-facts.ts';

export function runsAsRules(facts: StaticFacts): Finding[] {
  const { catalog } = facts;
  const byName = new Map(catalog.functions.map((routine) => [`${routine.schema}.${routine.name}`, routine]));
  return [
    ...[...catalog.relations.values()].flatMap((relation) => [...view(relation, facts), ...matview(relation, facts)]),
    ...catalog.functions.flatMap((routine) => definer(routine, facts)),
    ...[...facts.wanted.tables.values()].flatMap(({ relation }) => [
      ...rules(relation),
      ...relation.triggers.flatMap((trigger) => triggers(trigger, relation, byName, facts)),
    ]),
    ...[...catalog.relations.values()].filter((relation) => relation.kind === 'view' && readsScoped(catalog, relation, facts.wanted.tables)).flatMap(rules),
  ];
}

/** Graded by whose eyes the view has. A view that the application cannot reach today is graded low. */
function view(relation: Relation, { catalog, wanted, reach }: StaticFacts): Finding[] {
  if (relation.kind !== 'view' || runsAsCaller(relation) || !readsAsOwner(relation, catalog, wanted)) return [];
  const open = isOpen(relation, reach);
  const unbound = isUnbound(catalog, relation.owner, wanted);
  const severity: Severity = !open ? 'low' : unbound ? 'critical' : 'medium';
  const eyes = bypasses(catalog, relation.owner)
    ? 'whom no policy binds'
    : unbound
      ? 'who owns tables that do not bind their owner'
      : 'whom the policies bind today';
  return [
    finding('view.owner-rights', relation.table, `${relation.table} reads tenant rows as ${relation.owner}, ${eyes}`, {
      severity,
      evidence: open ? 'open to the application' : 'not open to the application',
    }),
  ];
}

/** A view with the caller's rights keeps them also below one without: what it reads is not read as the outer owner. */
function readsAsOwner(view: Relation, catalog: Catalog, wanted: WantedWall): boolean {
  return view.reads.some((table) => {
    const next = catalog.relations.get(table);
    return wanted.tables.has(table) || (next !== undefined && next.kind === 'view' && !runsAsCaller(next) && readsAsOwner(next, catalog, wanted));
  });
}

export function runsAsCaller(view: Relation): boolean {
  return view.options.some((option) => /^security_invoker=(true|on|yes|1)$/i.test(option));
}

function matview(relation: Relation, { catalog, wanted, reach }: StaticFacts): Finding[] {
  if (relation.kind !== 'matview' || !isOpen(relation, reach) || !readsScoped(catalog, relation, wanted.tables)) return [];
  return [finding('matview.readable', relation.table, `the application may read ${relation.table}, which keeps rows of all tenants`)];
}

function definer(routine: DatabaseFunction, { catalog, wanted, reach }: StaticFacts): Finding[] {
  if (!routine.securityDefiner || routine.returnsTrigger) return [];
  if (!reached(routine.grants, reach).some((grant) => grant.privilege === 'execute')) return [];
  const name = functionName(routine);
  const unbound = isUnbound(catalog, routine.owner, wanted);
  const findings = [
    finding(
      'function.definer',
      `function ${name}`,
      `the application may call ${name}, which runs as ${routine.owner}${unbound ? ', whom the wall does not bind' : ''}`,
      {
        severity: unbound ? 'high' : 'medium',
        evidence: routine.settings.join(', ') || 'no settings pinned',
      },
    ),
  ];
  const loose = looseSearchPath(routine, { catalog, reach });
  if (loose) findings.push(finding('function.search-path', `function ${name}`, `${name} runs as ${routine.owner} and ${loose}`));
  return findings;
}

function looseSearchPath(routine: DatabaseFunction, { catalog, reach }: Pick<StaticFacts, 'catalog' | 'reach'>): string | undefined {
  const setting = routine.settings.find((item) => item.startsWith('search_path='));
  if (setting === undefined) return 'pins no search_path';
  const schemas = setting
    .slice('search_path='.length)
    .split(',')
    .map((part) => part.trim().replace(/^"(.*)"$/, '$1'))
    .filter((part) => part !== '');
  if (schemas.length > 0 && schemas.at(-1) !== 'pg_temp') return 'its search_path does not end in pg_temp, so temporary tables come first';
  const writable = schemas.find((name) => reached(catalog.schemas.get(name)?.grants ?? [], reach).some((grant) => grant.privilege === 'create'));
  return writable === undefined ? undefined : `its search_path names ${writable}, where the application may create objects`;
}

function rules(relation: Relation): Finding[] {
  return relation.rules.map((rule) =>
    finding('rule.rewrite', `rule ${rule.name} on ${relation.table}`, `rule ${rule.name} rewrites statements on ${relation.table}`, {
      evidence: rule.definition,
    }),
  );
}

/** Internal triggers of constraints are judged by key.disabled; the wall's own functions are not in the catalog's list. */
function triggers(trigger: Trigger, relation: Relation, byName: ReadonlyMap<string, DatabaseFunction>, { catalog, wanted }: StaticFacts): Finding[] {
  const target = `trigger ${trigger.name} on ${relation.table}`;
  const findings: Finding[] = [];
  if (trigger.enabled === 'disabled' || trigger.enabled === 'replica') {
    findings.push(
      finding(
        'trigger.disabled',
        target,
        `trigger ${trigger.name} on ${relation.table} is ${trigger.enabled === 'disabled' ? 'disabled' : 'for replicas only'}`,
      ),
    );
  }
  const routine = byName.get(trigger.function);
  if (routine?.securityDefiner) {
    const unbound = isUnbound(catalog, routine.owner, wanted);
    findings.push(
      finding('trigger.definer', target, `trigger ${trigger.name} on ${relation.table} runs ${trigger.function} as ${routine.owner}`, {
        severity: unbound ? 'medium' : 'low',
      }),
    );
  }
  return findings;
}

export function functionName(routine: DatabaseFunction): string {
  return `${routine.schema}.${routine.name}(${routine.arguments})`;
}
