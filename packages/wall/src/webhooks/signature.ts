import { createHmac, timingSafeEqual } from 'node:crypto';

/** A message as it came, before anything of it is believed. */
export interface UnprovenMessage {
  /** A header by its lower-case name. */
  header(name: string): string | null;
  /** The bytes that were sent. */
  readonly body: Buffer;
}

/** What a signature that holds has proved, besides the body. */
export interface ProvenMessage {
  readonly id: string;
  /** Seconds since 1970. */
  readonly timestamp: number;
}

/** How a sender signs. Every scheme signs id, timestamp and body together. */
export interface SignatureScheme {
  /** What the message proves with one of the secrets, of which several are current while they are rotated; null where none holds. */
  prove(message: UnprovenMessage, secrets: readonly string[]): ProvenMessage | null;
}

const secretCharactersMin = 16;
const secretsMax = 8;
/** Signatures in one header: a sender that rotates signs with each of its secrets. */
export const signaturesMax = 8;
/** Printable, and without the full stop that parts the signed text. */
const wellFormedId = /^[!-\-/-~]{1,200}$/;

const idHeader = 'x-webhook-id';
const timestampHeader = 'x-webhook-timestamp';
const signatureHeader = 'x-webhook-signature';

/**
 * `X-Webhook-Signature`: HMAC-SHA256 in hex of `id.timestamp.body`, the first two from `X-Webhook-Id` and `X-Webhook-Timestamp` (seconds). Several
 * signatures are parted by commas.
 */
export const hmacSignature: SignatureScheme = {
  prove: ({ header, body }, secrets) => {
    const signed = signedHead(header(idHeader), header(timestampHeader));
    if (!signed) return null;
    const given = (header(signatureHeader) ?? '').split(',').slice(0, signaturesMax);
    const wanted = secrets.map((secret) => hmacOf(secret, signed, body));
    return holdsOne(
      given.map((text) => text.trim().toLowerCase()),
      wanted,
    )
      ? signed
      : null;
  },
};

/**
 * The headers that a sender of one's own signs a message with.
 *
 * @example
 * const body = JSON.stringify(payload);
 * await fetch(url, { method: 'POST', body, headers: { 'x-tenant-id': tenant, ...signWebhook({ secrets: [secret], id, timestamp: new Date(), body }) } });
 */
export function signWebhook(given: { secrets: readonly string[]; id: string; timestamp: Date; body: string | Buffer }): Record<string, string> {
  const { secrets, id, timestamp, body } = given;
  const seconds = Math.floor(timestamp.getTime() / 1_000);
  const signatures = checkedSecrets(secrets).map((secret) => hmacOf(secret, { id, timestamp: seconds }, Buffer.from(body)));
  return { [idHeader]: id, [timestampHeader]: String(seconds), [signatureHeader]: signatures.join(',') };
}

/** What stands in front of the body in the signed text; null where it has no form that could have been signed. */
export function signedHead(id: string | null, timestamp: string | null): ProvenMessage | null {
  if (id === null || timestamp === null || !wellFormedId.test(id) || !/^\d{1,12}$/.test(timestamp)) return null;
  return { id, timestamp: Number(timestamp) };
}

/** Whether one of the given signatures is one of the wanted, in a time that does not tell how much of it is right, nor which. */
export function holdsOne(given: readonly string[], wanted: readonly string[]): boolean {
  let holds = false;
  for (const one of given) {
    for (const other of wanted) {
      const [left, right] = [Buffer.from(one), Buffer.from(other)];
      if (left.length === right.length && timingSafeEqual(left, right)) holds = true;
    }
  }
  return holds;
}

/** @throws TypeError where there are too many, or one is too short to be a secret; the message does not hold it */
export function checkedSecrets(secrets: readonly string[]): readonly string[] {
  const short = secrets.findIndex((secret) => secret.length < secretCharactersMin);
  if (short !== -1) throw new TypeError(`secret ${short + 1} of a webhook has fewer than ${secretCharactersMin} characters`);
  if (secrets.length > secretsMax) throw new TypeError(`${secrets.length} secrets of a webhook: at most ${secretsMax} are current`);
  return secrets;
}

function hmacOf(secret: string, { id, timestamp }: ProvenMessage, body: Buffer): string {
  return createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body).digest('hex');
}
