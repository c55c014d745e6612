import type { Catalog } from '../catalog/catalog.ts';
import { type InferOptions, type InferredModel, inferModel } from './infer.ts';
import type { TableRule, TenancyModel } from './model.ts';
import type { TableName } from './table-name.ts';

/** What `partywall init --update` writes: everything a person wrote, and what the database has besides. */
export interface MergedModel {
  readonly inferred: InferredModel;
  /** Tables that the existing model did not list. */
  readonly added: readonly TableName[];
  /** Tables that were unclassified and no longer are. */
  readonly decided: readonly TableName[];
  /** Tables that the database no longer has; their lines are kept, marked, until a person removes them. */
  readonly vanished: readonly TableName[];
}

/** Infers what an existing model leaves open, with its answers as facts. */
export function updateModel(catalog: Catalog, existing: TenancyModel, options: Pick<InferOptions, 'bootstrap'> = {}): MergedModel {
  return mergeModel(existing, inferModel(catalog, { ...options, existing }), catalog);
}

/**
 * Lays an inferred model under an existing one. Rules that a person wrote stay as they are, apart from unique constraints that
 * are new; an unclassified line is a question and takes the new answer.
 */
export function mergeModel(existing: TenancyModel, inferred: InferredModel, catalog: Catalog): MergedModel {
  const found = inferred.model.tables;
  const tables = new Map<TableName, TableRule>();
  for (const [table, rule] of existing.tables) tables.set(table, merged(rule, found.get(table)));
  for (const [table, rule] of found) if (!tables.has(table) && table !== existing.tenant.table) tables.set(table, rule);
  return {
    inferred: {
      ...inferred,
      model: {
        ...existing,
        schemas: [...new Set([...existing.schemas, ...inferred.model.schemas])],
        tables: new Map([...tables].sort(([left], [right]) => (left < right ? -1 : 1))),
        bootstrap: existing.bootstrap ?? inferred.model.bootstrap,
      },
    },
    added: [...found.keys()].filter((table) => !existing.tables.has(table) && table !== existing.tenant.table),
    decided: [...existing.tables]
      .filter(([table, rule]) => rule.scope === 'unclassified' && tables.get(table)?.scope !== 'unclassified')
      .map(([table]) => table),
    vanished: [...existing.tables.keys()].filter((table) => !catalog.relations.has(table)),
  };
}

function merged(written: TableRule, found: TableRule | undefined): TableRule {
  if (found === undefined) return written;
  if (written.scope === 'unclassified') return found;
  if (written.scope !== 'scoped' || found.scope !== 'scoped') return written;
  return { ...written, uniques: new Map([...found.uniques, ...written.uniques]) };
}
