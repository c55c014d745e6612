import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { archiveRules } from './archive.ts';
import { asPlatform, byColumn, ownColumnCandidate } from './candidates.ts';
import { inferControl } from './infer-control.ts';
import { isToolTable, toolRule } from './known-tables.ts';
import { ruleForLeftover } from './leftovers.ts';
import { followers, governing, listedTables } from './listed-tables.ts';
import { belongsToSeveral } from './memberships.ts';
import type { ScopedRule, TableRule, TenancyModel } from './model.ts';
import { reachTenants } from './ownership.ts';
import { isPeopleTable } from './people.ts';
import { proposeUnits } from './propose-units.ts';
import { type Reference, readReferences } from './references.ts';
import { rootStatus } from './root-status.ts';
import { isScopedTable, liveTenantColumn, type Survey } from './survey.ts';
import type { TableName } from './table-name.ts';
import { ownTenantColumn } from './tenant-columns.ts';
import { findRoot } from './tenant-root.ts';
import { judgeUniques, outsiders } from './uniques.ts';
import { wallRoles } from './wall-roles.ts';
import { compact } from './words.ts';

export interface InferOptions {
  /** The tenant root, where names and references do not decide it. */
  readonly root?: TableName;
  /** A model that a person has worked on: its answers are facts, only what it does not answer is inferred. */
  readonly existing?: TenancyModel;
  /** Key of the tenant that owns all rows so far: tables that lead nowhere are then its own. */
  readonly bootstrap?: string;
}

export interface InferredModel {
  readonly model: TenancyModel;
  /** Reasons of the lines that are not tables; tables carry theirs in their rule. */
  readonly why: {
    readonly tenant: string;
    readonly column: string;
    readonly schemas: string;
    readonly roles: string;
    readonly people: string;
    readonly quotas: string;
  };
  readonly uniqueWhy: ReadonlyMap<TableName, ReadonlyMap<string, string>>;
  /** Comment lines that propose units; empty where the model has them. */
  readonly unitProposal: readonly string[];
}

/** What Partywall calls the columns that it adds, where the application does not use the name. */
const addedColumnNames = ['tenant_id', 'partywall_tenant_id'] as const;

/**
 * Infers the tenancy model of a database, with a reason for every line. Certain is what a tenant column or a foreign key says;
 * the rest is the platform's or shared only where its name, its columns and its references agree, and otherwise
 * `unclassified` with the answers to choose from.
 *
 * @throws PartywallError root_undecided with the candidates, model_invalid for a root that is none
 */
export function inferModel(catalog: Catalog, options: InferOptions = {}): InferredModel {
  const { existing } = options;
  const listed = listedTables(catalog);
  const references = readReferences(catalog, listed);
  const found = findRoot(catalog, listed, references, options.root ?? existing?.tenant.table);
  // Once columns of that name are in the database, a new table that has one means the same by it.
  const root = existing ? { ...found, names: new Set([...found.names, compact(existing.column)]) } : found;
  const tables = new Map(listed.map((relation) => [relation.table, relation]));
  const survey: Survey = { catalog, tables, references, root, rules: new Map(), followers: followers(catalog) };
  const added = addedColumn(listed, existing);
  const bootstrap = options.bootstrap ?? existing?.bootstrap;

  keepAnswers(survey, existing);
  ruleByThemselves(survey);
  ruleByPaths(survey, added.name);
  if (bootstrap !== undefined) ruleByBootstrap(survey, added.name);
  ruleLeftovers(survey);
  ruleMatviews(survey);
  const uniqueWhy = ruleUniques(survey);

  const schemas = [...new Set(listed.map(({ schema }) => schema))].sort(
    (left, right) => Number(right === 'public') - Number(left === 'public') || (left < right ? -1 : 1),
  );
  const rootTable = tables.get(root.table);
  const status = existing?.tenant.table === root.table ? existing.tenant.status : rootTable && rootStatus(catalog, rootTable);
  const control = rootTable ? inferControl(catalog, rootTable, survey.rules) : { profile: {}, people: undefined, quotas: new Map() };
  return {
    model: {
      tenant: {
        table: root.table,
        key: existing?.tenant.table === root.table ? existing.tenant.key : root.key,
        status,
        profile: existing?.tenant.table === root.table ? existing.tenant.profile : control.profile,
        why: existing?.tenant.why ?? root.why,
      },
      unit: existing?.unit,
      column: added.name,
      schemas: existing ? [...new Set([...existing.schemas, ...schemas])] : schemas,
      roles: existing?.roles ?? wallRoles(catalog, listed, root.table),
      tables: new Map([...survey.rules].sort(([left], [right]) => (left < right ? -1 : 1))),
      bootstrap,
      waivers: existing?.waivers ?? [],
      people: existing ? existing.people : control.people,
      quotas: existing ? existing.quotas : control.quotas,
      clone: existing?.clone ?? new Map(),
      archive: existing?.archive ?? archiveRules(undefined),
    },
    why: {
      tenant: root.why,
      column: added.why,
      schemas: 'every table that holds rows in these must be classified',
      roles: 'owner owns the tables today; the other three are made by apply',
      people: 'the application’s people: provisioning a tenant adds its first admin here',
      quotas: 'what is counted for each tenant, exactly; plans set the limits',
    },
    uniqueWhy,
    unitProposal: existing ? [] : proposeUnits(catalog, survey.rules),
  };
}

