import type pg from 'pg';
import { PartywallError } from '../errors.ts';
import { sealedFact, unsealedFunctions } from '../wall/runtime.ts';

/** What a database says of its seal; never a key. */
export interface SealState {
  /** The role that may enter with a seal alone; undefined where the database is not sealed. */
  readonly sealed: string | undefined;
  /** The role may enter without a seal all the same. */
  readonly open: boolean;
  /** The context is kept where the application cannot set it. Without that a seal would close one of two doors. */
  readonly isProtected: boolean;
  /** By number; without the database's own. */
  readonly keys: readonly { readonly id: number; readonly createdAt: Date; readonly retiredAt: Date | null }[];
  /** The application's role may make temporary objects, which outlive a transaction behind a pooler. */
  readonly temporaryOpen: boolean;
}

interface Row {
  readonly sealed: string | null;
  readonly isProtected: boolean;
  readonly open: boolean;
  readonly temporaryOpen: boolean;
  readonly keys: readonly { readonly id: number; readonly createdAt: string; readonly retiredAt: string | null }[];
}

const stateSql = `select
  (select f.value ->> 'role' from partywall.facts f where f.name = '${sealedFact}') as sealed,
  coalesce((select f.value = 'true' from partywall.facts f where f.name = 'protected'), false) as "isProtected",
  coalesce((select bool_or(has_function_privilege(r.oid, f, 'execute')) from pg_catalog.pg_roles r, unnest($2::regprocedure[]) f where r.rolname = $1), false) as open,
  coalesce((select has_database_privilege(r.oid, current_database(), 'temp') from pg_catalog.pg_roles r where r.rolname = $1), false) as "temporaryOpen",
  coalesce((select json_agg(json_build_object('id', k.id, 'createdAt', k.created_at, 'retiredAt', k.retired_at) order by k.id) from partywall.seal_keys k where k.id > 0), '[]')
    as keys`;

/**
 * @param app role of the application
 * @throws PartywallError phase_refused (no wall, or one of an older version), permission_missing
 */
export async function readSealState(client: pg.ClientBase, app: string): Promise<SealState> {
  const found = await client.query<{ there: boolean; mine: boolean }>(
    `select count(*) > 0 as there, coalesce(bool_or(pg_has_role(c.relowner, 'usage')), false) as mine
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = 'partywall' and c.relname = 'seal_keys'`,
  );
  const { there = false, mine = false } = found.rows[0] ?? {};
  if (!there)
    throw new PartywallError('phase_refused', 'looking for the seal: schema partywall has none', { hint: 'run `partywall apply --phase expand` first' });
  if (!mine) throw new PartywallError('permission_missing', 'looking for the keys of the seal: they are the owner’s of schema partywall');
  const { rows } = await client.query<Row>(stateSql, [app, unsealedFunctions.map((name) => `partywall.${name}`)]);
  const [row] = rows;
  if (!row) throw new Error('reading the seal: a query that returns one row returned none');
  return {
    sealed: row.sealed ?? undefined,
    isProtected: row.isProtected,
    open: row.open,
    temporaryOpen: row.temporaryOpen,
    keys: row.keys.map(({ id, createdAt, retiredAt }) => ({ id, createdAt: new Date(createdAt), retiredAt: retiredAt === null ? null : new Date(retiredAt) })),
  };
}
