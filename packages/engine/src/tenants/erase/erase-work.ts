import { randomBytes } from 'node:crypto';
import { appendAudit } from '../../audit/append.ts';
import { transaction } from '../../db/operation.ts';
import { finishOperation, reportProgress } from '../../durable/operations.ts';
import type { Work, WorkContext } from '../../durable/work.ts';
import { PartywallError } from '../../errors.ts';
import { signingKey } from '../../keyring/signing.ts';
import { issueCertificate, nameHash } from '../certificate.ts';
import { fence } from '../fence.ts';
import { deleteControlRows, deletePeople, deleteQuarantined, leftControlRows } from './control-rows.ts';
import { deleteGroup, deleteLastGroup } from './delete-rows.ts';
import { readErasurePlan } from './erase.ts';
import type { ErasurePlan } from './erasure-plan.ts';
import { countRows, countTenant } from './row-changes.ts';

/** A trigger that keeps history may add rows while others go; more rounds than this mean that something writes on. */
const passesMax = 5;

/**
 * Erases a tenant. Every step can be run again: rows that are gone are not counted twice, and what was counted before the first row went is
 * kept with the operation. The tenant stays kept out until the transaction that removes its last row.
 */
export const eraseWork: Work = async ({ operation, id, tenant, reason, step }) => {
  const { database } = operation;
  const { pool } = database;
  await step('fence', async () => {
    await reportProgress(pool, id, { step: 'keeping everybody out' });
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
  await step('certify', () => certify({ operation, id, tenant, reason }));
};

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

/** The root's row, what the control plane holds, the certificate and the end of the operation: together or not at all. */
async function certify({ operation, id, tenant, reason }: Omit<WorkContext, 'step'>): Promise<void> {
  const { pool, model, keyring, clock } = operation.database;
  const plan = await readErasurePlan(operation.database);
  const key = await signingKey(keyring);
  await transaction(pool, async (client) => {
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
    const control = await deleteControlRows(client, tenant);
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
      removed: { people, control, quarantined },
      copies: [...plan.copies],
    });
    await finishOperation(client, id);
    const rowsGone = tables.reduce((sum, { before }) => sum + before, 0);
    await appendAudit(client, operation, { tenant, action: 'tenant.erased', reason, details: { rows: rowsGone, certificate: certificate.hash } });
  });
}
