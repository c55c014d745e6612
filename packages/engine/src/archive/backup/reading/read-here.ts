import type pg from 'pg';
import type { MarksUnit, Unit } from './protocol.ts';
import { openReader, type Reading } from './reader.ts';
import type { Readers } from './readers.ts';

/** Of tables, about: above it the process that asks for the backup would notice. To start a thread takes as long as to read a tenth of it. */
const hereBytesMax = 16 * 1024 ** 2;
const marksAtOnce = 50;

export interface ReadingHere {
  /** In the snapshot. */
  readonly client: pg.Client;
  readonly reading: Reading;
  readonly signal: AbortSignal | undefined;
  /** For what is too much. */
  readonly startThreads: () => Promise<Readers>;
}

/** Reads in this thread and over the connection that holds the snapshot, for backups of few rows: nothing is started, and nobody connects. */
export function readHere({ client, reading, signal, startThreads }: ReadingHere): Readers {
  const reader = openReader(client, reading);
  let threads: Readers | undefined;
  let closed = false;
  const close = (): void => {
    if (!closed) reader.close();
    closed = true;
  };
  return {
    files: () => [reading.files, ...(threads?.files() ?? [])],
    run: async (units, onDone) => {
      const weight = units.reduce((sum, unit) => sum + (unit.kind === 'rows' ? unit.weight : 0), 0);
      if (weight > hereBytesMax) {
        threads ??= await startThreads();
        await threads.run(units, onDone);
        return;
      }
      const marks = units.filter(isMarks);
      for (let from = 0; from < marks.length; from += marksAtOnce) {
        signal?.throwIfAborted();
        const some = marks.slice(from, from + marksAtOnce);
        for (const [at, tally] of (await reader.readMarks(some)).entries()) {
          const unit = some[at];
          if (unit) onDone(unit, tally);
        }
      }
      for (const unit of units) {
        if (isMarks(unit)) continue;
        signal?.throwIfAborted();
        onDone(unit, await reader.readRows(unit));
      }
    },
    finish: async () => {
      close();
      await threads?.finish();
    },
    stop: async () => {
      try {
        close();
      } catch {
        // A disk that was full is still full; whoever wrote first has said so.
      }
      await threads?.stop();
    },
  };
}

function isMarks(unit: Unit): unit is MarksUnit {
  return unit.kind === 'marks';
}
