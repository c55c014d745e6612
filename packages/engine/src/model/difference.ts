import type { Catalog } from '../catalog/catalog.ts';
import type { TenancyModel } from './model.ts';
import type { TableName } from './table-name.ts';

/**
 * unknown: holds rows, not in the model. outside: in a schema the model does not name, with tenants' rows. vanished: in the
 * model, not in the database. changed: there, but not as the model says. unclassified: a person must decide. hole: open to the
 * application and refers to a tenant's rows. expected: a migration has not run here.
 */
export type DifferenceKind = 'unknown' | 'outside' | 'vanished' | 'changed' | 'unclassified' | 'hole' | 'expected';

/** Where a model and a database disagree. */
export interface ModelDifference {
  readonly kind: DifferenceKind;
  readonly table: TableName;
  /** Follows the table's name: `is not in the model`. */
  readonly message: string;
  readonly hint: string;
  /** An error keeps the wall from being planned or trusted; a warning is a residual to know of. */
  readonly severity: 'error' | 'warning';
}

/** What is compared, with what both sides call a tenant column (compact names). */
export interface Comparison {
  readonly model: TenancyModel;
  readonly catalog: Catalog;
  readonly words: ReadonlySet<string>;
}

export function changed(table: TableName, message: string, hint: string): ModelDifference {
  return { kind: 'changed', table, message, hint, severity: 'error' };
}

/** A migration that "succeeded" in another database, another folder or without its journal entry leaves no trace here. */
export const migrationHint = 'check which database, working directory and migration journal the migration used';
