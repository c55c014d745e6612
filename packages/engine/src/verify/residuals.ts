import type { Index, Relation } from '../catalog/catalog.ts';
import { appPrivileges } from '../wall/grants.ts';
import { sealedFact } from '../wall/runtime.ts';
import { effectiveRule } from '../wall/shape.ts';
import type { Residual } from './finding.ts';
import type { ResidualId } from './rules/rules.ts';
import { canCloseNewTables, installedContext, isOpen, type StaticFacts, topTables } from './static/static-facts.ts';

/** Methods and operator classes whose operators are not leakproof. */
const leakyIndex = / USING (gin|gist|spgist|brin)\b|_pattern_ops\b|gin_trgm_ops|\bjsonb_/;

/** The risks that stay, of those that concern this database. */
export function residualsOf(facts: StaticFacts): Residual[] {
  const { catalog, model, wanted, server } = facts;
  const relations = [...catalog.relations.values()];
  const tops = topTables(wanted);
  const residuals: Residual[] = [];
  const name = (id: ResidualId, targets: readonly string[], message: string): void => {
    residuals.push({ id, targets, message });
  };
  const nameEach = (id: ResidualId, targets: readonly string[], message: (count: (one: string, many?: string) => string) => string): void => {
    if (targets.length > 0)
      name(
        id,
        targets,
        message((one, many = `${one}s`) => (targets.length === 1 ? `one ${one}` : `${targets.length} ${many}`)),
      );
  };

  const unsealed = whyUnsealed(facts);
  if (unsealed !== undefined)
    name('residual.unsealed-context', [], `SQL injected into one tenant’s request can name another tenant${model.unit ? ' or unit' : ''}: ${unsealed}`);
  name(
    'residual.owner',
    [model.roles.owner, model.roles.system, model.roles.service],
    `${model.roles.owner} can take the wall down; ${model.roles.system} and ${model.roles.service} see all tenants`,
  );
  nameEach(
    'residual.primary-key',
    tops.filter((table) => table.rule && spansTenants(table.relation, table.column)).map((table) => table.relation.table),
    (count) => `keys that span tenants, on ${count('table')}: a key that another tenant has is refused`,
  );
  nameEach(
    'residual.constraint',
    wanted.residuals.map((note) => `${note.table}: ${note.message}`),
    (count) => `${count('constraint')} across tenants, as the model says`,
  );

  nameEach(
    'residual.rows-of-no-unit',
    tops.filter(({ unit }) => unit?.nullable).map(({ relation, unit }) => `${relation.table} (${unit?.column})`),
    (count) => `rows without a unit are read in every unit of their tenant, on ${count('table')}`,
  );

  const used = (relation: Relation): readonly string[] => appPrivileges(model, catalog, relation, wanted);
  const ruled = relations.flatMap((relation) => {
    const rule = effectiveRule(model, catalog, relation);
    return rule === undefined || rule === 'root' || relation.parents.length > 0 ? [] : [{ relation, rule }];
  });
  const platform = ruled.filter(({ rule }) => rule.scope === 'platform');
  nameEach(
    'residual.platform-open',
    platform.filter(({ relation }) => used(relation).length > 0).map(({ relation }) => `${relation.table} (${used(relation).join(', ')})`),
    (count) => `${count('platform table')} open to the application, as the model says`,
  );
  nameEach(
    'residual.platform-reference',
    platform.flatMap(({ relation }) =>
      relation.constraints.flatMap(({ foreign, name: key }) => (foreign && wanted.tables.get(foreign.table)?.rule ? [`${key} on ${relation.table}`] : [])),
    ),
    (count) => `${count('reference')} from platform tables to tenant rows, checked without policies`,
  );
  nameEach(
    'residual.shared-writable',
    ruled.filter(({ rule }) => rule.scope === 'shared' && rule.access === 'write').map(({ relation }) => relation.table),
    (count) => `${count('shared table')} written by the application`,
  );
  nameEach(
    'residual.foreign-table',
    relations.filter((relation) => relation.kind === 'foreign' && isOpen(relation, facts.reach)).map((relation) => relation.table),
    (count) => `${count('foreign table')} open to the application`,
  );

  const sequences = catalog.sequences.filter((sequence) => sequence.ownedBy && wanted.tables.has(sequence.ownedBy.table));
  nameEach(
    'residual.sequences',
    sequences.map((sequence) => `${sequence.schema}.${sequence.name}`),
    (count) => `${count('sequence')} for the rows of all tenants`,
  );
  name(
    'residual.session-state',
    [],
    `cursors, LISTEN, advisory locks and settings of a pooled session outlive a transaction${server.temporaryOpen ? ', temporary tables too' : ''}`,
  );
  name('residual.notify', [], 'every session of the application hears every channel');
  name('residual.activity', [], `sessions of ${model.roles.app} see each other’s SQL text`);
  name('residual.same-role', [], `${model.roles.app} may change its own password and settings, end its own sessions, and write logical messages`);
  name('residual.statistics', [], 'row estimates and table sizes are of all tenants together');
  name('residual.advisory-locks', [], 'any session can hold any advisory lock');
  if (server.largeObjectsOpen) name('residual.large-objects', [], `${model.roles.app} may create large objects; the database holds ${catalog.largeObjects}`);
  nameEach(
    'residual.leakproof',
    tops.flatMap(({ relation, column }) => relation.indexes.filter((index) => isLeaky(index, column)).map((index) => `${index.name} on ${relation.table}`)),
    (count) => `${count('index', 'indexes')} that no query uses under the wall`,
  );
  name('residual.dump', [], `pg_dump as ${model.roles.app} fails or dumps nothing`);
  if (catalog.runtime && !canCloseNewTables(catalog))
    name('residual.new-tables', [], `schema partywall belongs to ${catalog.runtime.owner}, no superuser: new tables are found by check alone`);
  return residuals;
}

function whyUnsealed(facts: StaticFacts): string | undefined {
  if (!installedContext(facts).isProtected) return 'the context is in a setting that any role may set';
  return facts.catalog.runtime?.facts?.[sealedFact] === undefined ? 'the database is not sealed' : undefined;
}

function spansTenants(relation: Relation, column: string): boolean {
  return relation.indexes.some((index) => index.unique && !index.columns.includes(column));
}

function isLeaky(index: Index, column: string): boolean {
  return index.columns[0] !== column && leakyIndex.test(index.definition);
}
