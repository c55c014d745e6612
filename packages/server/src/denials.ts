import { type AuditEntry, appendAudit, appendDenial, type ControlDatabase, type Operation } from '@partywall/engine';
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
/** Connections that attempts may keep busy. */
const writesAtOnceMax = 2;
const waitMsMax = 1_000;

/** What was attempted; `tenant` is whose chain it belongs to. */
export type Denial = AuditEntry;

export interface Denials {
  /** Never rejects. */
  record(operation: Operation, denial: Denial): Promise<void>;
  /** An attempt on another tenant: for the chain of the tenant it was aimed at, where there is one. */
  recordForeign(operation: Operation, wanted: string, target: string): Promise<void>;
  /** Writes what has been counted. */
  close(): Promise<void>;
}

interface Window {
  readonly operation: Operation;
  denial: Denial;
  /** Attempts that no record tells of yet. */
  times: number;
  readonly since: string;
  readonly timer: NodeJS.Timeout;
}

export function createDenials(database: ControlDatabase, log: Pick<FastifyBaseLogger, 'error'>, windowMs = denialWindowMs): Denials {
  const windows = new Map<string, Window>();
  const writes = new Set<Promise<void>>();
  let unrecorded = 0;

  const write = (times: number, work: () => Promise<unknown>): Promise<void> => {
    const written = attempt(times, work).finally(() => writes.delete(written));
    writes.add(written);
    return written;
  };
  const attempt = async (times: number, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work();
      const missed = unrecorded;
      unrecorded = 0;
      if (missed > 0) await writeMissed(missed);
    } catch (error) {
      unrecorded += times;
      log.error({ failure: error instanceof Error ? error.message : String(error), unrecorded }, 'refused attempts could not be recorded');
    }
  };
  const writeMissed = async (times: number): Promise<void> => {
    try {
      const operation: Operation = { database, actor: { kind: 'system', id: 'denials' } };
      await appendAudit(database.pool, operation, { tenant: null, action: 'access.unrecorded', details: { times } }, 'denied');
    } catch (error) {
      unrecorded += times;
      throw error;
    }
  };
  const closeWindow = (key: string): void => {
    const window = windows.get(key);
    windows.delete(key);
    if (!window || window.times === 0) return;
    const { operation, denial, times, since } = window;
    void write(times, () => appendDenial(operation, { ...denial, details: { ...denial.details, times, since } }));
  };

  const record = async (operation: Operation, denial: Denial): Promise<void> => {
    const { actor } = operation;
    const key = JSON.stringify([actor.kind, actor.id, actor.address, denial.tenant, denial.action, denial.target]);
    const known = windows.get(key);
    if (known) {
      known.times += 1;
      known.denial = denial;
      return;
    }
    if (windows.size >= windowsMax) {
      unrecorded += 1;
      return;
    }
    const busy = writes.size >= writesAtOnceMax;
    const timer = setTimeout(closeWindow, windowMs, key).unref();
    windows.set(key, { operation, denial, times: busy ? 1 : 0, since: database.clock().toISOString(), timer });
    if (!busy)
      await atMost(
        waitMsMax,
        write(1, () => appendDenial(operation, denial)),
      );
  };

  return {
    record,
    recordForeign: async (operation, wanted, target) => {
      const tenant = await existing(database, wanted).catch(() => null);
      // The tenant may read it, and learns no name of another tenant's people.
      const actor = { ...operation.actor, name: undefined };
      await record({ ...operation, actor }, { tenant, action: 'access.cross_tenant', target, details: { wanted } });
    },
    close: async () => {
      for (const [key, { timer }] of windows) {
        clearTimeout(timer);
        closeWindow(key);
      }
      while (writes.size > 0) await Promise.all(writes);
      if (unrecorded > 0) await attempt(0, async () => undefined);
    },
  };
}

/** An id that names no tenant would otherwise open a chain for every guess. */
async function existing({ pool }: ControlDatabase, tenant: string): Promise<string | null> {
  const { rowCount } = await pool.query('select from partywall_control.directory where tenant_id = $1', [tenant]);
  return rowCount === 0 ? null : tenant;
}

async function atMost(milliseconds: number, work: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  await Promise.race([work, promise]);
  clearTimeout(timer);
}

/** The same without a window: for a route that is bounded by itself. */
export async function recordForeign(operation: Operation, wanted: string, target: string): Promise<void> {
  const tenant = await existing(operation.database, wanted);
  const actor = { ...operation.actor, name: undefined };
  await appendDenial({ ...operation, actor }, { tenant, action: 'access.cross_tenant', target, details: { wanted } });
}
