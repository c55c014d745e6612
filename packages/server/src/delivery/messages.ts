import { type Alert, type ChannelTarget, type Claim, type Digest, pagerdutyUrl } from '@partywall/engine';
import type { Post } from './post.ts';
import { signatureHeader, signWebhook } from './signature.ts';

/** A delivery in the words of each kind of receiver. */

type TargetOf<Kind extends ChannelTarget['kind']> = Extract<ChannelTarget, { kind: Kind }>;

const json = { 'content-type': 'application/json; charset=utf-8' };
/** Beyond it PagerDuty refuses an event. */
const pagerdutySummaryCharactersMax = 1_024;

/** Our own format: what happened and the alert as it was then. The same delivery always has the same body and `Idempotency-Key`. */
export function webhookPost(claim: Claim, target: TargetOf<'webhook'>, now: Date): Post {
  const about = claim.event === 'digest' ? { digest: claim.payload } : claim.event === 'test' ? {} : { alert: claim.payload };
  const body = JSON.stringify({ id: claim.id, event: claim.event, createdAt: claim.createdAt.toISOString(), ...about });
  return { url: target.url, body, headers: { ...json, 'idempotency-key': claim.id, [signatureHeader]: signWebhook(target.secret, now, body) } };
}

/** An incoming webhook of Slack, and of what speaks like it. */
export function slackPost(claim: Claim, target: TargetOf<'slack'>): Post {
  // Otherwise a tenant could call itself <!channel>.
  const text = sentence(claim).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return { url: target.url, body: JSON.stringify({ text }), headers: { ...json, 'idempotency-key': claim.id } };
}

/** Events API v2: the alert's id is the deduplication key, so that a repeated trigger is one incident and a resolve closes it. */
export function pagerdutyPost(claim: Claim, target: TargetOf<'pagerduty'>): Post {
  const url = target.url ?? pagerdutyUrl;
  const common = { routing_key: target.routingKey, dedup_key: `partywall-${claim.alertId ?? claim.id}` };
  const resolved = claim.event === 'resolved';
  const event = resolved ? { ...common, event_action: 'resolve' } : { ...common, event_action: 'trigger', payload: incident(claim) };
  return { url, body: JSON.stringify(event), headers: json };
}

function incident(claim: Claim): Record<string, unknown> {
  const summary = sentence(claim).slice(0, pagerdutySummaryCharactersMax);
  const timestamp = claim.createdAt.toISOString();
  if (claim.event === 'test') return { summary, source: 'partywall', severity: 'info', timestamp };
  if (claim.event === 'digest') return { summary, source: 'partywall', severity: claim.payload.severity, timestamp, custom_details: claim.payload };
  const { severity, rule, metric, tenantId, value, unit, threshold, details } = claim.payload;
  const custom = { tenantId, value, unit, threshold, ...details };
  return { summary, source: 'partywall', severity, timestamp, component: rule, class: metric, custom_details: custom };
}

export function mailOf(claim: Claim): { readonly subject: string; readonly text: string } {
  const subject = sentence(claim).slice(0, 200);
  const lines = claim.event === 'digest' || claim.event === 'test' ? [sentence(claim)] : alertLines(claim.payload);
  return { subject, text: [...lines, '', `Delivery ${claim.id} of channel ${claim.channel.name}, ${claim.createdAt.toISOString()}`].join('\n') };
}

function alertLines(alert: Alert): string[] {
  const details = Object.entries(alert.details).map(([name, value]) => `${name}: ${String(value)}`);
  return [
    alert.message,
    '',
    `rule: ${alert.rule}`,
    `tenant: ${alert.tenantId ?? 'the system as a whole'}`,
    ...details,
    `opened: ${alert.openedAt}`,
    ...(alert.resolvedAt === null ? [] : [`resolved: ${alert.resolvedAt}`]),
    `alert: ${alert.id}`,
  ];
}

/** One line for people. */
function sentence(claim: Claim): string {
  switch (claim.event) {
    case 'opened':
    case 'escalated':
      return `[${claim.payload.severity}] ${claim.payload.message}`;
    case 'resolved':
      return `[resolved] ${claim.payload.message}`;
    case 'digest':
      return digestSentence(claim.payload);
    case 'test':
      return `[test] Partywall reaches channel ${claim.channel.name}; asked for by ${claim.payload.requestedBy.replaceAll(/\p{C}+/gu, ' ')}`;
  }
}

function digestSentence({ opened, escalated, resolved, severity, byRule }: Digest): string {
  const rules = Object.entries(byRule).map(([rule, count]) => `${rule} ${count}`);
  return `[${severity}] ${opened + escalated + resolved} more alerts: ${opened} opened, ${escalated} escalated, ${resolved} resolved (${rules.join(', ')})`;
}
