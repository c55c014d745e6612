import { type MetricName, metrics, type Severity } from './metrics.ts';

/**
 * Decides what becomes of alerts: a pure function from rules, measurements and the alerts that stand to what opens, rises and ends.
 *
 * An alert is pending while its value is over a threshold for less than the rule's `forMinutes`, then open, then resolved once the value has
 * been below for `clearMinutes`. Its severity only rises, so that it is told about at most three times: opened, escalated, resolved.
 */

export interface Thresholds {
  readonly warning: number;
  readonly critical: number;
}

export interface AlertRule extends Thresholds {
  readonly name: string;
  readonly title: string;
  readonly metric: MetricName;
  /** Of metric `quota`: which; null for those that have no rule of their own. */
  readonly quota: string | null;
  readonly windowMinutes: number;
  /** Fewer requests than this in the window say nothing: one failure of three is no incident. */
  readonly minCalls: number;
  readonly forMinutes: number;
  readonly clearMinutes: number;
  readonly enabled: boolean;
}

/** What another rule says for one tenant; what is null is as in the rule. */
export interface AlertOverride {
  readonly rule: string;
  readonly tenant: string;
  readonly warning: number | null;
  readonly critical: number | null;
  readonly enabled: boolean | null;
}

/** A value of an active tenant, or of the system (tenant ''). What has no measurement is below every threshold. */
export interface Measurement {
  readonly rule: string;
  readonly tenant: string;
  /** The quota; '' where the rule has but one subject. */
  readonly subject: string;
  readonly value: number;
  /** Requests behind the value, where it is taken from requests. */
  readonly calls?: number | undefined;
  /** What the value was made of: used and limit, calls and errors. */
  readonly details: Readonly<Record<string, unknown>>;
}

/** An alert that is not resolved. */
export interface StandingAlert {
  readonly id: string;
  readonly rule: string;
  readonly tenant: string;
  readonly subject: string;
  readonly status: 'pending' | 'open';
  readonly severity: Severity;
  readonly value: number;
  readonly threshold: number;
  readonly details: Readonly<Record<string, unknown>>;
  readonly risingSince: Date | null;
  readonly fallingSince: Date | null;
  /** Whether its tenant is active; of the system, always. */
  readonly active: boolean;
}

/** A value over a threshold, as it goes into an alert. */
export interface Breach {
  readonly rule: AlertRule;
  readonly tenant: string;
  readonly subject: string;
  readonly severity: Severity;
  readonly value: number;
  readonly threshold: number;
  readonly details: Readonly<Record<string, unknown>>;
}

export type Resolution = 'cleared' | 'tenant_inactive' | 'rule_off';

export interface Judgement {
  /** Alerts that begin, at once or after having been watched. */
  readonly open: readonly { readonly standing: StandingAlert | undefined; readonly breach: Breach }[];
  /** Values that are over a threshold for the first time, under a rule that waits. */
  readonly watch: readonly Breach[];
  readonly escalate: readonly { readonly standing: StandingAlert; readonly breach: Breach }[];
  /** `quiet`: nobody is told, because the reason is not that it got better. */
  readonly resolve: readonly { readonly standing: StandingAlert; readonly resolution: Resolution; readonly quiet: boolean }[];
  /** Watched values that are below again, or no longer looked at. */
  readonly drop: readonly StandingAlert[];
  /** Alerts that go on, with what changes in them. */
  readonly keep: readonly Kept[];
}

export interface Kept {
  readonly standing: StandingAlert;
  /** The value of now where it is over a threshold. */
  readonly breach: Breach | undefined;
  readonly risingSince: Date | null;
  readonly fallingSince: Date | null;
}

export interface Circumstances {
  readonly rules: readonly AlertRule[];
  readonly overrides: readonly AlertOverride[];
  readonly measurements: readonly Measurement[];
  readonly standing: readonly StandingAlert[];
  readonly now: Date;
}

