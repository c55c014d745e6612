/** `min`: minutes. `runs`: backups or drills that were begun. */
export const metricUnits = ['%', 'ms', 'min', 'runs', 'attempts', 'errors', 'breaches', 'steps'] as const;

/** What a rule can measure. */
export interface Metric {
  readonly scope: 'tenant' | 'system';
  readonly unit: (typeof metricUnits)[number];
  /** Whether a value equal to the threshold is over it: 80 % of a quota is, an error rate of 1 % is not (`> 1%`). */
  readonly inclusive: boolean;
  /** Taken from the requests of the rule's window, so that `minCalls` has a meaning. */
  readonly ofRequests: boolean;
}

export const metrics = {
  /** Use of a quota in per cent of its limit. */
  quota: { scope: 'tenant', unit: '%', inclusive: true, ofRequests: false },
  /** Share of a tenant's requests that the server failed (5xx). */
  error_rate: { scope: 'tenant', unit: '%', inclusive: false, ofRequests: true },
  /** 95th percentile of a tenant's response times. */
  response_time: { scope: 'tenant', unit: 'ms', inclusive: false, ofRequests: true },
  /** Connections in per cent of the server's `max_connections`. */
  connections: { scope: 'system', unit: '%', inclusive: true, ofRequests: false },
  /** Share of all requests that the server failed. */
  total_error_rate: { scope: 'system', unit: '%', inclusive: false, ofRequests: true },
  /** Age of the last verified recovery point of each data class in per cent of what the tier allows; of the system, what belongs to no tenant. */
  recovery_point: { scope: 'tenant', unit: '%', inclusive: false, ofRequests: false },
  /** Backups that failed since the last one that was verified. */
  backup_failures: { scope: 'system', unit: 'runs', inclusive: true, ofRequests: false },
  /** Time since the schedule of backups last ran. */
  backup_schedule: { scope: 'system', unit: 'min', inclusive: false, ofRequests: false },
  /** Restore drills that failed since the last one that passed. */
  drill_failures: { scope: 'system', unit: 'runs', inclusive: true, ofRequests: false },
  /** Attempts on other tenants in the rule's window, of each source. */
  cross_tenant_attempts: { scope: 'system', unit: 'attempts', inclusive: true, ofRequests: false },
  /** Runs of a job over all tenants since its last good one that left tenants out, were broken off, or saw nothing where they always did. */
  job_trouble: { scope: 'system', unit: 'runs', inclusive: true, ofRequests: false },
  /** Statements that the wall refused in the rule's window because the application is not ready for it. */
  rollout_context_errors: { scope: 'system', unit: 'errors', inclusive: false, ofRequests: false },
  /** 99th percentile of the statements of enforced tenants. */
  rollout_p99: { scope: 'system', unit: 'ms', inclusive: false, ofRequests: false },
  /** Gates of the roll-out that are breached, each by itself, of those that no other rule watches. */
  rollout_gates: { scope: 'system', unit: 'breaches', inclusive: true, ofRequests: false },
  /** Steps back that the gates have taken in the rule's window. */
  rollout_steps: { scope: 'system', unit: 'steps', inclusive: true, ofRequests: false },
} as const satisfies Record<string, Metric>;

export type MetricName = keyof typeof metrics;

export const metricNames = Object.keys(metrics) as [MetricName, ...MetricName[]]; // the keys of a constant

/** In the order of their weight. */
export const severities = ['warning', 'critical'] as const;
export type Severity = (typeof severities)[number];
