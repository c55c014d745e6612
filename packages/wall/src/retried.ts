import { setTimeout as delay } from 'node:timers/promises';

/** Transactions of the same moment can get in each other's way again. Tries, and the longest pause between two (milliseconds). */
const triesMax = 6;
const pauseMsMax = 50;

/**
 * Sends a statement again that was undone as a whole because of what another session did meanwhile (40001), which happens where the application's transactions are
 * repeatable read or serializable unless they say otherwise.
 */
export async function retried<Result>(send: () => Promise<Result>): Promise<Result> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await send();
    } catch (error) {
      const undone = error instanceof Error && 'code' in error && error.code === '40001';
      if (!undone || tries >= triesMax) throw error;
      await delay(Math.random() * pauseMsMax);
    }
  }
}
