import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction, transactionOn } from '../../db/operation.ts';
import { finishOperation, reportProgress } from '../../durable/operations.ts';
import type { Work, WorkContext } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { type SigningKey, signingKey } from '../../keyring/signing.ts';
import { issueCertificate, nameHash } from '../certificate.ts';
import { fence } from '../fence.ts';
import { type BackupEraser, type ErasedBackups, refuseBackedUp, refuseMoving } from './backup-eraser.ts';
import { deleteControlRows, deletePeople, deleteQuarantined, forgetInAlerts, leftControlRows } from './control-rows.ts';
import { deleteGroup, deleteLastGroup } from './delete-rows.ts';
import { readErasurePlan } from './erase.ts';
import type { ErasurePlan } from './erasure-plan.ts';
import { countRows, countTenant } from './row-changes.ts';
import { forgetInWall } from './wall-rows.ts';

/** A trigger that keeps history may add rows while others go; more rounds than this mean that something writes on. */
const passesMax = 5;

/**
 * Erases a tenant. Every step can be run again: rows that are gone are not counted twice, and what was counted before the first row went is
 * kept with the operation. The tenant stays kept out until the transaction that removes its last row.
 *
 * @param backups undefined where there is no archive; a database that was backed up is refused then
 */
export function eraseWork(backups?: BackupEraser): Work {
  const prepare = async (operation: Operation, tenant: string): Promise<void> => {
    await refuseMoving(operation, tenant);
    await (backups ? backups.prepare(operation, tenant) : refuseBackedUp(operation, tenant));
  };
  const work: Work = async (context) => {
    const { operation, id, tenant, step } = context;
    const { database } = operation;
    const { pool } = database;
    const say = (what: string): Promise<void> => reportProgress(pool, id, { step: what });
    await step('prepare', async () => {
      // Ended by another worker that was thought to be gone: what is looked for went with the tenant.
      if (!(await isErasing(pool, tenant))) return;
      await say('looking for the archive and its keys');
      await prepare(operation, tenant);
      await backups?.announce(operation, tenant);
    });
    await step('fence', async () => {
      await say('keeping everybody out');
      await fence(pool, tenant);
    });
    await step('count', async () => rememberCounts(id, tenant, await readErasurePlan(database), pool));
    for (let pass = 1; ; pass += 1) {
      if (pass > passesMax) throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: its rows keep coming back`);
      // Planned in every round: after a restart the catalog may be another one.
      const plan = await readErasurePlan(database);
      for (const [at, group] of plan.groups.slice(0, -1).entries()) {
        await step(`delete ${pass}.${at} ${group.tables.map(({ table }) => table).join(', ')}`, () => deleteGroup({ pool, tenant, plan, id }, group));
      }
      if (await step(`verify ${pass}`, () => isEmpty(id, tenant, plan, pool))) break;
    }
    // One step: between the end of the keys and that of the last row nothing may come that makes the tenant new ones.
    await step('certify', async () => {
      if (!(await isErasing(pool, tenant))) return;
      // Planned once more: triggers and cascades are those of the last moment.
      const end = { ...context, plan: await readErasurePlan(database), key: await signingKey(database.keyring) };
      if (!backups) await transaction(pool, (client) => certify(client, end));
      else await backups.conclude({ operation, id, tenant, say }, (client, erased) => transactionOn(client, () => certify(client, end, erased)));
    });
  };
  return Object.assign(work, { prepare });
}

async function isErasing(pool: Pool, tenant: string): Promise<boolean> {
  return (await pool.query("select from partywall_control.directory d where d.tenant_id = $1 and d.status = 'erasing'", [tenant])).rowCount === 1;
}

type Pool = WorkContext['operation']['database']['pool'];

/** The counts before the first row went: a second run finds them and leaves them. */
async function rememberCounts(id: string, tenant: string, plan: ErasurePlan, pool: Pool): Promise<void> {
  const counts = await countTenant(
    pool,
    plan.groups.flatMap(({ tables }) => tables),
    tenant,
  );
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  await pool.query(
    `update partywall_control.operations o set details = o.details || $2, total = $3, step = 'counted', changed_at = now()
where o.id = $1 and not o.details ? 'before'`,
    [id, JSON.stringify({ before: Object.fromEntries(counts) }), total],
  );
}

async function isEmpty(id: string, tenant: string, plan: ErasurePlan, pool: Pool): Promise<boolean> {
  await reportProgress(pool, id, { step: 'looking for rows that are left' });
  const counts = await countTenant(
    pool,
    plan.groups.slice(0, -1).flatMap(({ tables }) => tables),
    tenant,
  );
  return [...counts.values()].every((count) => count === 0);
}

interface Ending extends Omit<WorkContext, 'step'> {
  readonly plan: ErasurePlan;
  readonly key: SigningKey;
}

/** The root's row, what the control plane holds, the certificate and the end of the operation: together or not at all. */
async function certify(client: pg.ClientBase, { operation, id, tenant, reason, plan, key }: Ending, backups?: ErasedBackups): Promise<void> {
  const { model, clock } = operation.database;
  const { rows } = await client.query<{ name: string; started_at: Date; before: Record<string, number> | null }>(
    `select d.name, o.started_at, o.details -> 'before' as before from partywall_control.directory d
join partywall_control.operations o on o.id = $2 where d.tenant_id = $1 and d.status = 'erasing' for update of d`,
    [tenant, id],
  );
  const found = rows[0];
  // Another worker, thought to be gone, has ended it.
  if (!found) return;
  // Before the root's row, whose trigger takes the memberships along that tell who belongs nowhere else.
  const people = await deletePeople(client, tenant);
  await deleteLastGroup(client, plan, tenant);
  // Triggers that wait for the end of a transaction have their say now, so that the last look sees what they write.
  await client.query('set constraints all immediate');
  const quarantined = await deleteQuarantined(client, model, tenant);
  const control = (await deleteControlRows(client, tenant)) + (await forgetInAlerts(client, tenant));
  const wall = await forgetInWall(client, tenant);
  const tables: { table: string; before: number; after: 0 }[] = [];
  const left = await leftControlRows(client, tenant);
  for (const table of plan.groups.flatMap((group) => group.tables)) {
    if ((await countRows(client, table, tenant)) > 0) left.push(table.table);
    else tables.push({ table: table.table, before: found.before?.[table.table] ?? 0, after: 0 });
  }
  if (left.length > 0) throw new PartywallError('erasure_refused', `erasing tenant ${JSON.stringify(tenant)}: rows are left in ${left.join(', ')}`);
  const salt = randomBytes(16).toString('hex');
  const certificate = await issueCertificate(client, key, {
    tenant: { id: tenant, nameSalt: salt, nameHash: nameHash(salt, found.name) },
    operation: id,
    requestedBy: { kind: operation.actor.kind, id: operation.actor.id },
    reason: reason ?? null,
    requestedAt: found.started_at.toISOString(),
    completedAt: clock().toISOString(),
    tables,
    removed: { people, control, quarantined, wall },
    copies: [...plan.copies],
    ...(backups && { backups }),
  });
  await finishOperation(client, id);
  const rowsGone = tables.reduce((sum, { before }) => sum + before, 0);
  await appendAudit(client, operation, { tenant, action: 'tenant.erased', reason, details: { rows: rowsGone, certificate: certificate.hash } });
}
