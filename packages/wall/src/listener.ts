/**
 * What an application gives to be told of something (`onTrouble`, `onProblem`, `onSlowQuery`, ...) decides nothing, so it breaks nothing: what it throws, or its promise
 * rejects with, reaches neither the request nor the pool nor the loop that tells it. It is said once.
 *
 * @param name as the application knows it
 */
export function listener<Heard extends readonly unknown[]>(name: string, hear: ((...heard: Heard) => unknown) | undefined): (...heard: Heard) => void {
  if (!hear) return () => undefined;
  const failed = (error: unknown): void => sayFailed(name, hear, error);
  return (...heard) => {
    try {
      Promise.resolve(hear(...heard)).catch(failed);
    } catch (error) {
      failed(error);
    }
  };
}

/** A function of the application has failed where nobody can be told but whoever reads its warnings. */
export function sayFailed(name: string, callback: object, error: unknown): void {
  warnOnce(callback, `${name} failed, which is said once: ${error instanceof Error ? (error.stack ?? error.message) : typeof error}`);
}

const warned = new WeakSet<object>();

/** A warning of the process; only the first about each object. */
export function warnOnce(about: object, message: string): void {
  if (warned.has(about)) return;
  warned.add(about);
  process.emitWarning(message, 'PartywallWarning');
}
