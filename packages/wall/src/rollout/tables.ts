import { canonicalKey } from './mode.ts';

/** A column that holds the tenant of a row. */
export interface TenantColumn {
  /** Number of the column, as the server describes rows. */
  readonly column: number;
  /** `schema.table` */
  readonly table: string;
  /** The table is open to the application while the rest is enforced. */
  readonly isOpen: boolean;
}

/** By the table's oid. */
export type TenantColumns = ReadonlyMap<number, TenantColumn>;

/** Reads the answer of `partywall.rollout_tables`. */
export function parseTenantColumns(answer: unknown): TenantColumns {
  const columns = new Map<number, TenantColumn>();
  for (const line of Array.isArray(answer) ? answer : []) {
    if (!Array.isArray(line)) continue;
    const [oid, column, table, isOpen]: unknown[] = line;
    if (typeof oid === 'number' && typeof column === 'number' && typeof table === 'string') columns.set(oid, { column, table, isOpen: isOpen === true });
  }
  return columns;
}

/** Whether a value of a row, as text, is the tenant's key. */
export function isTenant(value: string, tenant: string, keyType: string): boolean {
  return value === tenant || value === canonicalKey(keyType, tenant);
}