/** An unclassified line is a question, not an answer: it is asked again. */
function keepAnswers(survey: Survey, existing: TenancyModel | undefined): void {
  for (const [table, rule] of existing?.tables ?? []) {
    if (survey.tables.has(table) && table !== survey.root.table && rule.scope !== 'unclassified') survey.rules.set(table, rule);
  }
}

/** Tables that say by themselves whose they are. */
function ruleByThemselves(survey: Survey): void {
  for (const relation of survey.tables.values()) {
    if (relation.table === survey.root.table || survey.rules.has(relation.table)) continue;
    if (relation.kind === 'foreign') {
      survey.rules.set(relation.table, {
        scope: 'platform',
        access: 'none',
        why: 'foreign table: its rows are on another server, where the wall does not reach',
      });
    } else if (isToolTable(relation)) {
      survey.rules.set(relation.table, toolRule);
    } else if (relation.kind !== 'matview') {
      const rule = ruleByColumn(survey, relation);
      if (rule) survey.rules.set(relation.table, rule);
    }
  }
  ruleByParentsColumn(survey);
}

function ruleByColumn(survey: Survey, relation: Relation): TableRule | undefined {
  const own = ownTenantColumn(relation, survey.references.from(relation.table), survey.root);
  if (own?.kind === 'doubt') {
    return { scope: 'unclassified', candidates: [...own.columns.map(({ name }) => byColumn(name)), ownColumnCandidate], why: own.why };
  }
  if (own?.kind !== 'own') return undefined;
  if (isPeopleTable(relation) && !own.column.notNull && belongsToSeveral(survey, relation)) {
    return {
      scope: 'unclassified',
      candidates: [byColumn(own.column.name), asPlatform('write', 'people belong to several tenants')],
      why: `people who sign in and have memberships of tenants; ${own.column.name} may be null and may only say which tenant they look at`,
    };
  }
  return scopedByColumn(own.column.name, own.why);
}

/** A composite key that refers to a scoped table with its tenant column names the tenant on this side too. */
function ruleByParentsColumn(survey: Survey): void {
  const ask = [...survey.rules.keys(), survey.root.table].filter((table) => isScopedTable(survey, table));
  for (let parent = ask.pop(); parent !== undefined; parent = ask.pop()) {
    const column = liveTenantColumn(survey, parent);
    for (const { from, reference } of column === undefined || parent === survey.root.table ? [] : survey.references.to(parent)) {
      const at = reference.references.indexOf(column ?? '');
      const own = at < 0 ? undefined : reference.columns[at];
      if (own === undefined || reference.constraint === undefined || from === survey.root.table || survey.rules.has(from)) continue;
      survey.rules.set(
        from,
        scopedByColumn(
          own,
          `${own} refers to the tenant column of ${parent}${reference.nullable ? '; it may be null, and rows without a tenant are listed before contract' : ''}`,
        ),
      );
      ask.push(from);
    }
  }
}

function scopedByColumn(column: string, why: string): ScopedRule {
  return { scope: 'scoped', column, added: false, paths: [], uniques: new Map(), why };
}

/** Over foreign keys of any length. People with memberships are no way to one tenant, unless they are certainly tied to it. */
function ruleByPaths(survey: Survey, added: string): void {
  while (true) {
    const open = new Set([...survey.tables.values()].filter((relation) => isOpen(survey, relation)).map(({ table }) => table));
    const settled = new Set([survey.root.table, ...[...survey.rules.keys()].filter((table) => isScopedTable(survey, table))]);
    const reached = reachTenants({ tables: survey.tables, references: survey.references, settled, open, root: survey.root.table });
    const scopedNow = { ...survey, rules: new Map(survey.rules) };
    for (const [table, { paths, why }] of reached) scopedNow.rules.set(table, scopedByPaths(survey, table, added, paths, why));
    const people = [...open].filter((table) => reached.get(table)?.certain !== true && isEverybody(scopedNow, table));
    if (people.length === 0) {
      for (const [table, rule] of scopedNow.rules) survey.rules.set(table, rule);
      return;
    }
    for (const table of people) {
      survey.rules.set(table, { scope: 'platform', access: 'write', why: 'people who sign in; their memberships say in which tenants they are' });
    }
  }
}

function isOpen(survey: Survey, relation: Relation): boolean {
  return relation.table !== survey.root.table && !survey.rules.has(relation.table) && (relation.kind === 'table' || relation.kind === 'partitioned');
}

