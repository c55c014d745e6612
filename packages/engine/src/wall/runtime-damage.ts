import type { Catalog, RuntimeFunction, RuntimeRelation, Trigger } from '../catalog/catalog.ts';
import type { TenancyModel } from '../model/model.ts';
import type { TableName } from '../model/table-name.ts';
import type { ContextForm } from './context-sql.ts';
import { eventTrigger, registerTrigger } from './derive-sql.ts';
import { operationsSql } from './operations-sql.ts';
import { putBackSql } from './quarantine.ts';
import { runtimeSql } from './runtime.ts';
import type { WantedWall } from './shape.ts';

/** A function, relation or trigger of the wall that is not as apply makes it. */
export interface Damage {
  readonly kind: 'function changed' | 'function unknown' | 'relation' | 'trigger';
  /** As waivers name it: `function partywall.enter(tenant text, unit text)`, `partywall.registry`, `trigger state_changed on partywall.registry`. */
  readonly target: string;
  /** What is wrong with it, a line each. */
  readonly how: readonly string[];
  /** The phase that makes it as it was; undefined where a person has to. */
  readonly mendedBy: 'expand' | 'contract' | undefined;
}

interface Wanted {
  readonly model: TenancyModel;
  readonly wanted: WantedWall;
  /** How contexts are kept in the database. */
  readonly context: ContextForm;
}

/**
 * Compares schema `partywall` with the statements that make it, which are read for that, so that there is no second list of what the wall
 * consists of. What another version or another model installed differs too: `isInstalledBy` tells the two apart.
 *
 * Not compared: columns, constraints and indexes of the tables, and the body of the orphan summary, which follows references as they are.
 */
export function runtimeDamage(catalog: Catalog, expected: Wanted): Damage[] {
  if (!catalog.runtime) return [];
  const statements = [...runtimeSql(expected.context), ...operationsSql(expected.wanted), ...registerTrigger(expected.model.tenant)];
  return [
    ...functionDamage(catalog, expected.model, statements),
    ...relationDamage(catalog, statements),
    ...triggerDamage(catalog, expected.model, statements),
  ];
}

function functionDamage(catalog: Catalog, model: TenancyModel, statements: readonly string[]): Damage[] {
  const live = catalog.runtime?.functions ?? [];
  const always = statements.flatMap(parseFunction);
  const byContract = eventTrigger(model).flatMap(parseFunction);
  const expected = new Map([...always, ...byContract, ...parseFunction(putBackSql)].map((item) => [item.signature, item]));
  const missing = always.filter((item) => !live.some((routine) => signature(routine.name, routine.types) === item.signature));
  const called = new Set([...catalog.relations.values()].flatMap((relation) => relation.triggers.map((trigger) => trigger.function)));
  return [
    ...missing.map(
      (item): Damage => ({ kind: 'function changed', target: `function partywall.${item.signature}`, how: ['it is missing'], mendedBy: 'expand' }),
    ),
    ...live.flatMap((routine): Damage[] => {
      const target = `function partywall.${routine.name}(${routine.arguments})`;
      const form = expected.get(signature(routine.name, routine.types));
      // What expand made to fill columns is dropped by contract; until then it is no finding of its own.
      if (!form) {
        const fillsColumns = /^pw_(derive|adopt)_/.test(routine.name) && called.has(`partywall.${routine.name}`);
        return fillsColumns ? [] : [{ kind: 'function unknown', target, how: ['Partywall did not install it'], mendedBy: undefined }];
      }
      const head = headDifference(routine, form);
      const how = [...head, ...bodyDifference(routine, form)];
      // CREATE OR REPLACE takes no other result, names or defaults.
      const phase = byContract.includes(form) ? 'contract' : always.includes(form) ? 'expand' : undefined;
      return how.length === 0 ? [] : [{ kind: 'function changed', target, how, mendedBy: head.length === 0 ? phase : undefined }];
    }),
  ];
}

interface FunctionForm {
  /** Name and types: `enter(text, text)`. */
  readonly signature: string;
  readonly declared: string;
  readonly result: string;
  readonly language: string;
  readonly volatility: RuntimeFunction['volatility'];
  readonly securityDefiner: boolean;
  readonly parallelSafe: boolean;
  readonly settings: readonly string[];
  readonly body: string;
}

