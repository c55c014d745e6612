import { assertModelComplete, type Catalog, connect, PartywallError, readCatalog, type TenancyModel } from '@partywall/engine';

export type Connection = Awaited<ReturnType<typeof connect>>;

/** What the catalogs of a database say, over a connection of its own. */
export async function liveCatalog(url: string, purpose: string): Promise<Catalog> {
  const client = await connect(url, { purpose });
  try {
    return await readCatalog(client);
  } finally {
    await client.end();
  }
}

/** What tells that a database is another one than the model's, which says more than a list of all tables: nothing of it is there. */
export function strangeness(model: TenancyModel, catalog: Catalog): string | undefined {
  const known = [model.tenant.table, ...model.tables.keys()];
  if (known.some((table) => catalog.relations.has(table))) return undefined;
  return `none of its ${known.length} tables is there, not even the tenant root ${model.tenant.table}`;
}

/** @throws PartywallError wrong_database */
export function refuseStranger(model: TenancyModel, catalog: Catalog): void {
  const strange = strangeness(model, catalog);
  if (strange !== undefined) throw new PartywallError('wrong_database', `comparing the tenancy model with ${catalog.database}: ${strange}`);
}

/**
 * The catalog of a database that the model covers; what plans and applies starts from it.
 *
 * @throws PartywallError wrong_database, model_unclassified, model_drift, and what `connect` throws
 */
export async function modelledCatalog(url: string, model: TenancyModel, purpose: string): Promise<Catalog> {
  const catalog = await liveCatalog(url, purpose);
  refuseStranger(model, catalog);
  assertModelComplete(model, catalog);
  return catalog;
}
