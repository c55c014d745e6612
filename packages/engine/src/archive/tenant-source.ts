import type { TableName } from '../model/table-name.ts';

/**
 * Rows of one tenant as of one moment, from wherever they are kept: a backup, a live database, a SQLite file. What restores, clones and moves a
 * tenant takes one of these and asks no further.
 */
export interface TenantSource {
  /** Text of the tenant's key. */
  readonly tenant: string;
  /** When the rows were so. */
  readonly at: Date;
  /** For reports: `backup 20261121t020000z-1f2e3d4c`. */
  readonly description: string;
  /** The tenant root and every scoped table, also those without rows, in any order. */
  readonly tables: readonly SourceTable[];
  /** Statements that make the source's schema, where it has them. */
  readonly schema?: (() => Promise<string>) | undefined;
  /**
   * The rows of a table in COPY's text format, UTF-8, with the columns of `table.columns` in that order. Each piece is whole lines.
   *
   * @throws PartywallError archive_damaged, key_missing, and what the store throws
   */
  rows(table: SourceTable): AsyncIterable<Buffer>;
}

export interface SourceTable {
  readonly name: TableName;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** Columns that tell rows apart; empty: none do. */
  readonly key: readonly string[];
  readonly tenantColumn: string;
  /** How many rows `rows` gives. */
  readonly count: number;
}
