export type { Catalog, Relation } from './catalog/catalog.ts';
export { readCatalog } from './catalog/read-catalog.ts';
export { connect, describeTarget, sqlState, supportedMajors } from './db/connect.ts';
export { type EmbeddedOptions, type EmbeddedServer, freePort, startEmbedded } from './db/embedded.ts';
export { ident, literal } from './db/sql.ts';
export { type EngineErrorCode, engineErrors, PartywallError } from './errors.ts';
export { defineTenancy, parseModel, type TableRule, type TenancyConfig, type TenancyModel } from './model/model.ts';
export { parseTableName, type TableName, tableName } from './model/table-name.ts';
export { tenantStates, type TenantState, wallStates } from './wall/runtime.ts';
