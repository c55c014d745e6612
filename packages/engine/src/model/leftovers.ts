import type { Relation } from '../catalog/catalog.ts';
import { asPlatform, byColumn, ownColumnCandidate, sharedCandidate, through, throughReferrer } from './candidates.ts';
import { knownTable } from './known-tables.ts';
import type { TableRule, UnclassifiedRule } from './model.ts';
import { isPeopleTable, isSignInTable } from './people.ts';
import { referenceReason } from './reference-tables.ts';
import { declared, polymorphicPairs, type Reference } from './references.ts';
import { isScopedTable, type Survey } from './survey.ts';
import type { TableName } from './table-name.ts';
import { ownTenantColumn, speaksOfTenant } from './tenant-columns.ts';
import { compact } from './words.ts';

/** More answers than these help nobody. */
const candidatesMax = 6;

/**
 * Rules for the tables that have no tenant column and reach no tenant. Sharing one wrongly shows every tenant's rows to all,
 * so a table is shared on strong evidence alone, and whatever may hold a tenant's rows is left to a person.
 */
export function ruleForLeftover(survey: Survey, relation: Relation): TableRule {
  const references = survey.references.from(relation.table);
  const doubt = tenantDoubt(survey, relation, references);
  if (doubt) return doubt;
  const known = knownTable(relation);
  if (known && known.scope !== 'unclassified') return known;
  const toPeople = references.filter(({ table }) => isPlatformPeople(survey, table));
  if (isSignInTable(relation) && toPeople.length === references.length) {
    return { scope: 'platform', access: 'write', why: 'sign-in, read before any tenant is known; people may belong to several tenants' };
  }
  if (known) return ask(known.why ?? '', [ownColumnCandidate, asPlatform('none', 'closed to the application')]);
  if (isPeopleTable(relation)) {
    return ask('people who sign in, whom nothing ties to a tenant', [asPlatform('write', 'people of the whole platform'), ownColumnCandidate]);
  }
  const shared = sharedReason(survey, relation);
  if (shared !== undefined) return { scope: 'shared', access: 'read', why: shared };
  if (toPeople.length > 0 && toPeople.length === references.length) {
    const whose = [...new Set(toPeople.map(({ table }) => table))].join(', ');
    return ask(`belongs to a person (${whose}), who may be in several tenants`, [
      ownColumnCandidate,
      asPlatform('write', 'rows go with the person, not the tenant'),
      ...offered(references.filter((reference) => !toPeople.includes(reference))),
    ]);
  }
  return openQuestion(survey, relation, references);
}

/** Why a table that nothing leads from may still be a tenant's: what refers to it, and what it refers to. */
function openQuestion(survey: Survey, relation: Relation, references: readonly Reference[]): TableRule {
  const owners = survey.references.to(relation.table).filter(({ from, reference }) => isScopedTable(survey, from) && reference.constraint !== undefined);
  const open = references.filter(({ table }) => !isShared(survey, table) && !isPlatformPeople(survey, table));
  if (owners.length > 0) {
    const names = [...new Set(owners.map(({ from }) => from))];
    return ask(
      `nothing in it leads to a tenant, but ${list(names)} ${names.length === 1 ? 'refers' : 'refer'} to it: its rows may belong to whoever refers to them`,
      [...owners.map(({ from, reference }) => throughReferrer(from, reference)), ...offered(open), sharedCandidate],
    );
  }
  const [unheld] = open.filter(({ table }) => isScopedTable(survey, table));
  if (unheld) {
    const [column] = unheld.columns;
    return ask(`${column} is named after ${unheld.table}, but no foreign key holds it, and small numbers match any table`, [
      ...offered(open),
      ownColumnCandidate,
    ]);
  }
  if (open.length > 0) {
    const tables = list([...new Set(open.map(({ table }) => table))]);
    return ask(`it leads to ${tables}, where no tenant is known for certain`, [...offered(open), sharedCandidate]);
  }
  return ask('nothing in it leads to a tenant, and nothing says that its rows are for everybody', [
    ownColumnCandidate,
    sharedCandidate,
    asPlatform('none', "the operator's own"),
  ]);
}

