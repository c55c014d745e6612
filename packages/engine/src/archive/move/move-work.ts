import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { finishOperation, reportProgress } from '../../durable/operations.ts';
import type { Work } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { fence } from '../../tenants/fence.ts';
import { copyRows } from '../../tenants/transfer/copy-rows.ts';
import { openTransfer, pinTexts } from '../../tenants/transfer/session.ts';
import { liveSource } from '../live-source.ts';
import { readControlRows } from './control-rows.ts';
import { copyTenantInto, readDirectory } from './copy-tenant-into.ts';
import { hashSource, type SourceHash } from './hash-source.ts';
import { fenceReason } from './move-tenant.ts';
import { type Move, readMove } from './moves.ts';
import { home, operationIn, type Placements } from './placements.ts';
import { isHome, readRegistry } from './registry.ts';
import { removeRows } from './remove-rows.ts';

/** A move on its way, with both databases. */
interface Moving {
  readonly move: Move;
  readonly here: Operation;
  readonly from: Operation;
  readonly to: Operation;
}

/**
 * Moves a tenant. Every step can be run again, and leaves the tenant with one home or, between switch and admission, with none:
 *
 * 1. *prepare*: rows that an earlier stay has left in the new home go.
 * 2. *fence*: the old home lets nobody in; who is inside has left.
 * 3. *copy*: one transaction of the new home, which keeps the tenant fenced.
 * 4. *compare*: both homes, row by row, by hash.
 * 5. *switch*: the old home refuses the tenant and names its placement. From here on there is no way back but a move back.
 * 6. *admit*: the new home lets it in.
 */
export function moveWork(placements: Placements): Work {
  return async ({ operation, id, step }) => {
    const { pool } = operation.database;
    const moving = async (): Promise<Moving> => {
      const move = await readMove(pool, id);
      const there = operationIn(operation, await placements.open(move.placement));
      const [from, to] = move.direction === 'out' ? [operation, there] : [there, operation];
      return { move, here: operation, from, to };
    };
    const report = (what: string): Promise<void> => reportProgress(pool, id, { step: what });
    await step('prepare', async () => {
      await report('preparing the new home');
      await prepare(await moving());
    });
    await step('fence', async () => {
      await report('keeping everybody out');
      await keepOut(await moving());
    });
    await step('copy', async () => {
      await report('copying');
      await copy(await moving());
    });
    await step('compare', async () => {
      await report('comparing');
      await compare(await moving());
    });
    await step('switch', async () => {
      await report('switching');
      await switchHome(await moving());
    });
    await step('admit', async () => admit(await moving()));
  };
}

async function prepare({ move, to }: Moving): Promise<void> {
  if (move.state !== 'copying') return;
  const left = await readRegistry(to, move.tenant);
  if (left && !isHome(left) && left.reason !== fenceReason(move)) await removeRows(to, move.tenant, move.id);
}

/** The state that the tenant will have again is remembered before it is fenced, in the database that moves are remembered in. */
async function keepOut({ move, here, from }: Moving): Promise<void> {
  if (move.state !== 'copying') return;
  const { pool } = here.database;
  const registered = await readRegistry(from, move.tenant);
  if (!registered || registered.placement !== null) throw refused(move, 'it is not at home where it would leave');
  if (registered.reason !== fenceReason(move)) {
    if (registered.state === 'fenced') throw refused(move, `it is fenced: ${registered.reason ?? 'nobody says why'}`);
    // Committed before the fence: whoever goes on after a crash between the two reads the state once more.
    await pool.query("update partywall_control.moves m set registry_state = $2 where m.id = $1 and m.state = 'copying'", [move.id, registered.state]);
    await transaction(pool, async (client) => {
      // A cancellation waits here, or has been: then nothing is fenced.
      const { rowCount } = await client.query("select from partywall_control.moves m where m.id = $1 and m.state = 'copying' for update", [move.id]);
      if (rowCount !== 1) throw refused(move, 'it was cancelled');
      const { rowCount: fenced } = await from.database.pool.query(
        "update partywall.registry g set state = 'fenced', reason = $2 where g.tenant_id::text = $1 and g.placement is null and g.state = $3",
        [move.tenant, fenceReason(move), registered.state],
      );
      if (fenced !== 1) throw refused(move, 'its state was changed meanwhile');
    });
  }
  await fence(from.database.pool, move.tenant);
  await holdFence(from, move);
}

async function copy(moving: Moving): Promise<void> {
  const { move, from, to } = moving;
  if (move.state !== 'copying') return;
  await holdFence(from, move);
  const arrived = await readRegistry(to, move.tenant);
  if (arrived?.reason === fenceReason(move)) {
    // An attempt before has copied; if not all is the same, all of it goes and comes again.
    const [left, right] = await bothHashes(moving);
    if (left.sha256 === right.sha256) return;
    await removeRows(to, move.tenant, move.id);
  }
  const directory = await readDirectory(from, move.tenant);
  const control = await readControlRows(from, move.tenant);
  const source = await liveSource(from, move.tenant);
  const reading = await openTransfer(from.database);
  try {
    await reading.client.query('begin isolation level repeatable read, read only');
    await pinTexts(reading.client);
    await copyTenantInto(to, source, {
      state: 'fenced',
      reason: fenceReason(move),
      directory,
      control,
      read: (query) => copyRows(reading.client, query),
      confirm: async () => {
        const { state } = await readMove(moving.here.database.pool, move.id);
        if (state !== 'copying') throw refused(move, 'it was cancelled');
        await holdFence(from, move);
      },
    });
    await reading.client.query('rollback');
    reading.close(true);
  } finally {
    reading.close(false);
    source.close();
  }
}

