import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { ident } from '../../db/sql.ts';
import { quoted } from '../../model/table-name.ts';
import type { WantedTable, WantedWall } from '../../wall/shape.ts';
import type { Cast } from './scene.ts';

/** Tenants to play with, read as the administrator. */
export interface Troupe {
  /** Undefined where the database has fewer than two tenants that can be entered. */
  readonly cast: Cast | undefined;
  readonly enterable: number;
  readonly closed: readonly { readonly tenant: string; readonly state: string; readonly placed: boolean }[];
}

export async function findCast(admin: pg.ClientBase, wanted: WantedWall): Promise<Troupe> {
  const root = [...wanted.tables.values()].find((table) => table.rule === undefined);
  if (!root) return { cast: undefined, enterable: 0, closed: [] };
  const { rows } = await admin.query<{ tenant: string }>(
    `select t.tenant_id::text as tenant from partywall.registry t join ${quoted(root.relation.table)} r on r.${ident(root.column)} = t.tenant_id
     where t.state = 'active' and t.placement is null order by t.registered_at, t.tenant_id limit 2`,
  );
  const closed = await admin.query<{ tenant: string; state: string; placed: boolean }>(
    `select distinct on (state, placement is not null) tenant_id::text as tenant, state, placement is not null as placed from partywall.registry
     where placement is not null or state not in ('active', 'read_only') order by state, placement is not null, tenant_id limit 8`,
  );
  const [victim, attacker] = rows;
  if (!victim || !attacker) return { cast: undefined, enterable: rows.length, closed: closed.rows };
  return { cast: { victim: victim.tenant, attacker: attacker.tenant, nobody: await unusedTenant(admin, wanted) }, enterable: rows.length, closed: closed.rows };
}

/** The tenant of some row of a table, among those that can be entered: for tables that nothing can be planted in. */
export async function tenantWithRows(admin: pg.ClientBase, table: WantedTable): Promise<string | undefined> {
  const { rows } = await admin.query<{ tenant: string }>(
    `select t.${ident(table.column)}::text as tenant from ${quoted(table.relation.table)} t
     where exists (select from partywall.registry r where r.tenant_id = t.${ident(table.column)} and r.state = 'active' and r.placement is null) limit 1`,
  );
  return rows[0]?.tenant;
}

const triesMax = 20;

/** A well-formed id of no tenant. It fits the narrowest tenant column, so that it can be written as a value of each. */
async function unusedTenant(admin: pg.ClientBase, wanted: WantedWall): Promise<string> {
  const types = new Set([wanted.keyType, ...[...wanted.tables.values()].map((table) => table.columnType)]);
  for (let tries = 0; tries < triesMax; tries += 1) {
    const candidate = types.has('uuid')
      ? randomUUID()
      : types.has('smallint')
        ? String(randomInt(20_000, 32_767))
        : wanted.keyType === 'text'
          ? `pw-${randomBytes(9).toString('hex')}`
          : String(randomInt(1_900_000_000, 2_147_483_647));
    const { rows } = await admin.query<{ used: boolean }>('select exists (select from partywall.registry where tenant_id::text = $1) as used', [candidate]);
    if (rows[0]?.used === false) return candidate;
  }
  throw new Error('looking for an id of no tenant: every one tried is used');
}
