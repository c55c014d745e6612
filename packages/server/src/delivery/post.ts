import { lookup } from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { type Outcome, sqlState } from '@partywall/engine';
import { isPrivateAddress } from './private-address.ts';

/** A message as it goes over HTTP. */
export interface Post {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface PostOptions {
  /** From the connection to the status; what the receiver answers beside it is not read. */
  readonly timeoutMs: number;
  /** Also to this machine and its networks. */
  readonly allowPrivateTargets: boolean;
}

/** Answers that may be another one later: timeout, too early, too many. */
const passingStatuses: ReadonlySet<number> = new Set([408, 425, 429]);
const privateTarget = 'PRIVATE_TARGET';

/**
 * Posts a message. Follows no redirect, takes no proxy from the environment, and connects to public addresses only: what a name resolves to is
 * checked in the lookup of the connection itself, so that it cannot resolve to something else afterwards.
 *
 * Never rejects: what fails is told as an outcome, by code alone, because messages of errors repeat addresses.
 */
export async function post(message: Post, { timeoutMs, allowPrivateTargets }: PostOptions): Promise<Outcome> {
  try {
    return outcomeOf(await statusOf(message, timeoutMs, allowPrivateTargets));
  } catch (error) {
    const code = sqlState(error) ?? 'unknown failure';
    if (code === privateTarget) return { kind: 'failed', permanent: true, reason: 'the address leads into a private network' };
    if (code === 'ABORT_ERR') return { kind: 'failed', permanent: false, reason: `no answer within ${timeoutMs} ms` };
    return { kind: 'failed', permanent: false, reason: code };
  }
}

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
}

function statusOf({ url, headers, body }: Post, timeoutMs: number, allowPrivateTargets: boolean): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const target = new URL(url);
  // A literal address is connected to without a lookup.
  const literal = target.hostname.replace(/^\[(.*)\]$/, '$1');
  if (!allowPrivateTargets && isIP(literal) !== 0 && isPrivateAddress(literal)) throw refused();
  const request = (target.protocol === 'https:' ? https : http).request(target, {
    method: 'POST',
    agent: false,
    headers: { 'user-agent': 'Partywall', 'content-length': Buffer.byteLength(body), ...headers },
    signal: AbortSignal.timeout(timeoutMs),
    ...(!allowPrivateTargets && { lookup: publicLookup }),
  });
  request.on('error', reject);
  request.on('response', (response) => {
    resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'] });
    response.destroy();
  });
  request.end(body);
  return promise;
}

const publicLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) callback(error, []);
    else if (addresses.some(({ address }) => isPrivateAddress(address))) callback(refused(), []);
    else if (options.all) callback(null, addresses);
    else callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
  });
};

function refused(): NodeJS.ErrnoException {
  return Object.assign(new Error('the address leads into a private network'), { code: privateTarget });
}

function outcomeOf({ status, retryAfter }: Answer): Outcome {
  if (status >= 200 && status < 300) return { kind: 'delivered' };
  const passing = status >= 500 || passingStatuses.has(status);
  const seconds = /^\d{1,6}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined;
  return { kind: 'failed', permanent: !passing, reason: `HTTP ${status}`, retryAfterMs: seconds && seconds * 1_000 };
}
