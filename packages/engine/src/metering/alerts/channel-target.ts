import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { openSecret, sealSecret } from '../../keyring/secret-box.ts';
import type { ChannelKind } from './route.ts';

/** Where a channel delivers to. All of it is sealed: the address of a Slack webhook is its password. */
export type ChannelTarget =
  | { readonly kind: 'webhook'; readonly url: string; readonly secret: string }
  | { readonly kind: 'email'; readonly to: readonly string[] }
  | { readonly kind: 'slack'; readonly url: string }
  | { readonly kind: 'pagerduty'; readonly routingKey: string; readonly url?: string | undefined };

export const recipientsMax = 20;
export const urlCharactersMax = 2_000;
export const secretCharactersMin = 16;
export const secretCharactersMax = 200;

const plain = (max: number): z.ZodString =>
  z
    .string()
    .max(max)
    .regex(/^[^\p{C}]*$/u, 'holds a control character');
const url = plain(urlCharactersMax).min(1).describe('http or https, without a user or password');
const secret = plain(secretCharactersMax).min(secretCharactersMin);

/** The form of each kind's target; what an address must be beyond it is for `checkTarget`. */
export const targetShapes = {
  webhook: z.strictObject({ url, secret: secret.describe('Signs each delivery, HMAC-SHA256') }),
  email: z.strictObject({ to: z.array(z.email().max(254)).min(1).max(recipientsMax) }),
  slack: z.strictObject({ url: url.describe('Address of an incoming webhook') }),
  pagerduty: z.strictObject({ routingKey: plain(secretCharactersMax).min(8).describe('Integration key of Events API v2'), url: url.optional() }),
};

const sealed = z.discriminatedUnion('kind', [
  targetShapes.webhook.extend({ kind: z.literal('webhook') }),
  targetShapes.email.extend({ kind: z.literal('email') }),
  targetShapes.slack.extend({ kind: z.literal('slack') }),
  targetShapes.pagerduty.extend({ kind: z.literal('pagerduty') }),
]);

export const pagerdutyUrl = 'https://events.pagerduty.com/v2/enqueue';

/**
 * Refuses an address that a channel may not have. Whether it leads into the private network is for the delivery, which resolves it.
 *
 * @throws PartywallError input_invalid
 */
export function checkTarget(channel: string, target: ChannelTarget): void {
  if (target.kind === 'email' || target.url === undefined) return;
  const refuse = (why: string): never => {
    throw new PartywallError('input_invalid', `setting alert channel ${channel}: ${why}`, { hint: 'give an address like https://hooks.example.com/alerts' });
  };
  if (!URL.canParse(target.url)) refuse('the url is none');
  const { protocol, username, password } = new URL(target.url);
  if (protocol !== 'https:' && protocol !== 'http:') refuse(`the url begins with ${protocol}`);
  if (username !== '' || password !== '') refuse('the url holds a user or password');
}

/** What of a target may be shown. */
export function shownTarget(target: ChannelTarget): string {
  if (target.kind === 'email') return target.to.join(', ');
  return new URL(target.url ?? pagerdutyUrl).origin;
}

export function sealTarget(keyring: string, channel: string, target: ChannelTarget): Promise<Buffer> {
  return sealSecret(keyring, purposeOf(channel), JSON.stringify(target));
}

/** @throws PartywallError secret_unreadable */
export async function openTarget(keyring: string, channel: string, box: Buffer): Promise<ChannelTarget> {
  return sealed.parse(JSON.parse(await openSecret(keyring, purposeOf(channel), box)));
}

/** The target of a kind, from what a request or a file says. @throws z.ZodError */
export function parseTarget(kind: ChannelKind, given: object): ChannelTarget {
  return sealed.parse({ ...given, kind });
}

function purposeOf(channel: string): string {
  return `alert_channel:${channel}`;
}
