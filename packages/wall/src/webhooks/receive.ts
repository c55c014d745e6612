import type pg from 'pg';
import { wallErrorOf } from '../clients/wall-error-of.ts';
import { run } from '../context.ts';
import { RequestRefusedError, type WallError } from '../errors.ts';
import { type Answer, problemAnswer } from '../http/problem.ts';
import { requestIdHeader, requestIdOf } from '../http/request-id.ts';
import { rememberedMessages } from './messages.ts';
import { checkedSecrets, hmacSignature, type SignatureScheme, type UnprovenMessage } from './signature.ts';

/** Which tenants a sender may name: those that `mayAct` admits, or those whose own secret it signs with. */
type Senders =
  | { readonly secrets: readonly string[]; readonly mayAct: (tenant: string) => boolean | Promise<boolean> }
  | { readonly secretsOf: (tenant: string) => readonly string[] | Promise<readonly string[]> };

export type WebhookOptions = Senders & {
  /** The walled pool. */
  readonly pool: Pick<pg.Pool, 'query'>;
  /** Name of whoever sends: ids of messages are told apart by it, and the context's user is `webhook:` and it. */
  readonly sender: string;
  /** Default: `hmacSignature`. Or `standardSignature` of `@partywall/wall/standard-webhooks`. */
  readonly signature?: SignatureScheme;
  /** How far the timestamp may be from now, either way (default 300). */
  readonly toleranceSeconds?: number;
  /** Default 1 MiB. */
  readonly bodyBytesMax?: number;
  /** For how long a message that is done is known again (default three days, which is longer than senders try). At least twice the tolerance, and the lease. */
  readonly keepSeconds?: number;
  /** After so long without an end a message may be taken again (default 300): its process has died. Longer than any handler takes. */
  readonly leaseSeconds?: number;
  /** Default: `x-tenant-id`. */
  readonly tenantHeader?: string;
  readonly clock?: () => Date;
};

/** What a handler is given. It runs in the context of `tenant`. */
export interface WebhookMessage {
  readonly id: string;
  readonly tenant: string;
  /** When it was signed. */
  readonly sentAt: Date;
  readonly body: Buffer;
  /** The body as JSON. Throws SyntaxError where it is none. */
  json(): unknown;
}

export type WebhookHandler = (message: WebhookMessage) => unknown;

/** An endpoint for the messages of one sender. */
export interface Webhooks {
  readonly bodyBytesMax: number;
  /** Refused before the body is read whole. */
  tooLarge(header: UnprovenMessage['header']): Answer;
  /** Proves the message, runs the handler in its tenant's context, once, and answers. Rejects with the handler's own error, and the message is free again. */
  receive(message: UnprovenMessage, handler: WebhookHandler): Promise<Answer>;
}

const toleranceSecondsMax = 3_600;
const keepSecondsMax = 604_800;
const leaseSecondsMax = 3_600;
const tenantCharactersMax = 200;

/**
 * Receives webhooks in an order that tells a forger nothing: size, signature and time (401), the tenant header (400), whether the sender may name that tenant
 * (403), the tenant's state, and only then whether the message was seen before. A message that is done is answered 200 and not worked on; one that is
 * being worked on 409.
 *
 * @throws TypeError for options that cannot hold
 * @example
 * const payments = createWebhooks({ pool, sender: 'payments', secrets: [process.env.PAYMENTS_SECRET], mayAct: (tenant) => payingTenants.has(tenant) });
 * app.post('/webhooks/payment', expressWebhook(payments, async (message) => recordPayment(message.json())));
 */