/** Signs of tenants inside: a pointer, a pair, an array, a child table that names its tenant. */
function tenantDoubt(survey: Survey, relation: Relation, references: readonly Reference[]): UnclassifiedRule | undefined {
  const { root } = survey;
  const own = ownTenantColumn(relation, references, root);
  if (own?.kind === 'pointer' && !isSignInTable(relation)) {
    return ask(`${own.column.name} refers to ${root.table}, but by its name it does not say whose the row is`, [
      byColumn(own.column.name),
      asPlatform('write', 'rows of no one tenant'),
    ]);
  }
  if (own?.kind === 'doubt') return ask(own.why, [...own.columns.map(({ name }) => byColumn(name)), ownColumnCandidate]);
  const child = (survey.followers.get(relation.table) ?? []).find((each) => childNamesTenant(survey, each));
  if (child)
    return ask(`its child ${child.table} names a tenant, and whoever reads it reads the child`, [
      ownColumnCandidate,
      asPlatform('none', 'closed to the application'),
    ]);
  const lists = relation.columns.filter(
    ({ name, type }) => type.endsWith('[]') && (root.names.has(compact(name.replace(/s$/i, ''))) || speaksOfTenant(name, root.names)),
  );
  if (lists[0])
    return ask(`${lists[0].name} lists tenants: one row may belong to several`, [ownColumnCandidate, asPlatform('write', 'rows of several tenants')]);
  const pairs = polymorphicPairs(relation);
  if (pairs[0] && !knownTable(relation)) {
    const reason = `(${pairs[0].type}, ${pairs[0].id}) names the owner in a value, which no foreign key can hold`;
    return ask(reason, [ownColumnCandidate, ...offered(references), asPlatform('none', 'closed to the application')]);
  }
  const documents = relation.columns.filter(({ name, type }) => /^jsonb?$/.test(type) && /(?:tenant|organization|organisation|workspace|owner)/i.test(name));
  if (documents[0])
    return ask(`${documents[0].name} is a document that may name tenants`, [ownColumnCandidate, asPlatform('none', 'closed to the application')]);
  const named = relation.columns.filter((column) => speaksOfTenant(column.name, root.names) && !isKey(relation, column.name));
  if (named[0] && !isSignInTable(relation)) {
    return ask(`${named[0].name} may name a tenant`, [byColumn(named[0].name), ...offered(references), ownColumnCandidate]);
  }
  return undefined;
}

function childNamesTenant(survey: Survey, child: Relation): boolean {
  const references = declared(survey.catalog, child);
  return ownTenantColumn(child, references, survey.root) !== undefined || references.some(({ table }) => isScopedTable(survey, table));
}

function isKey(relation: Relation, column: string): boolean {
  return relation.constraints.some(({ kind, columns }) => kind === 'primary' && columns.length === 1 && columns[0] === column);
}

/** Reference data, and all that it refers to as well. */
export function sharedReason(survey: Survey, relation: Relation, seen: ReadonlySet<TableName> = new Set()): string | undefined {
  if (seen.has(relation.table) || (survey.followers.get(relation.table) ?? []).some((child) => childNamesTenant(survey, child))) return undefined;
  const reason = referenceReason(relation, survey.root.names);
  if (reason === undefined) return undefined;
  const within = new Set([...seen, relation.table]);
  const closed = survey.references.from(relation.table).every(({ table }) => {
    const rule = survey.rules.get(table);
    if (rule) return rule.scope === 'shared';
    const target = survey.tables.get(table);
    return target !== undefined && table !== survey.root.table && sharedReason(survey, target, within) !== undefined;
  });
  return closed ? reason : undefined;
}

function isShared(survey: Survey, table: TableName): boolean {
  return survey.rules.get(table)?.scope === 'shared';
}

function isPlatformPeople(survey: Survey, table: TableName): boolean {
  const relation = survey.tables.get(table);
  return relation !== undefined && survey.rules.get(table)?.scope === 'platform' && (isPeopleTable(relation) || isSignInTable(relation));
}

function offered(references: readonly Reference[]): string[] {
  return references.map(through);
}

function ask(why: string, candidates: readonly string[]): UnclassifiedRule {
  const all = [...new Set(candidates)];
  return { scope: 'unclassified', candidates: all.length > candidatesMax ? [...all.slice(0, candidatesMax - 1), ...all.slice(-1)] : all, why };
}

function list(names: readonly string[]): string {
  return names.length > 3 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
}
