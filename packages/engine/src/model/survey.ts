import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import type { followers } from './listed-tables.ts';
import type { TableRule } from './model.ts';
import type { References } from './references.ts';
import type { TableName } from './table-name.ts';
import type { FoundRoot } from './tenant-root.ts';

/** What is known while a model is inferred; `rules` fills up, nothing else changes. */
export interface Survey {
  readonly catalog: Catalog;
  readonly tables: ReadonlyMap<TableName, Relation>;
  readonly references: References;
  readonly root: FoundRoot;
  readonly rules: Map<TableName, TableRule>;
  readonly followers: ReturnType<typeof followers>;
}

export function isScopedTable(survey: Survey, table: TableName): boolean {
  return table === survey.root.table || survey.rules.get(table)?.scope === 'scoped';
}

/** The tenant column of a scoped table that it has today; one that Partywall added is there once apply has run. */
export function liveTenantColumn(survey: Survey, table: TableName): string | undefined {
  if (table === survey.root.table) return survey.root.key;
  const rule = survey.rules.get(table);
  const relation = survey.tables.get(table);
  return rule?.scope === 'scoped' && relation && columnOf(relation, rule.column) ? rule.column : undefined;
}
