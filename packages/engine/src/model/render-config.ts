import type { CloneRule, CloneRules } from './clone.ts';
import { object, print, type Source, type SourceEntry } from './config-text.ts';
import type { PeopleTable, Quota } from './control.ts';
import type { InferredModel } from './infer.ts';
import type { Path, TableRule } from './model.ts';
import type { TableName } from './table-name.ts';

const groups: readonly { readonly scope: TableRule['scope']; readonly heading: string }[] = [
  { scope: 'unclassified', heading: 'Unclassified: a person must decide these; `partywall check` fails until then.' },
  { scope: 'scoped', heading: 'Scoped: each row belongs to one tenant.' },
  { scope: 'shared', heading: 'Shared: the same rows for every tenant.' },
  { scope: 'platform', heading: "Platform: the platform's own; the application gets what `access` says." },
];

export interface RenderOptions {
  /** Tables of the model that are no longer in the database: their lines stay, marked. */
  readonly vanished?: ReadonlySet<TableName>;
  /** Tables that were not in the model before: marked, so that a person sees what to read. */
  readonly added?: ReadonlySet<TableName>;
  /** Name of the database, for the marks. */
  readonly database?: string;
}

/**
 * The text of `partywall.config.ts`: questions first, then scoped, shared and platform tables by name, each line with its
 * reason. Reading it back with `parseModel` gives the same model.
 */
export function renderConfig(inferred: InferredModel, options: RenderOptions = {}): string {
  const { model, why } = inferred;
  const { tenant, unit, roles } = model;
  const status =
    tenant.status &&
    object([
      ['column', tenant.status.column],
      ['values', object(Object.entries(tenant.status.values))],
    ]);
  const entries: SourceEntry[] = [
    {
      key: 'tenant',
      value: object(
        [
          ['table', tenant.table],
          ['key', tenant.key],
          ['status', status],
          ['profile', Object.values(tenant.profile).some((name) => name !== undefined) ? object(Object.entries(tenant.profile)) : undefined],
          ['why', tenant.why],
        ],
        true,
      ),
    },
    ...(unit ? [{ key: 'unit', value: object(Object.entries(unit)) }] : []),
    { key: 'column', value: model.column, comment: why.column, above: inferred.unitProposal },
    { key: 'schemas', value: model.schemas, comment: why.schemas },
    {
      key: 'roles',
      value: object([
        ['owner', roles.owner],
        ['app', roles.app],
        ['system', roles.system],
        ['service', roles.service],
        ['operator', roles.operator],
      ]),
      above: [why.roles],
    },
    ...(model.people ? [{ key: 'people', value: peopleSource(model.people), above: [why.people] }] : []),
    ...(model.quotas.size === 0 ? [] : [{ key: 'quotas', value: quotasSource(model.quotas), above: [why.quotas] }]),
    ...(model.clone.size === 0 ? [] : [{ key: 'clone', value: cloneSource(model.clone) }]),
    ...(archiveEntries(model.archive).length === 0 ? [] : [{ key: 'archive', value: object(archiveEntries(model.archive)) }]),
    ...(model.bootstrap === undefined
      ? []
      : [{ key: 'bootstrap', value: model.bootstrap, comment: 'owns all rows that lead nowhere, from expand to contract' }]),
    { key: 'tables', value: { entries: tableEntries(inferred, options), open: true } },
    ...(model.waivers.length === 0 ? [] : [{ key: 'waivers', value: model.waivers.map((waiver) => object(Object.entries(waiver))) }]),
  ];
  return `import { defineTenancy } from 'partywall';\n\nexport default defineTenancy(${print({ entries, open: true })});\n`;
}

function archiveEntries({ smoke, files }: InferredModel['model']['archive']): [string, Source][] {
  const places = object([...files].map(([name, rule]) => [name, object(Object.entries(rule))]));
  return [
    ...(smoke.length === 0 ? [] : [['smoke', smoke.map((query) => object(Object.entries(query)))] satisfies [string, Source]]),
    ...(files.size === 0 ? [] : [['files', places] satisfies [string, Source]]),
  ];
}

