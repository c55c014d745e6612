import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * Signature of a webhook: `Partywall-Signature: t=<seconds since 1970>,v1=<hex>`, where v1 is HMAC-SHA256 with the channel's secret over
 * `<t>.<body>`, the body being the bytes as they arrive. The time is part of what is signed, so that a recorded message is worthless later.
 */
export const signatureHeader = 'partywall-signature';

/** How far the time of a message may be off, either way. */
const toleranceSecondsDefault = 300;

export function signWebhook(secret: string, at: Date, body: string): string {
  const seconds = Math.floor(at.getTime() / 1_000);
  return `t=${seconds},v1=${digest(secret, seconds, body).toString('hex')}`;
}

export interface SignedWebhook {
  readonly secret: string;
  /** Value of the header. */
  readonly signature: string;
  /** The body before it is parsed. */
  readonly body: string | Buffer;
  readonly now?: Date | undefined;
  readonly toleranceSeconds?: number | undefined;
}

/** Whether a webhook is from the channel with this secret and was sent just now; for receivers. */
export function verifyWebhook({ secret, signature, body, now = new Date(), toleranceSeconds = toleranceSecondsDefault }: SignedWebhook): boolean {
  const [, time, hex] = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(signature) ?? [];
  if (time === undefined || hex === undefined) return false;
  if (Math.abs(now.getTime() / 1_000 - Number(time)) > toleranceSeconds) return false;
  return timingSafeEqual(digest(secret, Number(time), body), Buffer.from(hex, 'hex'));
}

function digest(secret: string, seconds: number, body: string | Buffer): Buffer {
  return createHmac('sha256', secret).update(`${seconds}.`).update(body).digest();
}
