import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { beginOperation, type LongOperation } from '../../durable/operations.ts';
import type { Durable } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { readErasurePlan } from '../../tenants/erase/erase.ts';
import { countTenant } from '../../tenants/erase/row-changes.ts';
import { readTenant } from '../../tenants/tenant.ts';
import { lockTenant } from '../../tenants/transition.ts';
import { findMove, type Move } from './moves.ts';
import { home, operationIn, type Placements } from './placements.ts';
import { isHome, movePrefix, readRegistry } from './registry.ts';
import { countRowsLeft, removeRows } from './remove-rows.ts';

/** Kind of the operation that moves a tenant. */
export const moveKind = 'tenant.move';

const openStates = ['copying', 'switching'] as const;

export interface MoveInput {
  readonly tenant: string;
  /** Where to; undefined: back into this database. */
  readonly to?: string | undefined;
  /** How long the old rows stay after the switch. */
  readonly graceSeconds: number;
  readonly reason?: string | undefined;
}

/** What a move would do. */
export interface MovePreview {
  readonly tenant: string;
  readonly placement: string;
  readonly direction: Move['direction'];
  readonly from: string;
  readonly to: string;
  readonly tables: readonly { readonly table: string; readonly rows: number }[];
  /** Old rows of an earlier move that go first. */
  readonly leftInTarget: number;
  /** Why it would be refused, if it would. */
  readonly refusal: string | null;
}

/** @throws PartywallError tenant_unknown, placement_unknown, and what connecting throws */
export async function previewMove(operation: Operation, placements: Placements, input: MoveInput): Promise<MovePreview> {
  const { pool } = operation.database;
  const way = await decideWay(operation, input);
  const placement = await placements.open(way.placement);
  const there = operationIn(operation, placement);
  const [from, to] = way.direction === 'out' ? [operation, there] : [there, operation];
  const plan = await readErasurePlan(from.database);
  const tables = await countTenant(
    from.database.pool,
    plan.groups.flatMap((group) => group.tables),
    input.tenant,
  );
  const { database: here } = (await pool.query<{ database: string }>('select current_database() as database')).rows[0] ?? { database: '' };
  return {
    tenant: input.tenant,
    ...way,
    from: way.direction === 'out' ? here : placement.description,
    to: way.direction === 'out' ? placement.description : here,
    tables: [...tables].map(([table, rows]) => ({ table, rows })),
    leftInTarget: await countRowsLeft(to, input.tenant),
    refusal: await refusalOf(from, to, input.tenant),
  };
}

/**
 * Begins to move a tenant to another database, or back. Nobody enters it until it is there; how far it is, the operation tells. Asking again while it
 * runs, or after it failed, goes on with the same move.
 *
 * @throws PartywallError tenant_unknown, placement_unknown, move_refused
 */
export async function moveTenant(
  operation: Operation,
  durable: Durable,
  { placements, ...input }: MoveInput & { readonly placements: Placements },
): Promise<LongOperation> {
  const { pool, clock } = operation.database;
  const way = await decideWay(operation, input);
  const placement = await placements.open(way.placement);
  const begun = await transaction(pool, async (client) => {
    await lockTenant(client, input.tenant);
    const open = await findMove(client, input.tenant, openStates, true);
    if (open && (open.placement !== way.placement || open.direction !== way.direction)) {
      throw new PartywallError(
        'move_refused',
        `moving tenant ${input.tenant}: it is on its way ${open.direction === 'out' ? 'to' : 'back from'} ${open.placement}`,
        {
          hint: 'let that move end, or cancel it: `partywall move cancel`',
        },
      );
    }
    if (!open) {
      const there = operationIn(operation, placement);
      const refusal = await refusalOf(...(way.direction === 'out' ? ([operation, there] as const) : ([there, operation] as const)), input.tenant);
      if (refusal !== null) throw new PartywallError('move_refused', `moving tenant ${input.tenant}: ${refusal}`);
    }
    const long = await beginOperation(client, operation, { kind: moveKind, tenant: input.tenant, reason: input.reason });
    await client.query(
      'insert into partywall_control.placements (name, description) values ($1, $2) on conflict (name) do update set description = excluded.description',
      [placement.name, placement.description],
    );
    const { rowCount } = await client.query(
      `insert into partywall_control.moves (id, tenant_id, placement, direction, grace_seconds, started_at) values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing`,
      [long.id, input.tenant, way.placement, way.direction, input.graceSeconds, clock()],
    );
    if (rowCount === 1) {
      await appendAudit(client, operation, {
        tenant: input.tenant,
        action: 'tenant.move',
        reason: input.reason,
        details: { ...way, graceSeconds: input.graceSeconds },
      });
    }
    return long;
  });
  await durable.start(begun);
  return begun;
}

/**
 * Gives up a move that has not switched yet: the tenant is let in again where it was. What was copied stays kept out, and goes.
 *
 * @throws PartywallError move_refused
 */
