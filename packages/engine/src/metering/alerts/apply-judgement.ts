import type pg from 'pg';
import { type Alert, type AlertRow, alertColumns, alertSource, toAlert } from './alert.ts';
import type { Breach, Judgement, StandingAlert } from './judge.ts';
import { type AlertEvent, type RoutedDelivery, type Routing, route, toldKey } from './route.ts';

/** Carries a judgement out in the caller's transaction, each step in one statement however many alerts there are. */

/** What an evaluation changed. */
export interface AppliedJudgement {
  readonly opened: number;
  readonly escalated: number;
  readonly resolved: number;
  readonly deliveries: number;
}

const beginSql = `insert into partywall_control.alerts
  (rule, title, tenant_id, subject, metric, status, severity, value, threshold, details, rising_since, opened_at)
select n.rule, n.title, n.tenant, n.subject, n.metric, n.status, n.severity, n.value, n.threshold, n.details,
  case when n.status = 'pending' then $2::timestamptz end, case when n.status = 'open' then $2::timestamptz end
from jsonb_to_recordset($1) as n (rule text, title text, tenant text, subject text, metric text, status text, severity text,
  value double precision, threshold double precision, details jsonb)
on conflict (rule, tenant_id, subject) where status <> 'resolved' do nothing
returning id, status`;

const changeSql = `update partywall_control.alerts a set status = n.status, severity = n.severity, value = n.value, threshold = n.threshold, details = n.details,
  rising_since = n."risingSince", falling_since = n."fallingSince",
  opened_at = case when n.change = 'opened' then $2 else a.opened_at end,
  escalated_at = case when n.change = 'escalated' then $2 else a.escalated_at end,
  resolved_at = case when n.change = 'resolved' then $2 end,
  resolution = n.resolution
from jsonb_to_recordset($1) as n (id uuid, change text, status text, severity text, value double precision, threshold double precision, details jsonb,
  "risingSince" timestamptz, "fallingSince" timestamptz, resolution text)
where a.id = n.id`;

export async function applyJudgement(client: pg.ClientBase, judgement: Judgement, now: Date): Promise<AppliedJudgement> {
  const begun = [
    ...judgement.open.flatMap(({ standing, breach }) => (standing ? [] : [{ ...rowOf(breach), status: 'open' }])),
    ...judgement.watch.map((breach) => ({ ...rowOf(breach), status: 'pending' })),
  ];
  const changes = changesOf(judgement);
  const inserted = begun.length > 0 ? (await client.query<{ id: string; status: string }>(beginSql, [JSON.stringify(begun), now])).rows : [];
  if (changes.length > 0) await client.query(changeSql, [JSON.stringify(changes), now]);
  if (judgement.drop.length > 0) await client.query('delete from partywall_control.alerts where id = any($1)', [judgement.drop.map(({ id }) => id)]);

  const openings = [...inserted.filter(({ status }) => status === 'open').map(({ id }) => id), ...judgement.open.flatMap(({ standing }) => standing?.id ?? [])];
  const events: Happening[] = [
    ...openings.map((id) => ({ id, event: 'opened' as const, quiet: false })),
    ...judgement.escalate.map(({ standing }) => ({ id: standing.id, event: 'escalated' as const, quiet: false })),
    ...judgement.resolve.map(({ standing, quiet }) => ({ id: standing.id, event: 'resolved' as const, quiet })),
  ];
  const deliveries = events.length > 0 ? await announce(client, events) : 0;
  return { opened: openings.length, escalated: judgement.escalate.length, resolved: judgement.resolve.length, deliveries };
}

interface Happening {
  readonly id: string;
  readonly event: AlertEvent['event'];
  readonly quiet: boolean;
}

function rowOf({ rule, tenant, subject, severity, value, threshold, details }: Breach): Record<string, unknown> {
  // A rule for many quotas has no title for each: `Quota customers`.
  const title = rule.quota === null && subject !== '' ? `${rule.title} ${subject}` : rule.title;
  return { rule: rule.name, title, metric: rule.metric, tenant, subject, severity, value, threshold, details };
}

function changesOf({ open, escalate, resolve, keep }: Judgement): Record<string, unknown>[] {
  return [
    ...open.flatMap(({ standing, breach }) => (standing ? [{ ...valuesOf(breach), id: standing.id, change: 'opened', status: 'open' }] : [])),
    ...escalate.map(({ standing, breach }) => ({ ...valuesOf(breach), id: standing.id, change: 'escalated', status: 'open' })),
    ...resolve.map(({ standing, resolution }) => ({ ...valuesOf(standing), id: standing.id, change: 'resolved', status: 'resolved', resolution })),
    ...keep.flatMap(({ standing, breach, risingSince, fallingSince }) => {
      const values = { ...valuesOf(standing), ...(breach && { value: breach.value, details: breach.details }) };
      const same = values.value === standing.value && sameTime(risingSince, standing.risingSince) && sameTime(fallingSince, standing.fallingSince);
      return same ? [] : [{ ...values, id: standing.id, change: 'kept', status: standing.status, risingSince, fallingSince }];
    }),
  ];
}

function valuesOf({ severity, value, threshold, details }: Breach | StandingAlert): Record<string, unknown> {
  return { severity, value, threshold, details };
}

function sameTime(a: Date | null, b: Date | null): boolean {
  return a?.getTime() === b?.getTime();
}

/** Writes to the outbox who is told of what; returns how many deliveries that makes. */
async function announce(client: pg.ClientBase, happenings: readonly Happening[]): Promise<number> {
  // Locked, so that none is removed before its deliveries are there to go with it.
  const channels = await client.query<Routing>(
    'select name, kind, severities, rules, tenants from partywall_control.alert_channels where enabled order by name for key share',
  );
  if (channels.rows.length === 0) return 0;
  const ids = happenings.map(({ id }) => id);
  const { rows } = await client.query<AlertRow>(`select ${alertColumns} from ${alertSource} where a.id = any($1)`, [ids]);
  const alerts = new Map(rows.map((row): [string, Alert] => [row.id, toAlert(row)]));
  const events = happenings.flatMap(({ id, event, quiet }): AlertEvent[] => {
    const alert = alerts.get(id);
    return alert ? [{ event, quiet, alert }] : [];
  });
  const told = await client.query<{ channel: string; alert_id: string }>(
    'select distinct channel, alert_id from partywall_control.deliveries where alert_id = any($1)',
    [ids],
  );
  return enqueue(client, route(events, channels.rows, new Set(told.rows.map((row) => toldKey(row.channel, row.alert_id)))));
}

async function enqueue(client: pg.ClientBase, deliveries: readonly RoutedDelivery[]): Promise<number> {
  if (deliveries.length === 0) return 0;
  await client.query(
    `insert into partywall_control.deliveries (channel, alert_id, event, payload)
select n.channel, n."alertId", n.event, n.payload from jsonb_to_recordset($1) as n (channel text, "alertId" uuid, event text, payload jsonb)`,
    [JSON.stringify(deliveries)],
  );
  return deliveries.length;
}
