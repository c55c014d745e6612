import type { ScopedRule, TableRule, TenancyModel } from '../../model/model.ts';
import { partsOf, type TableName, tableName } from '../../model/table-name.ts';

/**
 * The model for a database whose tables are in another schema: those of the tenant root's schema are looked for in `schema`. For reading alone:
 * people and quotas, which only the control plane asks about, are left out.
 */
export function modelInSchema(model: TenancyModel, schema: string): TenancyModel {
  const own = partsOf(model.tenant.table).schema;
  const moved = (table: TableName): TableName => {
    const parts = partsOf(table);
    return parts.schema === own ? tableName(schema, parts.name) : table;
  };
  const rule = (of: TableRule): TableRule =>
    of.scope === 'scoped' ? ({ ...of, paths: of.paths.map((path) => ({ ...path, table: moved(path.table) })) } satisfies ScopedRule) : of;
  return {
    ...model,
    tenant: { ...model.tenant, table: moved(model.tenant.table), profile: {} },
    schemas: model.schemas.map((name) => (name === own ? schema : name)),
    tables: new Map([...model.tables].map(([table, of]) => [moved(table), rule(of)])),
    people: undefined,
    quotas: new Map(),
  };
}
