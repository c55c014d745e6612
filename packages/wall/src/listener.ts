/**
 * What an application gives to be told of something (`onTrouble`, `onProblem`, `onSlowQuery`, ...) decides nothing, so it breaks nothing: what it throws, or its promise
 * rejects with, reaches neither the request nor the pool nor the loop that tells it. The first time it is said by a warning of the process.
 *
 * @param name as the application knows it
 */
export function listener<Heard extends readonly unknown[]>(name: string, hear: ((...heard: Heard) => unknown) | undefined): (...heard: Heard) => void {
  let hasFailed = false;
  const failed = (error: unknown): void => {
    if (!hasFailed) warn(`${name} failed, which is told once: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    hasFailed = true;
  };
  return (...heard) => {
    try {
      Promise.resolve(hear?.(...heard)).catch(failed);
    } catch (error) {
      failed(error);
    }
  };
}

/** Says something that no caller is there to hear. */
export function warn(message: string): void {
  process.emitWarning(message, 'PartywallWarning');
}
