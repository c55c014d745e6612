/**
 * Writes what a process has counted, one write after the other: on its own every few seconds once started, and whenever asked.
 *
 * States: *stopped* (writes on `flush` alone), *started*. `stop` writes what is left and leads back.
 */
export class UsageFlush {
  readonly #write: () => Promise<void>;
  readonly #onFailure: (error: unknown) => void;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;

  /** `write` keeps what it could not write. `onFailure` hears of the writes that nobody waits for. */
  constructor(write: () => Promise<void>, onFailure: (error: unknown) => void) {
    this.#write = write;
    this.#onFailure = onFailure;
  }

  get started(): boolean {
    return this.#timer !== undefined;
  }

  /** Does not keep the process alive. */
  start(intervalMs: number): void {
    this.#timer ??= setInterval(() => this.soon(), intervalMs).unref();
  }

  /** Writes without being waited for, unless a write is under way. */
  soon(): void {
    if (this.#waiting === 0) this.flush().catch(this.#onFailure);
  }

  /** Writes all that was counted before the call. */
  flush(): Promise<void> {
    this.#waiting += 1;
    const done = this.#last.then(this.#write).finally(() => {
      this.#waiting -= 1;
    });
    this.#last = done.catch(() => undefined);
    return done;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.flush();
  }
}