function peopleSource({ table, email, name, role }: PeopleTable): Source {
  return object([
    ['table', table],
    ['email', email],
    ['name', name],
    ['role', role && object(Object.entries(role))],
  ]);
}

function quotasSource(quotas: ReadonlyMap<string, Quota>): Source {
  return object(
    [...quotas].map(([name, quota]) => [name, quota.kind === 'rows' ? object([['rows', quota.table]]) : object([['bytes', object([...quota.tables])]])]),
    true,
  );
}

function cloneSource(rules: CloneRules): Source {
  return object(
    [...rules].map(([table, columns]) => [table, object([...columns].map(([column, rule]) => [column, cloneRuleSource(rule)]))]),
    true,
  );
}

function cloneRuleSource(rule: CloneRule): Source {
  switch (rule.kind) {
    case 'sql':
      return object([['sql', rule.sql]]);
    case 'reference':
      return object([['reference', rule.table]]);
    case 'polymorphic':
      return object([
        [
          'reference',
          object([
            ['by', rule.by],
            ['tables', object([...rule.tables])],
          ]),
        ],
      ]);
    default:
      return rule.kind;
  }
}

/** Entries of `tables`, grouped by scope. */
function tableEntries(inferred: InferredModel, options: RenderOptions): SourceEntry[] {
  return groups.flatMap(({ scope, heading }) => {
    const tables = [...inferred.model.tables].filter(([, rule]) => rule.scope === scope).sort(([left], [right]) => (left < right ? -1 : 1));
    return tables.map(([table, rule], at) => {
      const above = [...(at === 0 ? [heading] : []), ...marks(table, options)];
      return { key: table, value: ruleSource(rule, inferred.model.column, inferred.uniqueWhy.get(table)), ...(above.length > 0 && { above }) };
    });
  });
}

export function marks(table: TableName, { vanished, added, database }: RenderOptions): string[] {
  if (vanished?.has(table))
    return [`vanished: there is no ${table}${database === undefined ? '' : ` in ${database}`}; remove this line once no database has it`];
  return added?.has(table) ? ['new since this file was written'] : [];
}

export function ruleSource(rule: TableRule, addedColumn: string, uniqueWhy: ReadonlyMap<string, string> | undefined): Source {
  switch (rule.scope) {
    case 'scoped': {
      const uniques = [...rule.uniques].map(([key, value]) => {
        const comment = uniqueWhy?.get(key);
        return { key, value, ...(comment !== undefined && { comment }) };
      });
      return object(
        [
          ['scope', 'scoped'],
          ['column', rule.added && rule.column === addedColumn ? undefined : rule.column],
          ['through', rule.added ? (rule.paths.length === 1 ? rule.paths.map(pathSource)[0] : rule.paths.map(pathSource)) : undefined],
          ['unit', rule.unit],
          ['uniques', uniques.length > 0 ? { entries: uniques, open: true } : undefined],
          ['why', rule.why],
        ],
        true,
      );
    }
    case 'shared':
    case 'platform':
      return object([
        ['scope', rule.scope],
        ['access', rule.access],
        ['why', rule.why],
      ]);
    case 'unclassified':
      return object(
        [
          ['scope', 'unclassified'],
          ['why', rule.why],
          ['candidates', rule.candidates.length > 0 ? rule.candidates : undefined],
        ],
        true,
      );
  }
}

function pathSource({ table, columns, references }: Path): Source {
  const list = (names: readonly string[]): Source => (names.length === 1 ? (names[0] ?? '') : names);
  return object([
    ['table', table],
    ['columns', list(columns)],
    ['references', references.length === 1 && references[0] === 'id' ? undefined : list(references)],
  ]);
}
