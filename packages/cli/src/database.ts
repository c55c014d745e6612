import { type Catalog, connect, readCatalog } from '@partywall/engine';

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
