import type { Catalog } from '../catalog/catalog.ts';
import { literal } from '../db/sql.ts';
import type { TableName } from '../model/table-name.ts';

/** What contract dropped, as rollback needs it to bring it back. */
export interface Replaced {
  readonly table: TableName;
  /** Of the constraint, the index, or the view's option. */
  readonly name: string;
  readonly kind: 'foreign key' | 'unique constraint' | 'unique index' | 'view' | 'row security' | 'nullable column' | 'column default';
  /** Of a foreign key: its definition; of a unique: what follows the table's name in CREATE UNIQUE INDEX; of the others: what was set. */
  readonly definition: string;
  /** Of a unique constraint: ` deferrable initially deferred`, and its definition. */
  readonly deferral?: string;
  readonly constraint?: string;
  /** Of a unique of a partitioned table: the names of its partitions' indexes. */
  readonly parts?: Readonly<Record<TableName, string>>;
  /** A foreign key that is back but not proven for all rows yet. */
  readonly restored?: boolean;
}

/** The kind is part of it: a foreign key and an index may have one name. */
export function replacedFact({ kind, table, name }: Replaced): string {
  return `replaced:${kind}:${table}/${name}`;
}

/** Recorded in the transaction that drops it. What was there first is what comes back, so a later record does not count. */
export function recordReplaced(replaced: Replaced): string {
  return `insert into partywall.facts (name, value) values (${literal(replacedFact(replaced))}, ${literal(JSON.stringify(replaced))}::jsonb) on conflict (name) do nothing`;
}

/** The records of what contract replaced. */
export function replacedThings(catalog: Catalog): Replaced[] {
  const facts = catalog.runtime?.facts ?? {};
  return Object.entries(facts).flatMap(([fact, value]) => (fact.startsWith('replaced:') ? [value as Replaced] : [])); // written by plan-contract.ts alone
}

export function forget(replaced: Replaced): string {
  return `delete from partywall.facts where name = ${literal(replacedFact(replaced))}`;
}
