import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';

/** Resolved alerts are kept for longer than a year, so that a month can be compared with the same of the year before. */
const alertsKeptDays = 400;
const deliveriesKeptDays = 30;
/** What waits longer than this is for a channel that is switched off, and no news any more. */
const waitingKeptDays = 7;
const batchRowsMax = 1_000;
const batchesMax = 100;

export interface AlertPurge {
  readonly alerts: number;
  readonly deliveries: number;
  /** Whether everything that is too old is gone; otherwise the next run goes on. */
  readonly finished: boolean;
}

/** Deletes resolved alerts and old deliveries, in batches; to be run once a day. */
export async function purgeAlerts(operation: Operation): Promise<AlertPurge> {
  const now = operation.database.clock();
  const before = (days: number): Date => new Date(now.getTime() - days * 86_400_000);
  const deliveries = await inBatches(operation, deliveriesSql, [before(deliveriesKeptDays), before(waitingKeptDays)]);
  const alerts = await inBatches(operation, alertsSql, [before(alertsKeptDays)]);
  if (alerts.rows + deliveries.rows > 0) {
    const details = { alerts: alerts.rows, deliveries: deliveries.rows };
    await transaction(operation.database.pool, (client) => appendAudit(client, operation, { tenant: null, action: 'alert.purge', details }));
  }
  return { alerts: alerts.rows, deliveries: deliveries.rows, finished: alerts.finished && deliveries.finished };
}

/** Those of an alert that stands are kept: by them its channel is told of the end. */
const deliveriesSql = `delete from partywall_control.deliveries where id in (
  select d.id from partywall_control.deliveries d
  where (d.finished_at < $1 or (d.status = 'waiting' and d.created_at < $2))
    and not exists (select from partywall_control.alerts a where a.id = d.alert_id and a.status <> 'resolved')
  limit ${batchRowsMax} for update skip locked)`;
const alertsSql = `delete from partywall_control.alerts where id in (
  select id from partywall_control.alerts where status = 'resolved' and resolved_at < $1 limit ${batchRowsMax} for update skip locked)`;

async function inBatches(
  { database, signal }: Operation,
  sql: string,
  values: readonly Date[],
): Promise<{ readonly rows: number; readonly finished: boolean }> {
  let rows = 0;
  for (let batch = 0; batch < batchesMax; batch += 1) {
    signal?.throwIfAborted();
    const { rowCount } = await database.pool.query(sql, [...values]);
    rows += rowCount ?? 0;
    if ((rowCount ?? 0) < batchRowsMax) return { rows, finished: true };
  }
  return { rows, finished: false };
}
