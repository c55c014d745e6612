import type { Resolution } from './judge.ts';
import { type Metric, type MetricName, metrics, type Severity } from './metrics.ts';

/** An alert that was opened, as lists show it and channels are told it. Times are ISO 8601 in UTC. */
export interface Alert {
  readonly id: string;
  readonly rule: string;
  readonly title: string;
  readonly metric: MetricName;
  readonly unit: Metric['unit'];
  /** Null: the system as a whole. */
  readonly tenantId: string | null;
  readonly tenantName: string | null;
  /** The quota or the data class, where it is about one. */
  readonly quota: string | null;
  readonly status: 'open' | 'resolved';
  /** The worst that it has been. */
  readonly severity: Severity;
  /** The last value that was over a threshold. */
  readonly value: number;
  readonly threshold: number;
  /** One line for people. */
  readonly message: string;
  /** What the value is made of: used and limit, calls and errors. */
  readonly details: Readonly<Record<string, unknown>>;
  readonly openedAt: string;
  readonly escalatedAt: string | null;
  readonly resolvedAt: string | null;
  readonly resolution: Resolution | null;
  readonly acknowledgedAt: string | null;
  readonly acknowledgedBy: string | null;
  readonly note: string | null;
}

export interface AlertRow {
  readonly id: string;
  readonly rule: string;
  readonly title: string;
  readonly metric: MetricName;
  readonly tenant_id: string;
  readonly tenant_name: string | null;
  readonly subject: string;
  readonly status: 'open' | 'resolved';
  readonly severity: Severity;
  readonly value: number;
  readonly threshold: number;
  readonly details: Readonly<Record<string, unknown>>;
  readonly opened_at: Date;
  readonly escalated_at: Date | null;
  readonly resolved_at: Date | null;
  readonly resolution: Resolution | null;
  readonly acknowledged_at: Date | null;
  readonly acknowledged_by: string | null;
  readonly note: string | null;
}

/** What `toAlert` reads, of alerts `a` and their tenants `d`. */
export const alertColumns = `a.id, a.rule, a.title, a.metric, a.tenant_id, d.name as tenant_name, a.subject, a.status, a.severity, a.value, a.threshold, a.details,
  a.opened_at, a.escalated_at, a.resolved_at, a.resolution, a.acknowledged_at, a.acknowledged_by, a.note`;

export const alertSource = 'partywall_control.alerts a left join partywall_control.directory d on d.tenant_id = a.tenant_id';

export function toAlert(row: AlertRow): Alert {
  return {
    id: row.id,
    rule: row.rule,
    title: row.title,
    metric: row.metric,
    unit: metrics[row.metric].unit,
    tenantId: row.tenant_id === '' ? null : row.tenant_id,
    tenantName: row.tenant_name,
    quota: row.subject === '' ? null : row.subject,
    status: row.status,
    severity: row.severity,
    value: row.value,
    threshold: row.threshold,
    message: messageOf(row),
    details: row.details,
    openedAt: row.opened_at.toISOString(),
    escalatedAt: row.escalated_at?.toISOString() ?? null,
    resolvedAt: row.resolved_at?.toISOString() ?? null,
    resolution: row.resolution,
    acknowledgedAt: row.acknowledged_at?.toISOString() ?? null,
    acknowledgedBy: row.acknowledged_by,
    note: row.note,
  };
}

/** `Acme: Storage at 85.2 % (warning at 80 %)`. A tenant's name brings no line break into a mail's subject, and no escape sequence to a terminal. */
function messageOf({ tenant_id, tenant_name, title, metric, value, severity, threshold }: AlertRow): string {
  const { unit, inclusive } = metrics[metric];
  const who = tenant_id === '' ? 'System' : (tenant_name ?? tenant_id);
  const message = `${who}: ${title} at ${rounded(value)} ${unit} (${severity} ${inclusive ? 'at' : 'over'} ${rounded(threshold)} ${unit})`;
  return message.replaceAll(/\p{C}+/gu, ' ');
}

function rounded(value: number): string {
  return String(Math.round(value * 10) / 10);
}
