import type { Scope } from './context.ts';
import { listener } from './listener.ts';
import { normalizeStatement } from './normalize.ts';

/** A statement that took longer than it should. */
export interface SlowQuery {
  /** Null in a system context. */
  readonly tenant: string | null;
  /** Without its values, so that it can be kept beside the statements of other tenants. */
  readonly statement: string;
  /** From the first message sent to the last one answered, entering the tenant included; waiting for a connection is not. */
  readonly milliseconds: number;
  readonly failed: boolean;
}

export interface SlowQueryOptions {
  /**
   * Hears of every statement that took `slowQueryMs` or longer, after it is done. Cursors and streams are left out: their time is their
   * reader's. What it throws reaches neither the statement nor the connection. Without it nothing is measured.
   */
  readonly onSlowQuery?: (query: SlowQuery) => void;
  /** Milliseconds; default 200. */
  readonly slowQueryMs?: number;
}

const slowQueryMsDefault = 200;

/** Times the statements of one connection, which are answered one at a time. */
export class SlowQueryWatch {
  readonly #report: (query: SlowQuery) => void;
  readonly #overMs: number;
  #text: string | undefined;
  #tenant: string | null = null;
  #begun = 0;
  #failed = false;

  constructor(report: (query: SlowQuery) => void, overMs = slowQueryMsDefault) {
    this.#report = listener('onSlowQuery', report);
    this.#overMs = overMs;
  }

  begin(text: string, scope: Scope): void {
    if (scope.kind === 'setup') return;
    this.#text = text;
    this.#tenant = scope.kind === 'tenant' ? scope.tenant : null;
    this.#failed = false;
    this.#begun = performance.now();
  }

  /** The server refused the statement. It says that it is ready later, when a pool may have closed the connection already. */
  fail(): void {
    this.#failed = true;
    this.end();
  }

  /** The server is ready for the next statement. */
  end(): void {
    const text = this.#text;
    if (text === undefined) return;
    this.#text = undefined;
    const milliseconds = performance.now() - this.#begun;
    if (milliseconds < this.#overMs) return;
    const query = { tenant: this.#tenant, statement: normalizeStatement(text), milliseconds, failed: this.#failed };
    process.nextTick(this.#report, query);
  }
}