export function createWebhooks(options: WebhookOptions): Webhooks {
  const { pool, sender, signature = hmacSignature, toleranceSeconds = 300, bodyBytesMax = 1_048_576, tenantHeader = 'x-tenant-id' } = options;
  const { keepSeconds = 259_200, leaseSeconds = 300, clock = () => new Date() } = options;
  checked('toleranceSeconds', toleranceSeconds, 1, toleranceSecondsMax);
  checked('leaseSeconds', leaseSeconds, 1, leaseSecondsMax);
  // Forgotten sooner, a message could be replayed, or be taken by a second handler beside the first.
  checked('keepSeconds', keepSeconds, Math.max(2 * toleranceSeconds, leaseSeconds), keepSecondsMax);
  if ('secrets' in options && checkedSecrets(options.secrets).length === 0) throw new TypeError('a webhook without secrets takes no message');
  const messages = rememberedMessages(pool, { sender, leaseSeconds, keepSeconds });

  /** The tenant, the secrets that are current for it, and what was proved. */
  const admit = async (message: UnprovenMessage) => {
    const claimed = message.header(tenantHeader.toLowerCase())?.trim() ?? '';
    if (message.body.length > bodyBytesMax) throw new RequestRefusedError('message_too_large');
    const readable = claimed !== '' && claimed.length <= tenantCharactersMax;
    const secrets = 'secrets' in options ? options.secrets : readable ? checkedSecrets(await options.secretsOf(claimed)) : [];
    const proven = signature.prove(message, secrets);
    const now = clock().getTime() / 1_000;
    if (!proven || Math.abs(now - proven.timestamp) > toleranceSeconds) throw new RequestRefusedError('signature_refused');
    if (claimed === '') throw new RequestRefusedError('tenant_required', { message: `${named(tenantHeader)} header required` });
    if (!readable || ('mayAct' in options && !(await options.mayAct(claimed)))) throw new RequestRefusedError('tenant_foreign');
    return { tenant: claimed, secrets, ...proven };
  };

  const refusal = (error: WallError, requestId: string): Answer => {
    // Whoever may not name a tenant, and whoever names none that there is, are told the same.
    const told = error.code === 'unknown_tenant' ? new RequestRefusedError('tenant_foreign') : error;
    const headers = {
      ...(told.code === 'signature_refused' && { 'www-authenticate': 'Signature' }),
      ...(told.code === 'message_in_progress' && { 'retry-after': String(leaseSeconds) }),
    };
    return problemAnswer(told, requestId, { headers });
  };

  const work = async (message: UnprovenMessage, handler: WebhookHandler, requestId: string): Promise<Answer> => {
    const { tenant, secrets, id, timestamp } = await admit(message);
    const { body } = message;
    const context = { tenant, user: `webhook:${sender}`, requestId };
    // Enters the tenant: one that is not there, or suspended, is refused before its message counts as seen.
    await run(context, () => pool.query('select'));
    const claim = await messages.claim(id, secrets);
    if (claim.kind === 'busy') throw new RequestRefusedError('message_in_progress');
    if (claim.kind === 'done') return answer(200, requestId, JSON.stringify({ duplicate: true }));
    try {
      await run(context, () => handler({ id, tenant, sentAt: new Date(timestamp * 1_000), body, json: () => JSON.parse(body.toString()) }));
    } catch (error) {
      // Not freed, it is free when the lease ends; the handler's error is the one to be told.
      await claim.settle(false).catch(() => undefined);
      throw error;
    }
    await claim.settle(true);
    return answer(204, requestId, '');
  };

  return {
    bodyBytesMax,
    tooLarge: (header) =>
      problemAnswer(new RequestRefusedError('message_too_large'), requestIdOf(header(requestIdHeader)), { headers: { connection: 'close' } }),
    receive: async (message, handler) => {
      const requestId = requestIdOf(message.header(requestIdHeader));
      try {
        return await work(message, handler, requestId);
      } catch (error) {
        const refused = wallErrorOf(error);
        if (!refused) throw error;
        return refusal(refused, requestId);
      }
    },
  };
}

function answer(status: number, requestId: string, body: string): Answer {
  const headers = { 'cache-control': 'no-store', [requestIdHeader]: requestId, ...(body !== '' && { 'content-type': 'application/json' }) };
  return { status, headers, body };
}

/** `X-Tenant-ID`, as the documents write it. */
function named(header: string): string {
  return header.toLowerCase() === 'x-tenant-id' ? 'X-Tenant-ID' : header;
}

function checked(name: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most)
    throw new TypeError(`${name} of a webhook is ${value}: a whole number from ${least} to ${most}`);
}
