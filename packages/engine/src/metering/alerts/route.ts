import type { Alert } from './alert.ts';
import type { Severity } from './metrics.ts';

/**
 * Decides which channels are told what: a pure function.
 *
 * A channel hears of an end only where it heard of the beginning. What ends quietly (the tenant was suspended, the rule was switched off) is
 * told to machines alone, which would keep an incident open for ever. A storm reaches people as a digest.
 */

export const channelKinds = ['webhook', 'email', 'slack', 'pagerduty'] as const;
export type ChannelKind = (typeof channelKinds)[number];

/** What a channel wants to hear. */
export interface Routing {
  readonly name: string;
  readonly kind: ChannelKind;
  readonly severities: readonly Severity[];
  /** Null: all rules. */
  readonly rules: readonly string[] | null;
  /** Null: all tenants, and the system as a whole. */
  readonly tenants: readonly string[] | null;
}

export interface AlertEvent {
  readonly event: 'opened' | 'escalated' | 'resolved';
  readonly alert: Alert;
  readonly quiet: boolean;
}

/** How many alerts one evaluation did not tell one by one. */
export interface Digest {
  readonly opened: number;
  readonly escalated: number;
  readonly resolved: number;
  readonly severity: Severity;
  readonly byRule: Readonly<Record<string, number>>;
}

export type RoutedDelivery =
  | { readonly channel: string; readonly event: AlertEvent['event']; readonly alertId: string; readonly payload: Alert }
  | { readonly channel: string; readonly event: 'digest'; readonly alertId: null; readonly payload: Digest };

/** Deliveries that one evaluation makes for a channel; what is over goes into one digest. */
export const singlesMax: Readonly<Record<ChannelKind, number>> = { webhook: 500, email: 20, slack: 20, pagerduty: 20 };

/** Close what they opened: an end is neither digested nor kept from them. */
const machines: ReadonlySet<ChannelKind> = new Set(['webhook', 'pagerduty']);

/** @param told `toldKey` of each channel and alert of which the channel has a delivery */
export function route(events: readonly AlertEvent[], channels: readonly Routing[], told: ReadonlySet<string>): RoutedDelivery[] {
  return channels.flatMap((channel) => {
    const wanted = events.filter((event) => wants(channel, event, told));
    const mustPass = wanted.filter(({ event }) => event === 'resolved' && machines.has(channel.kind));
    const others = wanted.filter((event) => !mustPass.includes(event)).toSorted(bySeverity);
    const max = singlesMax[channel.kind];
    const singles = others.length <= max ? others : others.slice(0, max - 1);
    const rest = others.slice(singles.length);
    const deliveries: RoutedDelivery[] = [...mustPass, ...singles].map(({ event, alert }) => ({
      channel: channel.name,
      event,
      alertId: alert.id,
      payload: alert,
    }));
    if (rest.length > 0) deliveries.push({ channel: channel.name, event: 'digest', alertId: null, payload: digestOf(rest) });
    return deliveries;
  });
}

export function toldKey(channel: string, alertId: string): string {
  return `${channel} ${alertId}`;
}

function wants(channel: Routing, { event, alert, quiet }: AlertEvent, told: ReadonlySet<string>): boolean {
  if (event === 'resolved') return told.has(toldKey(channel.name, alert.id)) && (!quiet || machines.has(channel.kind));
  if (!channel.severities.includes(alert.severity)) return false;
  if (channel.rules !== null && !channel.rules.includes(alert.rule)) return false;
  return channel.tenants === null || (alert.tenantId !== null && channel.tenants.includes(alert.tenantId));
}

function bySeverity(a: AlertEvent, b: AlertEvent): number {
  return Number(b.alert.severity === 'critical') - Number(a.alert.severity === 'critical');
}

function digestOf(events: readonly AlertEvent[]): Digest {
  const count = (of: AlertEvent['event']): number => events.filter(({ event }) => event === of).length;
  const rules = Map.groupBy(events, ({ alert }) => alert.rule);
  const byRule = Object.fromEntries([...rules].map(([rule, alerts]) => [rule, alerts.length]));
  const severity = events.some(({ alert }) => alert.severity === 'critical') ? 'critical' : 'warning';
  return { opened: count('opened'), escalated: count('escalated'), resolved: count('resolved'), severity, byRule };
}
