import type { DatabaseFunction } from '../../catalog/catalog.ts';
import { eventTrigger, registerTrigger, registerTriggerName } from '../../wall/derive-sql.ts';
import { operationsSql } from '../../wall/operations-sql.ts';
import { putBackSql } from '../../wall/quarantine.ts';
import { observingFact } from '../../wall/runtime/rollout-sql.ts';
import { appFunctions, runtimeSql, sealedFact, unsealedFunctions } from '../../wall/runtime.ts';
import { type Finding, finding } from '../finding.ts';
import { granteeText, installedContext, reached, type StaticFacts } from './static-facts.ts';

/** What the application may call in schema `partywall`, by name and number of arguments. */
const openToApp = signatures(appFunctions);
const closedBySeal = signatures(unsealedFunctions);
/** The function that keeps older snapshots from seeing a changed state too late. */
const stateTriggerFunction = 'partywall.state_changed';

export function runtimeRules(facts: StaticFacts): Finding[] {
  const { catalog } = facts;
  const { runtime } = catalog;
  if (!runtime?.functions.some((routine) => routine.name === 'tenant_id')) {
    return [finding('runtime.missing', 'schema partywall', 'schema partywall is not installed')];
  }
  const findings: Finding[] = [...functions(runtime.functions, facts), ...openFunctions(runtime.functions, facts), ...openRelations(facts), ...triggers(facts)];
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

interface ExpectedFunction {
  /** Name and number of arguments. */
  readonly signature: string;
  readonly language: string;
  readonly volatility: DatabaseFunction['volatility'];
  readonly securityDefiner: boolean;
  readonly parallelSafe: boolean;
  readonly settings: readonly string[];
  readonly body: string;
}

function functions(live: readonly DatabaseFunction[], facts: StaticFacts): Finding[] {
  const { model, wanted } = facts;
  const statements = [...runtimeSql(installedContext(facts)), ...operationsSql(wanted), ...registerTrigger(model.tenant), ...eventTrigger(model), putBackSql];
  const expected = new Map(statements.flatMap((statement) => parseFunction(statement) ?? []).map((item) => [item.signature, item]));
  return live.flatMap((routine) => {
    const target = `function partywall.${routine.name}(${routine.arguments})`;
    const wantedForm = expected.get(signature(routine.name, routine.arguments));
    // What expand made to fill columns is dropped by contract; until then it is no finding of its own.
    if (!wantedForm)
      return /^pw_(derive|adopt)_/.test(routine.name) ? [] : [finding('runtime.function-unknown', target, `Partywall did not install ${target}`)];
    const differs = difference(routine, wantedForm);
    return differs.length === 0
      ? []
      : [finding('runtime.function-changed', target, `${target} differs from what Partywall installs`, { evidence: differs.join('; ') })];
  });
}

function difference(live: DatabaseFunction, wanted: ExpectedFunction): string[] {
  const settings = (list: readonly string[]) => list.map((setting) => setting.replaceAll(/["'\s]/g, '')).sort();
  return [
    ...(live.volatility === wanted.volatility ? [] : [`it is ${live.volatility}, not ${wanted.volatility}`]),
    ...(live.securityDefiner === wanted.securityDefiner ? [] : [`security ${live.securityDefiner ? 'definer' : 'invoker'}`]),
    ...((live.parallel === 'safe') === wanted.parallelSafe ? [] : [`parallel ${live.parallel}`]),
    ...(live.language === wanted.language ? [] : [`language ${live.language}`]),
    ...(live.leakproof ? ['it is called leakproof'] : []),
    ...(settings(live.settings).join() === settings(wanted.settings).join() ? [] : [`settings ${live.settings.join(', ') || 'none'}`]),
    // The orphan summary follows references as they are; a body that is behind them is no gap in the wall.
    ...(live.name === 'orphaned_rows' || normalBody(live.source) === normalBody(wanted.body) ? [] : ['another body']),
  ];
}

/** Reads a statement that Partywall itself writes; `set` clauses stand between the attributes and the body. */
function parseFunction(statement: string): ExpectedFunction | undefined {
  const head = /^create or replace function partywall\.("?)([^"(]+)\1\(([^)]*)\) returns (.*)$/s.exec(statement);
  if (!head) return undefined;
  const [, , name = '', given = '', rest = ''] = head;
  const quotedBody = / as (\$pw\d*\$)(.*)\1$/s.exec(rest);
  const body = quotedBody?.[2] ?? /\nreturn .*$/s.exec(rest)?.[0] ?? '';
  const attributes = quotedBody ? rest.slice(0, quotedBody.index) : rest.slice(0, rest.length - body.length);
  const settings = [...attributes.matchAll(/\bset (\w+) = ((?:(?!\bset\b)[^\n])+)/g)].map(([, setting = '', value = '']) => `${setting}=${value.trim()}`);
  return {
    signature: signature(name, given),
    language: /\blanguage (\w+)/.exec(attributes)?.[1] ?? '',
    volatility: /\bstable\b/.test(attributes) ? 'stable' : /\bimmutable\b/.test(attributes) ? 'immutable' : 'volatile',
    securityDefiner: /\bsecurity definer\b/.test(attributes),
    parallelSafe: /\bparallel safe\b/.test(attributes),
    settings,
    body,
  };
}

function signatures(functions: readonly string[]): ReadonlySet<string> {
  return new Set(functions.map((text) => signature(text.slice(0, text.indexOf('(')), text.slice(text.indexOf('(') + 1, -1))));
}

/** `enter/1`: overloads differ in how much they are given. */
function signature(name: string, list: string): string {
  return `${name}/${list.trim() === '' ? 0 : list.split(',').length}`;
}

/**
 * A SQL body is stored as a parse tree and printed with casts, parentheses and qualified names of the server's choosing: those are
 * taken off both sides, and so is OPERATOR() around an operator. Other bodies are stored as written.
 */
function normalBody(body: string): string {
  if (!/^\s*return\b/i.test(body)) return body;
  return body
    .toLowerCase()
    .replaceAll('pg_catalog.', '')
    .replaceAll(/operator\(([^)]*)\)/g, '$1')
    .replaceAll(/::text|[()\s;]/g, '');
}

function openFunctions(live: readonly DatabaseFunction[], { reach, model, catalog }: StaticFacts): Finding[] {
  const sealed = catalog.runtime?.facts?.[sealedFact] !== undefined;
  return live.flatMap((routine) => {
    const name = `partywall.${routine.name}(${routine.arguments})`;
    if (sealed && closedBySeal.has(signature(routine.name, routine.arguments))) {
      const open = reached(routine.grants, reach).filter((grant) => grant.privilege === 'execute');
      const who = granteeText(
        open.map((grant) => grant.grantee),
        model.roles.app,
      );
      return open.length === 0 ? [] : [finding('runtime.seal-open', `function ${name}`, `the database is sealed, and ${who} may call ${name}`)];
    }
    const forApp = openToApp.has(signature(routine.name, routine.arguments));
    const open = reached(routine.grants, reach).filter((grant) => grant.privilege === 'execute' && (grant.grantee === 'public' || !forApp));
    if (open.length === 0) return [];
    const severity = forApp ? 'low' : routine.returnsTrigger ? 'medium' : 'critical';
    const who = granteeText(
      open.map((grant) => grant.grantee),
      model.roles.app,
    );
    return [finding('runtime.function-open', `function ${name}`, `${who} may call ${name}`, { severity })];
  });
}

function openRelations({ server, reach, model }: StaticFacts): Finding[] {
  const relations = server.runtimeRelations.flatMap((relation) => {
    const open = reached(relation.grants, reach);
    if (open.length === 0 && relation.owner !== model.roles.app) return [];
    const what = relation.owner === model.roles.app ? 'owns' : [...new Set(open.map((grant) => grant.privilege))].join(', ');
    return [finding('runtime.registry-open', `partywall.${relation.name}`, `the application has ${what} on partywall.${relation.name}`)];
  });
  const create = reached(server.runtimeSchemaGrants, reach).filter((grant) => grant.privilege === 'create');
  return create.length === 0
    ? relations
    : [...relations, finding('runtime.registry-open', 'schema partywall', 'the application may create objects in schema partywall')];
}

function triggers({ catalog, model, server }: StaticFacts): Finding[] {
  const root = catalog.relations.get(model.tenant.table);
  const register = root?.triggers.find((trigger) => trigger.name === registerTriggerName);
  const findings: Finding[] = [];
  if (register?.function !== 'partywall.register_tenant') {
    findings.push(finding('runtime.trigger', `trigger ${registerTriggerName} on ${model.tenant.table}`, `${model.tenant.table} does not register its tenants`));
  }
  if (!server.registryTriggers.some((trigger) => trigger.function === stateTriggerFunction && trigger.enabled)) {
    findings.push(
      finding('runtime.trigger', 'trigger state_changed on partywall.registry', 'changes of a tenant’s state are not announced to older snapshots'),
    );
  }
  return findings;
}
