import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { type Alert, type AlertRow, alertColumns, alertSource, toAlert } from './alert.ts';
import type { Severity } from './metrics.ts';

export interface AlertFilter {
  /** Default: open. */
  readonly status?: 'open' | 'resolved' | 'all' | undefined;
  readonly severity?: Severity | undefined;
  /** Key of a tenant: that one's alone. */
  readonly tenant?: string | undefined;
  readonly acknowledged?: boolean | undefined;
  readonly limit: number;
  /** Sort key of the last alert of the page before. */
  readonly after?: { readonly openedAt: string; readonly id: string } | undefined;
}

/** Open alerts, latest first unless the filter says otherwise. Shows what the last evaluation found; see `refreshAlerts`. */
export async function listAlerts({ database }: Operation, filter: AlertFilter): Promise<Alert[]> {
  const { status = 'open', severity, tenant, acknowledged, limit, after } = filter;
  const { rows } = await database.pool.query<AlertRow>(
    `select ${alertColumns} from ${alertSource}
where a.opened_at is not null and ($1 = 'all' or a.status = $1)
  and ($2::text is null or a.severity = $2) and ($3::text is null or a.tenant_id = $3)
  and ($4::boolean is null or (a.acknowledged_at is not null) = $4)
  and ($5::timestamptz is null or (a.opened_at, a.id) < ($5, $6::uuid))
order by a.opened_at desc, a.id desc limit $7`,
    [status, severity, tenant, acknowledged, after?.openedAt, after?.id, limit],
  );
  return rows.map(toAlert);
}

/** How many alerts are open, by severity. */
export interface AlertCounts {
  readonly warning: number;
  readonly critical: number;
  readonly acknowledged: number;
}

export async function countOpenAlerts({ database }: Operation, tenant?: string): Promise<AlertCounts> {
  const { rows } = await database.pool.query<AlertCounts>(
    `select count(*) filter (where severity = 'warning')::integer as warning, count(*) filter (where severity = 'critical')::integer as critical,
  count(acknowledged_at)::integer as acknowledged
from partywall_control.alerts where status = 'open' and ($1::text is null or tenant_id = $1)`,
    [tenant],
  );
  return rows[0] ?? { warning: 0, critical: 0, acknowledged: 0 };
}

/**
 * Records that somebody looks after an open alert. The first one counts: acknowledging again changes nothing.
 *
 * @throws PartywallError alert_unknown; transition_refused where it is resolved
 */
export async function acknowledgeAlert(operation: Operation, input: { readonly id: string; readonly note?: string | undefined }): Promise<Alert> {
  const { actor, database } = operation;
  return transaction(database.pool, async (client) => {
    const { rows } = await client.query<AlertRow>(`select ${alertColumns} from ${alertSource} where a.id = $1 and a.opened_at is not null for update of a`, [
      input.id,
    ]);
    const before = rows[0];
    if (!before) throw new PartywallError('alert_unknown', `acknowledging alert ${input.id}`);
    if (before.acknowledged_at) return toAlert(before);
    if (before.status === 'resolved') {
      throw new PartywallError('transition_refused', `acknowledging alert ${input.id}: it is resolved`, { hint: 'only open alerts are acknowledged' });
    }
    const changed = { acknowledged_at: database.clock(), acknowledged_by: actor.name ?? actor.id, note: input.note ?? null };
    await client.query('update partywall_control.alerts set acknowledged_at = $2, acknowledged_by = $3, note = $4 where id = $1', [
      input.id,
      changed.acknowledged_at,
      changed.acknowledged_by,
      changed.note,
    ]);
    const tenant = before.tenant_id === '' ? null : before.tenant_id;
    await appendAudit(client, operation, {
      tenant,
      action: 'alert.acknowledge',
      target: `alert:${input.id}`,
      reason: input.note,
      details: { rule: before.rule },
    });
    return toAlert({ ...before, ...changed });
  });
}
