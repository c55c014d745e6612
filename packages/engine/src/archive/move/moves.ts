import type pg from 'pg';
import type { Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';

export type MoveState = 'copying' | 'switching' | 'switched' | 'finished' | 'cancelled';

/** A tenant on its way between this database and another. */
export interface Move {
  /** Of its operation. */
  readonly id: string;
  readonly tenant: string;
  /** The database that is not this one. */
  readonly placement: string;
  readonly direction: 'out' | 'back';
  readonly state: MoveState;
  /** What the tenant's state was before it was fenced; null until then. */
  readonly registryState: string | null;
  readonly graceSeconds: number;
  readonly rows: number | null;
  readonly sha256: string | null;
  readonly startedAt: Date;
  readonly switchedAt: Date | null;
  /** From then on the old rows may go. */
  readonly removeAfter: Date | null;
  readonly finishedAt: Date | null;
}

/** Columns of `partywall_control.moves m` that make a `Move`. */
const columns = `m.id, m.tenant_id as tenant, m.placement, m.direction, m.state, m.registry_state as "registryState", m.grace_seconds::float8 as "graceSeconds",
m.rows::float8 as rows, m.sha256, m.started_at as "startedAt", m.switched_at as "switchedAt", m.remove_after as "removeAfter", m.finished_at as "finishedAt"`;

/** Latest first. */
export async function listMoves(operation: Operation, input: { readonly tenant?: string | undefined; readonly limit: number }): Promise<Move[]> {
  const { rows } = await operation.database.pool.query<Move>(
    `select ${columns} from partywall_control.moves m where $1::text is null or m.tenant_id = $1 order by m.started_at desc, m.id limit $2`,
    [input.tenant ?? null, input.limit],
  );
  return rows;
}

/** @throws PartywallError operation_unknown */
export async function readMove(client: pg.ClientBase | pg.Pool, id: string): Promise<Move> {
  const { rows } = await client.query<Move>(`select ${columns} from partywall_control.moves m where m.id = $1`, [id]);
  const move = rows[0];
  if (!move) throw new PartywallError('operation_unknown', `looking for move ${JSON.stringify(id)}: there is none`);
  return move;
}

/** The tenant's latest move in one of these states, locked where it is asked for in a transaction. */
export async function findMove(client: pg.ClientBase | pg.Pool, tenant: string, states: readonly MoveState[], lock = false): Promise<Move | undefined> {
  const { rows } = await client.query<Move>(
    `select ${columns} from partywall_control.moves m where m.tenant_id = $1 and m.state = any ($2) order by m.started_at desc limit 1${lock ? ' for update' : ''}`,
    [tenant, states],
  );
  return rows[0];
}

/** Moves whose old rows may go at `now`, longest due first. */
export async function dueMoves(client: pg.Pool, now: Date, limit: number): Promise<Move[]> {
  const { rows } = await client.query<Move>(
    `select ${columns} from partywall_control.moves m where m.state = 'switched' and m.remove_after <= $1 order by m.remove_after, m.id limit $2`,
    [now, limit],
  );
  return rows;
}
