import type pg from 'pg';
import { system } from '../context.ts';
import { listener } from '../listener.ts';
import { retried } from '../retried.ts';
import type { Attempt } from './decide.ts';
import type { RequestFacts } from './request.ts';
import { sourceFinder } from './source.ts';

/** Where attempts on other tenants are recorded, and where one learns which sources are blocked. */
export interface Attempts {
  /** For how many seconds the request's source is still blocked; 0 where it is not. Never rejects: who cannot be looked up is let through. */
  blockedSeconds(request: RequestFacts): Promise<number>;
  /** Records an attempt in a transaction of its own. Never rejects, and waits `recordMsMax` at most. */
  record(request: RequestFacts, attempt: Attempt, requestId: string): Promise<void>;
}

export interface AttemptOptions {
  /** The walled pool. */
  readonly pool: Pick<pg.Pool, 'query'>;
  /**
   * Addresses and networks of one's own proxies, whose `X-Forwarded-For` is believed: `['10.0.0.0/8']`; `[]` where clients connect directly. Has to be
   * said, because a proxy that is not named here is the source of every attempt, and is blocked with everybody behind it.
   */
  readonly trustedProxies: readonly string[];
  /** Hears that attempts could not be recorded, or sources not be looked up. */
  readonly onTrouble: (error: unknown) => void;
}

/** For so long a process believes what it heard of a source: a block holds in every process within this time. */
export const sourceAgeMsMax = 2_000;
/** Sources that a process remembers; the one that was looked up longest ago is forgotten first. */
const sourcesMax = 20_000;
/** Sources of one look-up; the others wait for the next. */
const lookUpMax = 200;
/** How long a request waits for the look-up of its source, and an answer for its record. */
const lookUpMsMax = 500;
const recordMsMax = 1_000;
/** Records that are on their way at a time. Of what comes meanwhile the last of each source is kept, with how many there were. */
const recordsMax = 4;
const keptMax = 1_000;

const recordSql = 'select partywall.record_attempt($1) as seconds';
const blockedSql = 'select source, seconds from partywall.blocked_sources($1)';

/**
 * Records attempts on other tenants through `partywall.record_attempt`, and knows the sources that made too many. Thresholds are rows in the
 * database: docs/guide/attempts.md.
 *
 * @throws TypeError where `trustedProxies` holds what is no address
 * @example const attempts = crossTenantAttempts({ pool, trustedProxies: ['10.0.0.0/8'], onTrouble: (error) => log.error(error) });
 */
export function crossTenantAttempts({ pool, trustedProxies, onTrouble }: AttemptOptions): Attempts {
  const report = listener('onTrouble of crossTenantAttempts', onTrouble);
  const find = sourceFinder(trustedProxies);
  const sourceOf = (request: RequestFacts): string | undefined => find(request.address, request.header('x-forwarded-for'));
  const blocks = rememberedBlocks();
  const lookUp = batched(async (sources) => {
    try {
      const blocked = await readBlocked(pool, sources);
      for (const source of sources) blocks.remember(source, blocked.get(source));
    } catch (error) {
      report(error);
    }
  });
  const written = async (source: string, record: Entry): Promise<void> => {
    try {
      const seconds = await writeRecord(pool, record);
      if (source !== '') blocks.remember(source, seconds);
    } catch (error) {
      report(error);
    }
  };
  const write = bounded(written, report);
  return {
    blockedSeconds: async (request) => {
      const source = sourceOf(request);
      if (source === undefined) return 0;
      if (!blocks.isFresh(source)) await atMost(lookUpMsMax, lookUp(source));
      return blocks.secondsOf(source);
    },
    record: (request, { kind, actor, tenant, claimed }, requestId) => {
      const route = cleaned(`${request.method} ${request.path}`);
      const source = sourceOf(request);
      const record = { kind, source, route, actor: cleaned(actor), tenant: cleaned(tenant), claimed: cleaned(claimed), requestId };
      return atMost(recordMsMax, write(source ?? '', record));
    },
  };
}

