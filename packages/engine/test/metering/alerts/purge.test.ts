import { randomUUID } from 'node:crypto';
import { purgeAlerts } from '@partywall/engine';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';

const fixture = await controlDatabase();
const { query } = fixture.database;

const daysAgo = (days: number): Date => new Date(Date.now() - days * 86_400_000);

/** An alert that was resolved so many days ago, or that is open since then. */
async function alert(status: 'open' | 'resolved', days: number): Promise<string> {
  const { rows } = await query<{ id: string }>(
    `insert into partywall_control.alerts (rule, title, tenant_id, subject, metric, status, severity, value, threshold, details, opened_at, resolved_at, resolution)
values ('quotas', 'Quota', $1, '', 'quota', $2, 'warning', 90, 80, '{}', $3, case when $2 = 'resolved' then $3::timestamptz end, case when $2 = 'resolved' then 'cleared' end)
returning id`,
    [randomUUID(), status, daysAgo(days)],
  );
  return rows[0]?.id ?? '';
}

async function delivery(name: string, of: { alert?: string; status: 'waiting' | 'delivered' | 'failed'; days: number }): Promise<void> {
  await query(
    `insert into partywall_control.deliveries (channel, alert_id, event, payload, status, created_at, finished_at)
values ('ops', $1, 'opened', jsonb_build_object('name', $2::text), $3, $4, case when $3 <> 'waiting' then $4::timestamptz end)`,
    [of.alert, name, of.status, daysAgo(of.days)],
  );
}

test('old deliveries and old resolved alerts go, and nothing else does', async () => {
  await query(
    "insert into partywall_control.alert_channels (name, kind, severities, shown, target, enabled) values ('ops', 'email', '{warning}', '', '', false)",
  );
  const [open, old, recent] = [await alert('open', 500), await alert('resolved', 401), await alert('resolved', 399)];
  await delivery('of an alert that goes', { alert: old, status: 'delivered', days: 1 });
  await delivery('delivered long ago', { alert: recent, status: 'delivered', days: 31 });
  await delivery('failed long ago', { status: 'failed', days: 31 });
  await delivery('waiting for a week', { status: 'waiting', days: 8 });
  await delivery('delivered lately', { alert: recent, status: 'delivered', days: 29 });
  await delivery('waiting', { status: 'waiting', days: 6 });
  await delivery('delivered long ago, of an alert that stands', { alert: open, status: 'delivered', days: 500 });

  expect(await purgeAlerts(fixture.operation())).toEqual({ alerts: 1, deliveries: 3, finished: true });
  const alerts = await query<{ id: string }>('select id from partywall_control.alerts');
  expect(alerts.rows.map(({ id }) => id).toSorted()).toEqual([open, recent].toSorted());
  const deliveries = await query<{ name: string }>("select payload ->> 'name' as name from partywall_control.deliveries order by seq");
  expect(deliveries.rows.map(({ name }) => name)).toEqual(['delivered lately', 'waiting', 'delivered long ago, of an alert that stands']);
  expect(await purgeAlerts(fixture.operation())).toEqual({ alerts: 0, deliveries: 0, finished: true });
  const { rows } = await query("select details from partywall_control.audit_records where action = 'alert.purge'");
  expect(rows).toEqual([{ details: { alerts: 1, deliveries: 3 } }]);
});

test('an operation that is called off stops between batches', async () => {
  await expect(purgeAlerts(fixture.operation({ signal: AbortSignal.abort() }))).rejects.toThrow(/aborted/);
});
