import type { Catalog, Constraint, Relation } from '../catalog/catalog.ts';
import { ident, identList } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { contractStep, onlineStep } from './contract-step.ts';
import type { WallStep } from './plan.ts';
import { childrenOf } from './plan-expand.ts';
import { recordReplaced } from './replaced.ts';
import type { WantedForeignKey, WantedTable } from './shape.ts';
import { sameSet } from './shape-keys.ts';

/**
 * The tenant itself must exist. Deleting a tenant that still has rows is refused: rows of nobody are worse. Asked at the end of the
 * transaction, so that a tenant whose rows go with it by the application's own cascades can be deleted as it always could.
 */
export function rootKeySteps(model: TenancyModel, catalog: Catalog, table: WantedTable): WallStep[] {
  const { relation, column, rootKey } = table;
  if (!rootKey) return [];
  const live = relation.constraints.find(
    ({ foreign, columns, inherited, enforced }) =>
      foreign?.table === model.tenant.table && !inherited && enforced && sameSet(columns, [column]) && sameSet(foreign.columns, [model.tenant.key]),
  );
  if (live?.validated) return [];
  const definition = `foreign key (${ident(column)}) references ${quoted(model.tenant.table)} (${ident(model.tenant.key)}) deferrable initially deferred`;
  return addForeignKey(catalog, table, {
    name: live?.name ?? rootKey,
    references: model.tenant.table,
    definition,
    live,
    title: `reference the tenant of ${column}`,
    reason: 'a tenant that does not exist owns nothing',
  });
}

export function foreignKeySteps(catalog: Catalog, table: WantedTable, key: WantedForeignKey): WallStep[] {
  const { relation } = table;
  const live = relation.constraints.find((constraint) => constraint.name === key.name);
  const reason = `${key.replaces.name} lets a tenant attach to, probe and by cascade change another tenant's rows`;
  const steps = live?.validated
    ? []
    : addForeignKey(catalog, table, {
        name: key.name,
        references: key.table,
        definition: foreignKeyDefinition(key),
        live,
        title: `reference ${key.table} with the tenant`,
        reason,
      });
  const name = quoted(relation.table);
  const old = key.replaces;
  return [
    ...steps,
    // The new key takes the old one's name, in partitions too: applications match constraint names in errors.
    contractStep(
      table,
      'replace',
      `let it take the place of ${old.name}`,
      reason,
      'brief',
      [
        recordReplaced({ table: relation.table, name: old.name, kind: 'foreign key', definition: old.definition }),
        `alter table ${name} drop constraint ${ident(old.name)}`,
        ...[relation, ...descendantsOf(catalog, relation)].map(
          (each) => `alter table ${quoted(each.table)} rename constraint ${ident(key.name)} to ${ident(old.name)}`,
        ),
      ],
      old.name,
    ),
  ];
}

export function foreignKeyDefinition(key: WantedForeignKey): string {
  const onDelete = key.onDelete === 'no action' ? '' : ` on delete ${key.onDelete}${key.setColumns.length > 0 ? ` (${identList(key.setColumns)})` : ''}`;
  const onUpdate = key.onUpdate === 'no action' ? '' : ` on update ${key.onUpdate}`;
  const deferral = deferralOf(key.replaces);
  return `foreign key (${identList(key.columns)}) references ${quoted(key.table)} (${identList(key.references)})${onDelete}${onUpdate}${deferral}`;
}

/**
 * NOT VALID, then VALIDATE, both beside writers. A partitioned table takes no NOT VALID key before PostgreSQL 18: each leaf gets
 * the key and proves it, and the parent's key then adopts them without reading.
 *
 * Adopting locks the referenced table against writers first and against everybody then. A writer that has read it and comes to write it in between waits
 * for a step that waits for the writer, and the server fails the writer at once: so the greater lock is taken before.
 */
function addForeignKey(
  catalog: Catalog,
  table: WantedTable,
  key: { name: string; references: TableName; definition: string; live: Constraint | undefined; title: string; reason: string },
): WallStep[] {
  const each = (relation: Relation, live: Constraint | undefined, where: string): WallStep[] => {
    const name = quoted(relation.table);
    const steps = live
      ? []
      : [
          contractStep(
            table,
            'foreign-key',
            `${key.title}${where}`,
            key.reason,
            'brief',
            [`alter table ${name} add constraint ${ident(key.name)} ${key.definition} not valid`],
            `${relation.name}/${key.name}`,
          ),
        ];
    return live?.validated
      ? []
      : [
          ...steps,
          onlineStep(
            table,
            'validate',
            `prove it for every row${where}`,
            key.reason,
            `alter table ${name} validate constraint ${ident(key.name)}`,
            `${relation.name}/${key.name}`,
          ),
        ];
  };
  if (table.relation.kind !== 'partitioned') return each(table.relation, key.live, '');
  const leaves = leavesOf(catalog, table.relation);
  return [
    ...leaves.flatMap((leaf) =>
      each(
        leaf,
        leaf.constraints.find((constraint) => constraint.name === key.name),
        ` in partition ${leaf.table}`,
      ),
    ),
    contractStep(
      table,
      'foreign-key',
      `${key.title}`,
      key.reason,
      'brief',
      [
        `lock table ${quoted(key.references)} in access exclusive mode`,
        `alter table ${quoted(table.relation.table)} add constraint ${ident(key.name)} ${key.definition}`,
      ],
      key.name,
    ),
  ];
}

/** The partitions of a relation, of all levels. An inheritance child is none: it has its own keys. */
export function descendantsOf(catalog: Catalog, relation: Relation): Relation[] {
  return relation.kind !== 'partitioned' ? [] : childrenOf(catalog, relation).flatMap((child) => [child, ...descendantsOf(catalog, child)]);
}

export function leavesOf(catalog: Catalog, relation: Relation): Relation[] {
  return descendantsOf(catalog, relation).filter((child) => child.kind !== 'partitioned');
}

export function deferralOf(constraint: Constraint | undefined): string {
  return constraint?.deferrable ? ` deferrable${constraint.deferred ? ' initially deferred' : ''}` : '';
}
