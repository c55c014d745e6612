import { type AuditEntry, appendDenial, type ControlDatabase, type Operation } from '@partywall/engine';
import type { FastifyBaseLogger } from 'fastify';

/**
 * Refused attempts go to the audit log, each in a transaction of its own, because the refused one rolls back. Whoever is refused decides how often,
 * so what one request can cost here is bounded: the first attempt of a kind is written at once, the same again (by the same actor from the same
 * address, at the same thing of the same tenant) is counted and written as one record with `times` when the window closes.
 *
 * An answer waits for its record at most `waitMsMax` and never fails because of it. What could not be written, or kept count of one by one, is
 * logged and written as one `access.unrecorded` as soon as the database takes it: no attempt is lost without a trace while the process lives.
 */
export const denialWindowMs = 10_000;
/** Kinds that are counted at a time; of more only how many there were. */
const windowsMax = 1_000;
/** First attempts that are written at once; more are counted. */
const firstsAtOnceMax = 2;
export const waitMsMax = 1_000;
/** How long stopping waits for what has been counted. */
const closeMsMax = 5_000;
/** Of an id that was asked for: enough for any key, and a window is small. */
const wantedCharactersMax = 200;

/** What was attempted; `tenant` is whose chain it belongs to. */
export type Denial = AuditEntry;

export interface Denials {
  /** Never rejects, and waits `waitMsMax` at most. */
  record(operation: Operation, denial: Denial): Promise<void>;
  /** An attempt on another tenant: for the chain of the tenant it was aimed at, where there is one. */
  recordForeign(operation: Operation, wanted: string, target: string): Promise<void>;
  /** Writes what has been counted. */
  close(): Promise<void>;
}

declare module 'fastify' {
  interface FastifyInstance {
    /** For a route that refuses by itself what its access admits. */
    denials: Denials;
  }
}

interface Window {
  readonly operation: Operation;
  denial: Denial;
  /** Attempts that no record tells of yet. */
  times: number;
  since: string;
  timer: NodeJS.Timeout | undefined;
}

export function createDenials(database: ControlDatabase, log: Pick<FastifyBaseLogger, 'error'>, windowMs = denialWindowMs): Denials {
  const windows = new Map<string, Window>();
  const firsts = new Set<Promise<void>>();
  let unrecorded = 0;
  let closed = false;
  /** Windows are written one after the other, however many close at once: requests need the connections. */
  let closing = Promise.resolve();

  const append = async (times: number, operation: Operation, denial: Denial): Promise<boolean> => {
    try {
      await appendDenial(operation, denial);
      return true;
    } catch (error) {
      unrecorded += times;
      log.error({ failure: error instanceof Error ? error.message : String(error), unrecorded }, 'refused attempts could not be recorded');
      return false;
    }
  };
  const write = async (times: number, operation: Operation, denial: Denial): Promise<void> => {
    if (await append(times, operation, denial)) await writeMissed();
  };
  /** Once, and not until none are missed: in a flood there are always more. */
  const writeMissed = async (): Promise<void> => {
    const times = unrecorded;
    if (times === 0) return;
    unrecorded = 0;
    await append(times, { database, actor: { kind: 'system', id: 'denials' } }, { tenant: null, action: 'access.unrecorded', details: { times } });
  };
  const closeWindow = (key: string, window: Window): void => {
    closing = closing.then(async () => {
      if (!windows.has(key)) return; // given up
      const { operation, denial, times, since } = window;
      window.times = 0;
      if (times > 0) await write(times, operation, { ...denial, details: { ...denial.details, times, since } });
      // It counts among the windows until it is written, so that a slow database does not let them pile up.
      if (window.times > 0 && !closed) open(key, window);
      else windows.delete(key);
      if (closed) unrecorded += window.times;
    });
  };
  const open = (key: string, window: Window): void => {
    window.since = database.clock().toISOString();
    window.timer = setTimeout(closeWindow, windowMs, key, window).unref();
    windows.set(key, window);
  };

  const record = async (operation: Operation, denial: Denial, asked = ''): Promise<void> => {
    const { actor } = operation;
    const key = JSON.stringify([actor.kind, actor.id, actor.address, denial.tenant, denial.action, denial.target, asked]);
    const known = windows.get(key);
    if (known) {
      known.times += 1;
      known.denial = denial;
      return;
    }
    if (closed || windows.size >= windowsMax) {
      unrecorded += 1;
      return;
    }
    const busy = firsts.size >= firstsAtOnceMax;
    open(key, { operation, denial, times: busy ? 1 : 0, since: '', timer: undefined });
    if (busy) return;
    const written = write(1, operation, denial).finally(() => firsts.delete(written));
    firsts.add(written);
    await written;
  };

  const foreign = async (operation: Operation, asked: string, target: string): Promise<void> => {
    const tenant = await existing(database, asked).catch(() => null);
    const wanted = asked.slice(0, wantedCharactersMax);
    // The tenant may read it, and learns no name of another tenant's people.
    const actor = { ...operation.actor, name: undefined };
    // A guess that hits waits for its record, so one that does not must too: the time would tell which ids are tenants. Hence a window for each id.
    await record({ ...operation, actor }, { tenant, action: 'access.cross_tenant', target, details: { wanted } }, wanted);
  };

  return {
    record: (operation, denial) => atMost(waitMsMax, record(operation, denial)),
    recordForeign: (operation, asked, target) => atMost(waitMsMax, foreign(operation, asked, target)),
    close: async () => {
      closed = true;
      for (const [key, window] of windows) {
        clearTimeout(window.timer);
        closeWindow(key, window);
      }
      const written = Promise.all([closing, ...firsts]).then(writeMissed);
      await atMost(closeMsMax, written);
      const left = [...windows.values()].reduce((sum, { times }) => sum + times, unrecorded);
      windows.clear();
      if (left > 0) log.error({ unrecorded: left }, 'the server stops before all refused attempts are recorded');
    },
  };
}

/** An id that names no tenant would otherwise open a chain for every guess. */
async function existing({ pool }: ControlDatabase, tenant: string): Promise<string | null> {
  const { rowCount } = await pool.query('select from partywall_control.directory where tenant_id = $1', [tenant]);
  return rowCount === 0 ? null : tenant;
}

/** Waits for the work, and after that time no longer. It goes on. */
export async function atMost(milliseconds: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([work, promise]).finally(() => clearTimeout(timer));
}
