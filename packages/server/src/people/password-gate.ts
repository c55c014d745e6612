import { problem } from '../problem.ts';

/** Hashing a password takes tens of milliseconds of a processor and holds a connection: so many at once, so many waiting, and no more. */
const atOnceMax = 4;
const waitingMax = 64;

let running = 0;
const waiting: (() => void)[] = [];

/**
 * Runs work that hashes a password when its turn comes.
 *
 * @throws Problem try_again where too many wait already
 */
export async function throughPasswordGate<Result>(work: () => Promise<Result>): Promise<Result> {
  if (running >= atOnceMax) {
    if (waiting.length >= waitingMax) throw problem('try_again');
    await new Promise<void>((turn) => waiting.push(turn));
  } else {
    running += 1;
  }
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next) next();
    else running -= 1;
  }
}