export async function cancelMove(
  operation: Operation,
  placements: Placements,
  input: { readonly tenant: string; readonly reason?: string | undefined },
): Promise<Move> {
  const { pool, clock } = operation.database;
  const move = await transaction(pool, async (client) => {
    const open = await findMove(client, input.tenant, [...openStates, 'cancelled'], true);
    if (!open) throw new PartywallError('move_refused', `cancelling the move of tenant ${input.tenant}: none is under way`);
    // A cancellation that was cut off goes on.
    if (open.state === 'cancelled') return open;
    if (open.state !== 'copying') {
      throw new PartywallError('move_refused', `cancelling the move of tenant ${input.tenant}: it has switched; move it back instead`, {
        hint: 'ask for the move again, which lets the tenant in at its new place; then `partywall move back`',
      });
    }
    await client.query("update partywall_control.moves set state = 'cancelled', finished_at = $2 where id = $1", [open.id, clock()]);
    // Ended, not failed: a failed one would be what the next move of the tenant goes on with.
    await client.query(
      "update partywall_control.operations o set state = 'done', step = 'cancelled', error = null, finished_at = $2, changed_at = $2 where o.id = $1",
      [open.id, clock()],
    );
    await appendAudit(client, operation, { tenant: input.tenant, action: 'tenant.move.cancel', reason: input.reason, details: { placement: open.placement } });
    return open;
  });
  const there = operationIn(operation, await placements.open(move.placement));
  const [from, to] = move.direction === 'out' ? [operation, there] : [there, operation];
  await from.database.pool.query(
    'update partywall.registry g set state = $3, reason = null where g.tenant_id::text = $1 and g.reason = $2 and g.placement is null',
    [input.tenant, fenceReason(move), move.registryState ?? 'active'],
  );
  await to.database.pool.query('update partywall.registry g set placement = $3, reason = null where g.tenant_id::text = $1 and g.reason = $2', [
    input.tenant,
    fenceReason(move),
    move.direction === 'out' ? home : move.placement,
  ]);
  const arrived = await readRegistry(to, input.tenant);
  if (arrived && !isHome(arrived)) await removeRows(to, input.tenant, move.id);
  return { ...move, state: 'cancelled' };
}

/**
 * Removes the old rows of a tenant that has moved, once their grace has ended. The tenant's entry stays, by which it is known where it is.
 *
 * @param input.now before the end of the grace
 * @throws PartywallError move_refused (nothing to finish, the grace has not ended, a legal hold, or the tenant is not at home where it moved)
 */
export async function finishMove(
  operation: Operation,
  placements: Placements,
  input: { readonly tenant: string; readonly now?: boolean | undefined },
): Promise<{ readonly move: Move; readonly rows: number }> {
  const { pool, clock } = operation.database;
  const move = await findMove(pool, input.tenant, ['switched']);
  const refuse = (why: string): PartywallError => new PartywallError('move_refused', `removing the old rows of tenant ${input.tenant}: ${why}`);
  if (!move) throw refuse('no move of it waits to be finished');
  if (!input.now && move.removeAfter !== null && move.removeAfter > clock()) throw refuse(`their grace lasts until ${move.removeAfter.toISOString()}`);
  const there = operationIn(operation, await placements.open(move.placement));
  const [from, to] = move.direction === 'out' ? [operation, there] : [there, operation];
  for (const each of [from, to]) if ((await readTenant(each.database.pool, input.tenant)).hold) throw refuse('it is under a legal hold');
  const [old, arrived] = [await readRegistry(from, input.tenant), await readRegistry(to, input.tenant)];
  if (!arrived || !isHome(arrived)) throw refuse('it is not at home where it moved to');
  if (!old || old.placement === null) throw refuse('it is at home where they are');
  const rows = await countRowsLeft(from, input.tenant);
  await removeRows(from, input.tenant, move.id);
  await transaction(pool, async (client) => {
    const { rowCount } = await client.query("update partywall_control.moves set state = 'finished', finished_at = $2 where id = $1 and state = 'switched'", [
      move.id,
      clock(),
    ]);
    if (rowCount === 1)
      await appendAudit(client, operation, {
        tenant: input.tenant,
        action: 'tenant.move.finish',
        details: { placement: move.placement, direction: move.direction, rows },
      });
  });
  return { move: { ...move, state: 'finished' }, rows };
}

/** What the registry says while a move keeps everybody out. */
export function fenceReason({ id }: Pick<Move, 'id'>): string {
  return `${movePrefix}${id}`;
}

/** @throws PartywallError tenant_unknown, move_refused */
async function decideWay(operation: Operation, { tenant, to }: Pick<MoveInput, 'tenant' | 'to'>): Promise<{ placement: string; direction: Move['direction'] }> {
  await readTenant(operation.database.pool, tenant);
  const open = await findMove(operation.database.pool, tenant, openStates);
  if (open && (to === undefined ? open.direction === 'back' : open.direction === 'out' && open.placement === to)) return open;
  const registered = await readRegistry(operation, tenant);
  const placement = registered?.placement ?? null;
  if (to === undefined) {
    if (placement === null) throw new PartywallError('move_refused', `moving tenant ${tenant} back: it is here`);
    return { placement, direction: 'back' };
  }
  if (placement !== null) throw new PartywallError('move_refused', `moving tenant ${tenant} to ${to}: it is in ${placement}`, { hint: 'move it back first' });
  return { placement: to, direction: 'out' };
}

/** Why a tenant cannot go from one database to another. */
async function refusalOf(from: Operation, to: Operation, tenant: string): Promise<string | null> {
  const found = await readTenant(from.database.pool, tenant);
  if (found.hold) return 'it is under a legal hold, so none of its rows may go';
  if (found.status === 'deleted' || found.status === 'erasing') return `it is ${found.status}`;
  const leaving = await readRegistry(from, tenant);
  if (!leaving || leaving.placement !== null) return 'it is not at home where it would leave';
  if (leaving.state === 'fenced') return `it is fenced: ${leaving.reason ?? 'nobody says why'}`;
  const arriving = await readRegistry(to, tenant);
  if (arriving && isHome(arriving)) return 'the other database has it at home too';
  return null;
}
