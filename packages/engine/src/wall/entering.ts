import type pg from 'pg';

/** A statement with its values, for a session of the application's role. */
export interface EnterStatement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/**
 * What admits a session of the application's role to a tenant, sealed or not: sealed by the database's own key, which only the owner of schema
 * `partywall` and the service role can have seals made with. Good for a minute. Where the database is of a version without seals, its plain entering.
 *
 * @param admin a session of the owner's or the service role
 */
export async function entering(admin: pg.ClientBase | pg.Pool, tenant: string, unit: string | null = null): Promise<EnterStatement> {
  const found = await admin.query<{ seals: boolean }>("select pg_catalog.to_regprocedure('partywall.make_seal(text, text)') is not null as seals");
  if (!found.rows[0]?.seals) return { text: 'select partywall.enter($1)', values: [tenant] };
  const { rows } = await admin.query<{ key: number; expires: string; mac: Buffer }>('select key, expires, mac from partywall.make_seal($1, $2)', [
    tenant,
    unit,
  ]);
  const [seal] = rows;
  if (!seal) throw new Error('making a seal: a function that returns one row returned none');
  return { text: 'select partywall.enter_sealed($1, $2, null, $3, $4, $5)', values: [tenant, unit, seal.key, seal.expires, seal.mac] };
}