function headDifference(live: RuntimeFunction, wanted: FunctionForm): string[] {
  return [
    ...(live.kind === 'function' ? [] : [`it is a ${live.kind}`]),
    ...(plainType(live.result) === plainType(wanted.result) ? [] : [`it returns ${live.result}`]),
    ...(plainArguments(live.declared) === plainArguments(wanted.declared) ? [] : [`its arguments are ${live.declared}`]),
  ];
}

function bodyDifference(live: RuntimeFunction, wanted: FunctionForm): string[] {
  const settings = (list: readonly string[]) => list.map((setting) => setting.replaceAll(/["'\s]/g, '')).sort();
  return [
    ...(live.volatility === wanted.volatility ? [] : [`it is ${live.volatility}, not ${wanted.volatility}`]),
    ...(live.securityDefiner === wanted.securityDefiner ? [] : [`security ${live.securityDefiner ? 'definer' : 'invoker'}`]),
    ...((live.parallel === 'safe') === wanted.parallelSafe ? [] : [`parallel ${live.parallel}`]),
    ...(live.language === wanted.language ? [] : [`language ${live.language}`]),
    ...(live.leakproof ? ['it is called leakproof'] : []),
    ...(live.strict ? ['it is strict'] : []),
    ...(settings(live.settings).join() === settings(wanted.settings).join() ? [] : [`settings ${live.settings.join(', ') || 'none'}`]),
    ...(live.name === 'orphaned_rows' || normalBody(live.source) === normalBody(wanted.body) ? [] : ['another body']),
  ];
}

/** Reads a statement that Partywall itself writes; `set` clauses stand between the attributes and the body. */
function parseFunction(statement: string): FunctionForm[] {
  const head = /^create or replace function partywall\.("?)([^"(]+)\1\(([^)]*)\) returns (.*)$/s.exec(statement);
  if (!head) return [];
  const [, , name = '', declared = '', rest = ''] = head;
  const quotedBody = / as (\$pw\d*\$)(.*)\1$/s.exec(rest);
  const body = quotedBody?.[2] ?? /\nreturn .*$/s.exec(rest)?.[0] ?? '';
  const attributes = quotedBody ? rest.slice(0, quotedBody.index) : rest.slice(0, rest.length - body.length);
  const settings = [...attributes.matchAll(/\bset (\w+) = ((?:(?!\bset\b)[^\n])+)/g)].map(([, setting = '', value = '']) => `${setting}=${value.trim()}`);
  const types = declared.split(',').map((argument) => argument.trim().replace(/^\w+ | default .*$/g, ''));
  return [
    {
      signature: signature(name, types.join(', ')),
      declared,
      result: attributes.slice(0, attributes.search(/\slanguage\b/)),
      language: /\blanguage (\w+)/.exec(attributes)?.[1] ?? '',
      volatility: /\bstable\b/.test(attributes) ? 'stable' : /\bimmutable\b/.test(attributes) ? 'immutable' : 'volatile',
      securityDefiner: /\bsecurity definer\b/.test(attributes),
      parallelSafe: /\bparallel safe\b/.test(attributes),
      settings,
      body,
    },
  ];
}

/** `enter(text, text)`; types without lengths, which functions do not keep. */
export function signature(name: string, types: string): string {
  return `${name}(${types.replaceAll(/\(\d+\)/g, '')})`;
}

function plainType(text: string): string {
  return text.toLowerCase().replaceAll(/["\s]|\(\d+\)/g, '');
}

function plainArguments(text: string): string {
  return plainType(text.replaceAll(/::[a-z ]+/g, ''));
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

function relationDamage({ runtime }: Catalog, statements: readonly string[]): Damage[] {
  const expected = statements.flatMap((statement) => {
    const [, kind, name] = /^create (?:or replace )?(table|sequence|view) (?:if not exists )?partywall\.(\w+)/.exec(statement) ?? [];
    return kind === undefined || name === undefined ? [] : [{ kind, name }];
  });
  const live = runtime?.relations ?? [];
  return [
    ...expected.flatMap(({ kind, name }): Damage[] => {
      const found = live.find((relation) => relation.name === name);
      if (found?.kind === kind) return [];
      return [
        {
          kind: 'relation',
          target: `partywall.${name}`,
          how: [found ? `it is a ${found.kind}, not a ${kind}` : 'it is missing'],
          mendedBy: found ? undefined : 'expand',
        },
      ];
    }),
    ...live.flatMap((relation): Damage[] => {
      const how = additions(relation);
      return how.length === 0 ? [] : [{ kind: 'relation', target: `partywall.${relation.name}`, how, mendedBy: undefined }];
    }),
  ];
}

/** What Partywall puts on none of its relations. */
function additions({ rls, rules, children, parents }: RuntimeRelation): string[] {
  return [
    ...(rls ? ['row level security is on'] : []),
    ...rules.map((rule) => `rule ${rule} rewrites statements on it`),
    ...children.map((child) => `the rows of ${child} are read as its own`),
    ...parents.map((parent) => `its rows are read as those of ${parent}`),
  ];
}

/** Of the control plane where that is installed (tenants/directory-sql.ts), so that it may be missing. */
const listTenant =
  'create or replace trigger list_tenant after insert or update or delete on partywall.registry for each row execute function partywall_control.list_tenant()';

function triggerDamage(catalog: Catalog, model: TenancyModel, statements: readonly string[]): Damage[] {
  const root = registerTrigger(model.tenant).flatMap(parseTrigger);
  const registry = statements.flatMap(parseTrigger).filter(({ name }) => !root.some((trigger) => trigger.name === name));
  const live = catalog.runtime?.relations ?? [];
  const onRegistry = live.find(({ name }) => name === 'registry')?.triggers ?? [];
  const onRoot = catalog.relations.get(model.tenant.table)?.triggers ?? [];
  const optional = parseTrigger(listTenant);
  const known = new Set([...registry, ...optional].map(({ name }) => name));
  return [
    ...registry.flatMap((trigger) => triggerOf(trigger, 'partywall.registry', onRegistry)),
    ...optional
      .filter(({ name }) => onRegistry.some((trigger) => trigger.name === name))
      .flatMap((trigger) => triggerOf(trigger, 'partywall.registry', onRegistry)),
    ...root.flatMap((trigger) => triggerOf(trigger, model.tenant.table, onRoot)),
    ...live.flatMap(({ name: relation, triggers }) =>
      triggers
        .filter(({ name }) => relation !== 'registry' || !known.has(name))
        .map(
          (trigger): Damage => ({
            kind: 'relation',
            target: `trigger ${trigger.name} on partywall.${relation}`,
            how: [`Partywall did not make it; it calls ${trigger.function}`],
            mendedBy: undefined,
          }),
        ),
    ),
  ];
}

interface TriggerForm {
  readonly name: string;
  /** When it fires, for which events, for what, and what it calls. */
  readonly form: string;
}

function triggerOf({ name, form }: TriggerForm, table: TableName | 'partywall.registry', live: readonly Trigger[]): Damage[] {
  const found = live.find((trigger) => trigger.name === name);
  const fires = found?.enabled === 'origin' || found?.enabled === 'always';
  if (found && fires && parseTrigger(found.definition)[0]?.form === form) return [];
  const how = !found ? 'it is missing' : !fires ? (found.enabled === 'disabled' ? 'it is disabled' : 'it fires in replicas alone') : 'it is another';
  return [{ kind: 'trigger', target: `trigger ${name} on ${table}`, how: [how], mendedBy: name === 'list_tenant' ? undefined : 'expand' }];
}

/** Reads a statement of Partywall's or `pg_get_triggerdef`, which orders events its own way. A trigger with a condition or for some columns is none of Partywall's here. */
function parseTrigger(statement: string): TriggerForm[] {
  const [, name, timing, events = '', level, routine] =
    /^create (?:or replace )?trigger (\w+) (before|after) ([a-z ]+?) on .* for each (row|statement) execute function ([\w.]+)\(\)$/is.exec(statement) ?? [];
  if (name === undefined) return [];
  const sorted = events.toLowerCase().split(' or ').sort().join(' or ');
  return [{ name, form: `${timing} ${sorted} ${level} ${routine}`.toLowerCase() }];
}