function isEverybody(survey: Survey, table: TableName): boolean {
  const relation = survey.tables.get(table);
  return relation !== undefined && isPeopleTable(relation) && belongsToSeveral(survey, relation);
}

function scopedByPaths(survey: Survey, table: TableName, added: string, paths: ScopedRule['paths'], why: string): ScopedRule {
  const [only] = paths;
  // One way, and it holds the root's key itself: that is a tenant column, and a second one would only repeat it.
  if (only && paths.length === 1 && only.table === survey.root.table && only.references.join() === survey.root.key)
    return scopedByColumn(only.columns.join(), why);
  const relation = survey.tables.get(table);
  const column = relation && columnOf(relation, added) ? addedColumnNames[1] : added;
  return { scope: 'scoped', column, added: true, paths, uniques: new Map(), why };
}

/** In a database of one tenant, what leads nowhere is that tenant's; what refers to it follows by its foreign keys. */
function ruleByBootstrap(survey: Survey, added: string): void {
  const isHis = (relation: Relation) => isOpen(survey, relation) && ruleForLeftover(survey, relation).scope === 'unclassified';
  while (true) {
    const his = [...survey.tables.values()].filter(isHis);
    const names = new Set(his.map(({ table }) => table));
    const leadsOn = ({ table, constraint }: Reference) => constraint !== undefined && names.has(table);
    const [first] = [...his.filter(({ table }) => !survey.references.from(table).some(leadsOn)), ...his];
    if (!first) return;
    survey.rules.set(first.table, scopedByPaths(survey, first.table, added, [], "nothing in it leads to a tenant, so all its rows are the bootstrap tenant's"));
    ruleByPaths(survey, added);
  }
}

function ruleLeftovers(survey: Survey): void {
  const open = [...survey.tables.values()].filter((relation) => isOpen(survey, relation));
  // What is certainly the platform's or shared first: the others' reasons name it.
  const later: Relation[] = [];
  for (const relation of open) {
    const rule = ruleForLeftover(survey, relation);
    if (rule.scope === 'unclassified') later.push(relation);
    else survey.rules.set(relation.table, rule);
  }
  for (const relation of later) survey.rules.set(relation.table, ruleForLeftover(survey, relation));
}

/** A materialised view holds copies of rows, and row level security cannot be put on it. */
function ruleMatviews(survey: Survey): void {
  for (const relation of survey.tables.values()) {
    if (relation.kind !== 'matview' || survey.rules.has(relation.table)) continue;
    const read = rowsRead(survey, relation);
    const closed = read.filter((table) => survey.rules.get(table)?.scope !== 'shared');
    survey.rules.set(
      relation.table,
      read.length > 0 && closed.length === 0
        ? { scope: 'shared', access: 'read', why: `materialised from shared tables alone: ${read.join(', ')}` }
        : {
            scope: 'platform',
            access: 'none',
            why: `materialised view that holds rows ${closed.length > 0 ? `of ${closed.slice(0, 3).join(', ')}` : 'of unknown origin'}; no wall can be put on it`,
          },
    );
  }
}

/** Tables whose rows a view shows, through other views. */
function rowsRead(survey: Survey, view: Relation, seen = new Set<TableName>()): TableName[] {
  return view.reads.flatMap((name) => {
    if (seen.has(name)) return [];
    seen.add(name);
    const relation = survey.catalog.relations.get(name);
    if (relation && (relation.kind === 'view' || relation.kind === 'matview')) return rowsRead(survey, relation, seen);
    return [governing(survey.catalog, name)?.table ?? name];
  });
}

function ruleUniques(survey: Survey): Map<TableName, Map<string, string>> {
  const outside = outsiders(survey.catalog, (table) => isScopedTable(survey, governing(survey.catalog, table)?.table ?? table));
  const reasons = new Map<TableName, Map<string, string>>();
  for (const [table, rule] of survey.rules) {
    const relation = survey.tables.get(table);
    if (rule.scope !== 'scoped' || !relation) continue;
    const judged = judgeUniques(relation, rule.column, outside);
    const open = [...judged].filter(([name]) => !rule.uniques.has(name));
    survey.rules.set(table, { ...rule, uniques: new Map([...rule.uniques, ...open.map(([name, { meaning }]) => [name, meaning] as const)]) });
    reasons.set(table, new Map(open.map(([name, { why }]) => [name, why])));
  }
  return reasons;
}

/** A name that no table of the application has: a second `tenant_id` would make the one in its joins ambiguous. */
function addedColumn(listed: readonly Relation[], existing: TenancyModel | undefined): { name: string; why: string } {
  if (existing) return { name: existing.column, why: 'as before' };
  const [plain, other] = addedColumnNames;
  const taken = listed.find((relation) => columnOf(relation, plain));
  return taken
    ? { name: other, why: `${taken.table} has a ${plain} of its own; the same name on what it is joined with would make the application's queries ambiguous` }
    : { name: plain, why: 'name of the columns that apply adds' };
}
