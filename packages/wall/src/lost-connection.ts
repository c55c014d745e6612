import { EventEmitter } from 'node:events';
import { warnOnce } from './listener.ts';

/**
 * Sees the events of a pool first, and keeps lost connections from ending the process, which pg lets them do where nobody listens for `error`.
 *
 * Lost while it is idle, a connection has been removed by the pool, which makes a new one when one is needed: without a listener that is said once for each pool.
 * Lost while somebody holds it, it tells so by the statement that was sent, or by the next one.
 *
 * @returns whether the event is done with
 */
export function heardLoss(pool: EventEmitter, event: string | symbol, value: unknown): boolean {
  if (event === 'connect' && value instanceof EventEmitter) value.off('error', toldByStatement).on('error', toldByStatement);
  if (event !== 'error' || pool.listenerCount('error') > 0) return false;
  warnOnce(pool, `an idle connection was lost, which is said once for each pool; pool.on('error', ...) hears of each: ${String(value)}`);
  return true;
}

function toldByStatement(): void {}