export function judge({ rules, overrides, measurements, standing, now }: Circumstances): Judgement {
  const judgement: Mutable = { open: [], watch: [], escalate: [], resolve: [], drop: [], keep: [] };
  const enabled = ruleOf(rules, overrides);
  const waiting = new Map(standing.map((alert) => [keyOf(alert), alert]));
  for (const measurement of measurements) {
    const rule = enabled(measurement.rule, measurement.tenant);
    const breach = rule && breachOf(rule, measurement);
    if (!breach) continue;
    const alert = waiting.get(keyOf(measurement));
    waiting.delete(keyOf(measurement));
    rise(judgement, breach, alert, now);
  }
  for (const alert of waiting.values()) fall(judgement, alert, enabled(alert.rule, alert.tenant), now);
  return judgement;
}

/** How severe a value is, if it is at all. */
export function severityOf(metric: MetricName, value: number, { warning, critical }: Thresholds): Severity | undefined {
  const over = (threshold: number): boolean => (metrics[metric].inclusive ? value >= threshold : value > threshold);
  if (over(critical)) return 'critical';
  return over(warning) ? 'warning' : undefined;
}

type Mutable = { -readonly [Key in keyof Judgement]: Judgement[Key][number][] };

function keyOf({ rule, tenant, subject }: { readonly rule: string; readonly tenant: string; readonly subject: string }): string {
  return JSON.stringify([rule, tenant, subject]);
}

/** Looks a rule up as it holds for a tenant; undefined where it is off or gone. */
function ruleOf(rules: readonly AlertRule[], overrides: readonly AlertOverride[]): (name: string, tenant: string) => AlertRule | undefined {
  const byName = new Map(rules.map((rule) => [rule.name, rule]));
  const byTenant = new Map(overrides.map((override) => [JSON.stringify([override.rule, override.tenant]), override]));
  return (name, tenant) => {
    const rule = byName.get(name);
    if (!rule) return undefined;
    const override = byTenant.get(JSON.stringify([name, tenant]));
    if (!(override?.enabled ?? rule.enabled)) return undefined;
    if (!override) return rule;
    const warning = override.warning ?? Math.min(rule.warning, override.critical ?? rule.warning);
    return { ...rule, warning, critical: override.critical ?? Math.max(rule.critical, warning) };
  };
}

function breachOf(rule: AlertRule, { tenant, subject, value, calls, details }: Measurement): Breach | undefined {
  if (calls !== undefined && calls < rule.minCalls) return undefined;
  const severity = severityOf(rule.metric, value, rule);
  return severity && { rule, tenant, subject, severity, value, threshold: rule[severity], details };
}

function rise(judgement: Mutable, breach: Breach, standing: StandingAlert | undefined, now: Date): void {
  const { forMinutes } = breach.rule;
  if (!standing) {
    if (forMinutes === 0) judgement.open.push({ standing, breach });
    else judgement.watch.push(breach);
    return;
  }
  const worse = standing.status === 'pending' || (standing.severity === 'warning' && breach.severity === 'critical');
  const risingSince = worse ? (standing.risingSince ?? now) : null;
  if (risingSince && minutes(risingSince, now) >= forMinutes) {
    if (standing.status === 'pending') judgement.open.push({ standing, breach });
    else judgement.escalate.push({ standing, breach });
    return;
  }
  judgement.keep.push({ standing, breach, risingSince, fallingSince: null });
}

function fall(judgement: Mutable, standing: StandingAlert, rule: AlertRule | undefined, now: Date): void {
  if (standing.status === 'pending') {
    judgement.drop.push(standing);
    return;
  }
  if (!standing.active) {
    judgement.resolve.push({ standing, resolution: 'tenant_inactive', quiet: true });
    return;
  }
  if (!rule) {
    judgement.resolve.push({ standing, resolution: 'rule_off', quiet: true });
    return;
  }
  const fallingSince = standing.fallingSince ?? now;
  if (minutes(fallingSince, now) >= rule.clearMinutes) judgement.resolve.push({ standing, resolution: 'cleared', quiet: false });
  else judgement.keep.push({ standing, breach: undefined, risingSince: null, fallingSince });
}

function minutes(from: Date, to: Date): number {
  return (to.getTime() - from.getTime()) / 60_000;
}
