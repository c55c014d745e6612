import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { changed, type ModelDifference } from './difference.ts';
import { listedTables } from './listed-tables.ts';
import type { TenancyModel } from './model.ts';
import type { TableName } from './table-name.ts';

/** The tenant root, its key and status, and the owner of the tables. */
export function differencesOfRoot(model: TenancyModel, catalog: Catalog): ModelDifference[] {
  const { table, key, status } = model.tenant;
  const root = catalog.relations.get(table);
  const hint = 'correct `tenant` in partywall.config.ts, or check that DATABASE_URL names the right database';
  const wrong = (message: string) => changed(table, message, hint);
  if (!root)
    return [
      { kind: 'vanished', table, message: `is the tenant root but not in the database ${catalog.database}`, hint, severity: 'error' },
      ...owners(model, catalog),
    ];
  const found: ModelDifference[] = [];
  if ((root.kind !== 'table' && root.kind !== 'partitioned') || root.extension !== undefined) found.push(wrong('is the tenant root but no table of its own'));
  const column = columnOf(root, key);
  if (!column) found.push(wrong(`has no column ${key}, which the model names as its key`));
  else if (!isUnique(root, key)) found.push(wrong(`does not keep ${key} unique, so it cannot be the tenant key`));
  if (status && !columnOf(root, status.column)) found.push(wrong(`has no column ${status.column}, which the model names as its status`));
  return [...found, ...differencesOfControl(model, catalog), ...owners(model, catalog)];
}

/** Columns that provisioning fills and quotas add up. */
function differencesOfControl({ tenant, people, quotas }: TenancyModel, catalog: Catalog): ModelDifference[] {
  const named: { table: TableName; column: string | undefined; as: string }[] = [
    ...Object.entries(tenant.profile).map(([what, column]) => ({ table: tenant.table, column, as: `tenant.profile.${what}` })),
    ...(people
      ? [
          { table: people.table, column: people.email, as: 'people.email' },
          { table: people.table, column: people.name, as: 'people.name' },
          { table: people.table, column: people.role?.column, as: 'people.role' },
        ]
      : []),
    ...[...quotas].flatMap(([name, quota]) =>
      quota.kind === 'rows' ? [] : [...quota.tables].map(([table, column]) => ({ table, column: column === '*' ? undefined : column, as: `quotas.${name}` })),
    ),
  ];
  return named.flatMap(({ table, column, as }) => {
    const relation = catalog.relations.get(table);
    if (!relation || column === undefined || columnOf(relation, column)) return [];
    return [changed(table, `has no column ${column}, which the model names as ${as}`, `correct \`${as}\` in partywall.config.ts`)];
  });
}

function isUnique(root: Relation, key: string): boolean {
  return root.indexes.some(({ unique, valid, predicate, columns }) => unique && valid && predicate === undefined && columns.length === 1 && columns[0] === key);
}

/** Owners are exempt from row level security unless it is forced, and migrations run as one of them. */
function owners(model: TenancyModel, catalog: Catalog): ModelDifference[] {
  const { owner } = model.roles;
  return listedTables(catalog)
    .filter((relation) => relation.owner !== owner && (relation.table === model.tenant.table || model.tables.get(relation.table)?.scope === 'scoped'))
    .map((relation) => ({
      kind: 'changed',
      table: relation.table,
      message: `is owned by ${relation.owner}, not by ${owner}`,
      hint: `alter table ... owner to ${owner}, or name the other role in \`roles\``,
      severity: 'warning',
    }));
}