async function compare(moving: Moving): Promise<void> {
  const { move, here, from } = moving;
  if (move.state !== 'copying') return;
  const [left, right] = await bothHashes(moving);
  await holdFence(from, move);
  if (left.sha256 !== right.sha256) {
    throw new PartywallError(
      'restore_conflict',
      `comparing tenant ${move.tenant} in both databases: ${left.rows} rows here and ${right.rows} there do not hash the same`,
    );
  }
  await here.database.pool.query('update partywall_control.moves set rows = $2, sha256 = $3 where id = $1', [move.id, left.rows, left.sha256]);
}

async function bothHashes({ move, from, to }: Moving): Promise<[SourceHash, SourceHash]> {
  const hashes: SourceHash[] = [];
  for (const home of [from, to]) {
    const source = await liveSource(home, move.tenant);
    hashes.push(await hashSource(source).finally(() => source.close()));
  }
  const [left, right] = hashes;
  if (!left || !right) throw new TypeError('two homes have two hashes');
  return [left, right];
}

/** After this the tenant is at home in neither database until it is admitted, whatever happens; never in both. */
async function switchHome({ move, here, from }: Moving): Promise<void> {
  const { rowCount } = await here.database.pool.query(
    "update partywall_control.moves m set state = 'switching' where m.id = $1 and m.state in ('copying', 'switching') and m.sha256 is not null",
    [move.id],
  );
  if (rowCount !== 1) {
    if (move.state === 'switched' || move.state === 'finished') return;
    throw refused(move, move.state === 'cancelled' ? 'it was cancelled' : 'it was not compared');
  }
  await transaction(from.database.pool, async (client) => {
    const { rows } = await client.query<{ reason: string | null; placement: string | null; state: string }>(
      'select g.reason, g.placement, g.state from partywall.registry g where g.tenant_id::text = $1 for update',
      [move.tenant],
    );
    const registered = rows[0];
    const elsewhere = move.direction === 'out' ? move.placement : home;
    if (registered?.placement === elsewhere) return;
    if (registered?.reason !== fenceReason(move) || registered.state !== 'fenced') {
      await here.database.pool.query("update partywall_control.moves m set state = 'copying', sha256 = null where m.id = $1 and m.state = 'switching'", [
        move.id,
      ]);
      throw refused(move, 'its fence was lifted meanwhile');
    }
    await client.query('update partywall.registry g set placement = $2, reason = null where g.tenant_id::text = $1', [move.tenant, elsewhere]);
    await appendAudit(client, from, { tenant: move.tenant, action: 'tenant.moved', details: { to: elsewhere, rows: move.rows, sha256: move.sha256 } });
  });
}

async function admit({ move, here, to }: Moving): Promise<void> {
  const { pool, clock } = here.database;
  await transaction(to.database.pool, async (client) => {
    const { rowCount } = await client.query(
      'update partywall.registry g set state = $3, reason = null, placement = null where g.tenant_id::text = $1 and g.reason = $2',
      [move.tenant, fenceReason(move), move.registryState ?? 'active'],
    );
    // Admitted by an attempt before.
    if (rowCount !== 1) return;
    await appendAudit(client, to, { tenant: move.tenant, action: 'tenant.arrived', details: { rows: move.rows, sha256: move.sha256 } });
  });
  const arrived = await readRegistry(to, move.tenant);
  if (!arrived || !isHome(arrived)) throw refused(move, 'its new home does not let it in');
  await transaction(pool, async (client) => {
    // The rows of an earlier stay went before this one came.
    await client.query(
      "update partywall_control.moves m set state = 'finished', finished_at = $3 where m.tenant_id = $1 and m.id <> $2 and m.state = 'switched'",
      [move.tenant, move.id, clock()],
    );
    await client.query(
      `update partywall_control.moves m set state = 'switched', switched_at = $2::timestamptz, remove_after = $2::timestamptz + m.grace_seconds * interval '1 second' where m.id = $1 and m.state = 'switching'`,
      [move.id, clock()],
    );
    await finishOperation(client, move.id);
  });
}

/** @throws PartywallError move_refused where somebody has let the tenant in meanwhile: what was copied may be old */
async function holdFence(from: Operation, move: Move): Promise<void> {
  const registered = await readRegistry(from, move.tenant);
  if (registered?.state === 'fenced' && registered.reason === fenceReason(move) && registered.placement === null) return;
  throw refused(move, 'its fence was lifted meanwhile');
}

function refused(move: Move, why: string): PartywallError {
  return new PartywallError('move_refused', `moving tenant ${move.tenant} ${move.direction === 'out' ? 'to' : 'back from'} ${move.placement}: ${why}`);
}
