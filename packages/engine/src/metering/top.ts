import type { Operation } from '../db/operation.ts';

/** What tenants are ordered by. time: milliseconds spent on answers. connections: transactions in progress. */
export const consumptions = ['calls', 'errors', 'time', 'rows', 'storage', 'connections'] as const;
export type Consumption = (typeof consumptions)[number];

export const topLimit = { default: 10, max: 100 } as const;

export interface TopOptions {
  readonly by: Consumption;
  readonly limit?: number;
  /** Of calls, errors and time: over how many hours, the current one included. */
  readonly hours?: number;
}

export interface TopConsumers {
  readonly by: Consumption;
  /** Null where it is a measure of now. */
  readonly hours: number | null;
  /** Of all tenants; what belongs to none is left out. */
  readonly total: number;
  readonly items: { readonly tenantId: string; readonly name: string; readonly value: number; readonly share: number }[];
}

/** For each measure the tenants with their value, as `(tenant_id, value)`. Rows and storage are those of the last survey. */
const measures: Readonly<Record<Consumption, string>> = {
  calls: overHours('calls'),
  errors: overHours('errors'),
  time: overHours('millis'),
  rows: `select s.tenant_id, (select coalesce(sum(v.value::bigint), 0) from jsonb_each_text(s.rows) v) as value from partywall_control.usage_samples s
    where s.at = (select max(y.at) from partywall_control.usage_surveys y where y.finished_at is not null)`,
  storage: `select s.tenant_id, s.storage as value from partywall_control.usage_samples s
    where s.at = (select max(y.at) from partywall_control.usage_surveys y where y.finished_at is not null)`,
  connections: 'select s.tenant_id, count(distinct s.pid) as value from partywall_control.tenant_sessions() s group by s.tenant_id',
};

/** The tenants that use most of something, with their share of what all tenants use. */
export async function topConsumers(operation: Operation, options: TopOptions): Promise<TopConsumers> {
  const { by, limit = topLimit.default, hours = 24 } = options;
  const isRecent = by === 'calls' || by === 'errors' || by === 'time';
  const { rows } = await operation.database.pool.query<{ tenant_id: string; name: string; value: string; total: string }>(
    `select d.tenant_id, d.name, m.value, sum(m.value) over () as total from (${measures[by]}) m join partywall_control.directory d on d.tenant_id = m.tenant_id
where m.value > 0 order by m.value desc, d.tenant_id limit $1`,
    isRecent ? [limit, hours] : [limit],
  );
  const total = Number(rows[0]?.total ?? 0);
  return {
    by,
    hours: isRecent ? hours : null,
    total,
    items: rows.map((row) => ({ tenantId: row.tenant_id, name: row.name, value: Number(row.value), share: Number(row.value) / total })),
  };
}

function overHours(column: string): string {
  return `select h.tenant_id, sum(h.${column}) as value from partywall_control.request_hours h where h.hour > now() - make_interval(hours => $2) group by h.tenant_id`;
}
