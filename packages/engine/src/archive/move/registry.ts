import type { Operation } from '../../db/operation.ts';

/** What the wall's registry of a database says of a tenant. */
export interface Registered {
  readonly state: string;
  /** Another database, where it is there. */
  readonly placement: string | null;
  readonly reason: string | null;
}

export async function readRegistry({ database }: Operation, tenant: string): Promise<Registered | undefined> {
  const { rows } = await database.pool.query<Registered>('select g.state, g.placement, g.reason from partywall.registry g where g.tenant_id::text = $1', [
    tenant,
  ]);
  return rows[0];
}

/** Whether the tenant lives there: neither placed elsewhere, nor fenced by a move that has not ended, or was given up. */
export function isHome({ state, placement, reason }: Registered): boolean {
  return placement === null && !(state === 'fenced' && reason?.startsWith(movePrefix));
}

/** What the registry's reason begins with while a move keeps everybody out. */
export const movePrefix = 'move ';