async function readBlocked(pool: Pick<pg.Pool, 'query'>, sources: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await retried(() => system('look for blocked sources', () => pool.query<{ source: string; seconds: number }>(blockedSql, [sources])));
  return new Map(rows.map(({ source, seconds }) => [source, seconds]));
}

/** For how many seconds its source is blocked. */
async function writeRecord(pool: Pick<pg.Pool, 'query'>, record: Entry): Promise<number | undefined> {
  const { rows } = await retried(() =>
    system('record a cross-tenant attempt', () => pool.query<{ seconds: number | null }>(recordSql, [JSON.stringify(record)])),
  );
  return rows[0]?.seconds ?? undefined;
}

interface RememberedBlocks {
  remember(source: string, seconds: number | undefined): void;
  isFresh(source: string): boolean;
  secondsOf(source: string): number;
}

/** By this process's own clock: the database tells for how long, so that two clocks that differ shorten no block. */
function rememberedBlocks(): RememberedBlocks {
  const known = new Map<string, { readonly at: number; readonly endsAt: number }>();
  return {
    remember: (source, seconds = 0) => {
      const at = performance.now();
      known.delete(source);
      known.set(source, { at, endsAt: at + seconds * 1_000 });
      const oldest = known.size > sourcesMax ? known.keys().next().value : undefined;
      if (oldest !== undefined) known.delete(oldest);
    },
    isFresh: (source) => performance.now() - (known.get(source)?.at ?? Number.NEGATIVE_INFINITY) < sourceAgeMsMax,
    secondsOf: (source) => Math.max(0, Math.ceil(((known.get(source)?.endsAt ?? 0) - performance.now()) / 1_000)),
  };
}

/** Asks for all who wait at once, one question at a time; who finds too many waiting does not wait. */
function batched(ask: (sources: readonly string[]) => Promise<void>): (source: string) => Promise<void> {
  const waiting = new Map<string, PromiseWithResolvers<void>>();
  let asking = false;
  const askAll = async (): Promise<void> => {
    asking = true;
    while (waiting.size > 0) {
      const batch = [...waiting].slice(0, lookUpMax);
      for (const [source] of batch) waiting.delete(source);
      await ask(batch.map(([source]) => source));
      for (const [, { resolve }] of batch) resolve();
    }
    asking = false;
  };
  return (source) => {
    if (waiting.size >= sourcesMax) return Promise.resolve();
    const asked = waiting.get(source) ?? Promise.withResolvers<void>();
    waiting.set(source, asked);
    if (!asking) void askAll();
    return asked.promise;
  };
}

type Entry = Readonly<Record<string, unknown>>;

/** Writes a few at a time. The promise is that of the entry's own record where it is written at once. Sources past those that wait are told of once, until they have all been written. */
function bounded(write: (source: string, record: Entry) => Promise<void>, report: (error: Error) => void): (source: string, entry: Entry) => Promise<void> {
  const kept = new Map<string, { readonly entry: Entry; readonly times: number }>();
  let writing = 0;
  let isFull = false;
  const writeKept = async (): Promise<void> => {
    for (const [source, { entry, times }] of kept) {
      kept.delete(source);
      await write(source, { ...entry, times });
    }
    isFull = false;
    writing -= 1;
  };
  return async (source, entry) => {
    if (writing < recordsMax) {
      writing += 1;
      await write(source, { ...entry, times: 1 });
      void writeKept();
    } else if (kept.has(source) || kept.size < keptMax) {
      kept.set(source, { entry, times: (kept.get(source)?.times ?? 0) + 1 });
    } else if (!isFull) {
      isFull = true;
      report(new Error(`recording attempts on other tenants: those of ${keptMax} sources wait, and of more sources none is kept`));
    }
  };
}

const textCharactersMax = 200;

/** What may be anything becomes text that PostgreSQL takes and that breaks no line of a log. */
function cleaned(text: string | null): string | null {
  return text === null
    ? null
    : text
        .slice(0, textCharactersMax)
        .replaceAll(/\p{C}+/gu, ' ')
        .toWellFormed();
}

async function atMost(milliseconds: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([work, promise]).finally(() => clearTimeout(timer));
}
