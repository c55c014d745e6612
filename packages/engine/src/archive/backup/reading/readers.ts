import { Worker } from 'node:worker_threads';
import { type EngineErrorCode, engineErrors, PartywallError } from '../../../errors.ts';
import type { Failure, FromReader, ReaderStart, Tally, ToReader, Unit } from './protocol.ts';
import type { SpillFiles } from './spill.ts';

/** What reads one snapshot. */
export interface Readers {
  /** What was written so far. */
  files(): readonly SpillFiles[];
  /** Does all of the work; threads side by side, in the order given as they come free. @throws what the first failing thread met */
  run(units: readonly Unit[], onDone: (unit: Unit, tally: Tally) => void): Promise<void>;
  /** Closes what they wrote, and ends them. */
  finish(): Promise<void>;
  /** Ends them whatever they do. Can be called again. */
  stop(): Promise<void>;
}

/** Of the heap for young objects: the pieces that a socket hands out die young, and there are many of them. */
const youngHeapMb = 4;
/**
 * Of the heap for the others, which V8 otherwise lets grow to four times of what is in use before it looks: 150 MB in two threads. In use are 20 MB and 1 KB
 * for each subject.
 */
const oldHeapMb = { base: 48, perSubject: 0.0015 };
const threadModule = new URL(import.meta.url.endsWith('.ts') ? './reader-thread.ts' : './reader-thread.js', import.meta.url);

/** @throws PartywallError backup_refused, database_unreachable, store_full */
export async function startReaders(starts: readonly ReaderStart[], signal: AbortSignal | undefined): Promise<Readers> {
  const threads = starts.map((start) => {
    const maxOldGenerationSizeMb = Math.ceil(oldHeapMb.base + start.subjects.length * oldHeapMb.perSubject);
    return new Worker(threadModule, { workerData: start, resourceLimits: { maxYoungGenerationSizeMb: youngHeapMb, maxOldGenerationSizeMb } });
  });
  const stop = async (): Promise<void> => {
    await Promise.all(threads.map((thread) => thread.terminate()));
  };
  try {
    await Promise.all(threads.map((thread) => answer(thread, signal)));
  } catch (error) {
    await stop();
    throw error;
  }
  const ask = (thread: Worker, message: ToReader): Promise<FromReader> => {
    const answered = answer(thread, signal);
    thread.postMessage(message);
    return answered;
  };
  return {
    files: () => starts.map(({ files }) => files),
    run: async (units, onDone) => {
      let next = 0;
      await Promise.all(
        threads.map(async (thread) => {
          for (let unit = units[next++]; unit; unit = units[next++]) {
            const reply = await ask(thread, { kind: 'unit', unit });
            if (reply.kind === 'tally') onDone(unit, reply.tally);
          }
        }),
      );
    },
    finish: async () => {
      await Promise.all(threads.map((thread) => ask(thread, { kind: 'finish' })));
      await stop();
    },
    stop,
  };
}

/** The next message of a thread; its failure, its end, or the caller's signal is an error. */
function answer(thread: Worker, signal: AbortSignal | undefined): Promise<FromReader> {
  const { promise, resolve, reject } = Promise.withResolvers<FromReader>();
  const onMessage = (message: FromReader): void => (message.kind === 'failed' ? reject(errorOf(message.failure)) : resolve(message));
  const onExit = (): void => reject(new Error('a reading thread ended before its work'));
  const onAbort = (): void => reject(signal?.reason);
  thread.once('message', onMessage).once('error', reject).once('exit', onExit);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  return promise.finally(() => {
    thread.off('message', onMessage).off('error', reject).off('exit', onExit);
    signal?.removeEventListener('abort', onAbort);
  });
}

function errorOf({ code, expected, message, stack }: Failure): Error {
  if (expected && isCode(code)) return new PartywallError(code, message);
  const error = Object.assign(new Error(message), code === undefined ? {} : { code });
  if (stack !== undefined) error.stack = stack;
  return error;
}

function isCode(code: string | undefined): code is EngineErrorCode {
  return code !== undefined && code in engineErrors;
}
