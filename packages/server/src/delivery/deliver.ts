import { setTimeout as wait } from 'node:timers/promises';
import { type Claim, type ControlDatabase, claimDeliveries, dueChannels, finishDelivery, type Outcome, openTarget, sqlState } from '@partywall/engine';
import type { SendMail } from '../people/people-options.ts';
import { mailOf, pagerdutyPost, slackPost, webhookPost } from './messages.ts';
import { type PostOptions, post } from './post.ts';

export interface DeliveryOptions {
  /** Sends what goes to channels of kind `email`; without it they fail. */
  readonly mail?: SendMail | undefined;
  /** Also deliver to this machine and its private networks: for tests, and where receivers are on the premises. Default: false. */
  readonly allowPrivateTargets?: boolean | undefined;
  /** Time a receiver has to answer. Default: 10 seconds; at most half of what a claim holds. */
  readonly timeoutMs?: number | undefined;
  /** How often the outbox is looked at. Default: every 2 seconds. */
  readonly pollMs?: number | undefined;
  /** How long what a killed process had begun stays its own. Default: a minute. */
  readonly leaseMs?: number | undefined;
}

/** What became of the deliveries of one round. */
export interface DeliveryCounts {
  readonly delivered: number;
  /** Not delivered at this attempt; some are tried again. */
  readonly failed: number;
}

const timeoutMsDefault = 10_000;
/** Of a whole message; a mail server has timeouts for each of its answers. Less than what a claim holds. */
const mailTimeoutMs = 30_000;
const pollMsDefault = 2_000;
/** Sent through one channel at the same time. */
const batchMax = 5;
/** Then the channel waits for the next round, like all others. */
const batchesMax = 100;

/**
 * Sends what is due until nothing is; or the delivery of `id` alone. Any number of processes may do so at once: each delivery is claimed by one.
 * Channels do not wait for each other.
 */
export async function deliverDue(database: ControlDatabase, options: DeliveryOptions, only: { readonly id?: string } = {}): Promise<DeliveryCounts> {
  if (only.id !== undefined) return sendAll(database, await claimDeliveries(database, { id: only.id }, options.leaseMs), options);
  const { signal } = new AbortController();
  const counts = await Promise.all((await dueChannels(database)).map((channel) => deliverThrough(database, channel, options, signal)));
  return counts.reduce(sum, none);
}

/** A deliverer at work. */
export interface Deliverer {
  /** Claims nothing more and waits for what is being sent. */
  stop(): Promise<void>;
}

/**
 * Looks at the outbox again and again. A channel whose receiver is slow is left to itself meanwhile. `onError` hears of a database that does not
 * answer; the next round tries again.
 */
export function startDelivering(database: ControlDatabase, options: DeliveryOptions, onError: (error: unknown) => void): Deliverer {
  const stopping = new AbortController();
  const { signal } = stopping;
  const busy = new Map<string, Promise<unknown>>();
  const round = async (): Promise<void> => {
    for (const channel of await dueChannels(database)) {
      if (busy.has(channel)) continue;
      const delivering = deliverThrough(database, channel, options, signal).catch(onError);
      busy.set(
        channel,
        delivering.finally(() => busy.delete(channel)),
      );
    }
  };
  const work = async (): Promise<void> => {
    while (!signal.aborted) {
      await round().catch(onError);
      // Rejects when the deliverer is stopped, which the loop's condition sees.
      await wait(options.pollMs ?? pollMsDefault, undefined, { signal, ref: false }).catch(() => undefined);
    }
    await Promise.all(busy.values());
  };
  const working = work();
  return {
    stop: async () => {
      stopping.abort();
      await working;
    },
  };
}

async function deliverThrough(database: ControlDatabase, channel: string, options: DeliveryOptions, signal: AbortSignal): Promise<DeliveryCounts> {
  let counts = none;
  for (let batch = 0; batch < batchesMax && !signal.aborted; batch += 1) {
    const claims = await claimDeliveries(database, { channel, max: batchMax }, options.leaseMs);
    if (claims.length === 0) break;
    counts = sum(counts, await sendAll(database, claims, options));
  }
  return counts;
}

async function sendAll(database: ControlDatabase, claims: readonly Claim[], options: DeliveryOptions): Promise<DeliveryCounts> {
  const outcomes = await Promise.all(claims.map((claim) => deliver(database, claim, options)));
  const delivered = outcomes.filter(({ kind }) => kind === 'delivered').length;
  return { delivered, failed: outcomes.length - delivered };
}

const none: DeliveryCounts = { delivered: 0, failed: 0 };

function sum(a: DeliveryCounts, b: DeliveryCounts): DeliveryCounts {
  return { delivered: a.delivered + b.delivered, failed: a.failed + b.failed };
}

async function deliver(database: ControlDatabase, claim: Claim, options: DeliveryOptions): Promise<Outcome> {
  const outcome = await send(database, claim, options);
  // Whoever asked for a test has the answer; it is not tried again behind their back.
  const last = outcome.kind === 'failed' && claim.event === 'test' ? { ...outcome, permanent: true } : outcome;
  await finishDelivery(database, claim, last);
  return last;
}

async function send(
  { keyring, clock }: ControlDatabase,
  claim: Claim,
  { mail, allowPrivateTargets = false, timeoutMs = timeoutMsDefault }: DeliveryOptions,
): Promise<Outcome> {
  const how: PostOptions = { timeoutMs, allowPrivateTargets };
  try {
    const target = await openTarget(keyring, claim.channel.name, claim.channel.target);
    switch (target.kind) {
      case 'webhook':
        return await post(webhookPost(claim, target, clock()), how);
      case 'slack':
        return await post(slackPost(claim, target), how);
      case 'pagerduty':
        return await post(pagerdutyPost(claim, target), how);
      case 'email':
        if (!mail) return { kind: 'failed', permanent: true, reason: 'no SMTP server is configured' };
        return await within(mail({ to: target.to.join(', '), ...mailOf(claim) }), mailTimeoutMs);
    }
  } catch (error) {
    return { kind: 'failed', permanent: false, reason: reasonOf(error) };
  }
}

async function within(sending: Promise<void>, timeoutMs: number): Promise<Outcome> {
  const timer = new AbortController();
  const late = wait(timeoutMs, { kind: 'failed', permanent: false, reason: `no answer within ${timeoutMs} ms` } as const, { signal: timer.signal });
  try {
    return await Promise.race([sending.then(() => ({ kind: 'delivered' }) as const), late]);
  } finally {
    late.catch(() => undefined); // cleared below
    timer.abort();
  }
}

/** Codes alone: what a mail server says repeats addresses, and an unreadable secret names the keyring. */
function reasonOf(error: unknown): string {
  const code = sqlState(error) ?? 'unknown failure';
  const answer =
    typeof error === 'object' && error !== null && 'responseCode' in error && typeof error.responseCode === 'number' ? ` ${error.responseCode}` : '';
  return `${code}${answer}`;
}
