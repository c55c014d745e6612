import { createHash } from 'node:crypto';
import { appendFile, mkdir } from 'node:fs/promises';
import path from 'node:path';

/** A line of the journal: what a restore of everything did, kept on this machine because the database may be gone again by tomorrow. */
export interface JournalLine {
  readonly event: 'begun' | 'resumed' | 'step' | 'tier' | 'done';
  readonly [member: string]: unknown;
}

export interface Journal {
  readonly file: string;
  write(line: JournalLine): Promise<void>;
}

/** JSON lines in the work folder, one file for each target. Never a password: the target is named without one. */
export async function openJournal(workFolder: string, target: string, clock: () => Date): Promise<Journal> {
  await mkdir(workFolder, { recursive: true, mode: 0o700 });
  const file = path.join(workFolder, `recover-${createHash('sha256').update(target).digest('hex').slice(0, 12)}.jsonl`);
  return {
    file,
    write: (line) => appendFile(file, `${JSON.stringify({ at: clock().toISOString(), ...line })}\n`, { mode: 0o600 }),
  };
}
