import { z } from 'zod';
import { PartywallError } from '../../errors.ts';
import { parseTarget, targetShapes } from './channel-target.ts';
import type { ChannelChange } from './channels.ts';
import { severities } from './metrics.ts';

/** A channel as a request or a file describes it. */

export const alertName = z.string().regex(/^[a-z][a-z0-9_-]{0,59}$/, 'lower-case letters, digits, _ and -, a letter first');

const tenantKey = z
  .string()
  .min(1)
  .max(200)
  .regex(/^[^\0\p{Cs}]*$/u, 'holds a character that is not text');

const routing = {
  severities: z
    .array(z.enum(severities))
    .min(1)
    .max(severities.length)
    .default([...severities]),
  rules: z.array(alertName).min(1).max(100).nullable().default(null).describe('Null: all'),
  tenants: z.array(tenantKey).min(1).max(1_000).nullable().default(null).describe('Null: all, and the system as a whole'),
  enabled: z.boolean().default(true),
};

/** A target that is left out stays as it is. */
export const channelConfig = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('webhook'), target: targetShapes.webhook.optional(), ...routing }),
  z.strictObject({ kind: z.literal('email'), target: targetShapes.email.optional(), ...routing }),
  z.strictObject({ kind: z.literal('slack'), target: targetShapes.slack.optional(), ...routing }),
  z.strictObject({ kind: z.literal('pagerduty'), target: targetShapes.pagerduty.optional(), ...routing }),
]);

/** The change that a description asks for, once it has been parsed. */
export function channelChange(name: string, { target, ...config }: z.output<typeof channelConfig>): ChannelChange {
  return { ...config, name, target: target && parseTarget(config.kind, target) };
}

/** The same of a file. @throws PartywallError input_invalid, naming fields and never what they hold */
export function parseChannel(name: string, given: unknown): ChannelChange {
  const parsed = z.object({ name: alertName, channel: channelConfig }).safeParse({ name, channel: given });
  if (parsed.success) return channelChange(parsed.data.name, parsed.data.channel);
  const details = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw new PartywallError('input_invalid', `reading alert channel ${JSON.stringify(name)}`, { details });
}
