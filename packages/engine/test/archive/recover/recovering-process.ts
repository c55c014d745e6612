import pg from 'pg';
import { type ArchiveSettings, openArchive, recoverDatabase } from '../../../src/index.ts';

/** A process that restores a database and may end itself by SIGKILL. Prints how many statements it took when it has ended. */
export interface RecoveringProcess {
  readonly settings: Omit<ArchiveSettings, 'clock' | 'signal' | 'source'>;
  readonly into: string;
  readonly backup: string;
  /** Dies at this statement, counted over all connections; `sent`: after the statement is on its way. */
  readonly kill?: { readonly statement: number; readonly sent: boolean };
}

const given: RecoveringProcess = JSON.parse(process.argv[2] ?? '{}');
const clock = (): Date => new Date();

let sent = 0;
const send = pg.Client.prototype.query;
pg.Client.prototype.query = function (this: pg.Client, ...parts: Parameters<typeof send>) {
  sent += 1;
  if (sent !== given.kill?.statement) return send.apply(this, parts);
  if (given.kill.sent) send.apply(this, parts);
  process.kill(process.pid, 'SIGKILL');
} as typeof send; // a process that is killed returns nothing

const archive = await openArchive({ ...given.settings, clock });
await recoverDatabase(archive, { from: given.backup, into: given.into }, { clock });
process.stdout.write(`${sent}\n`);
await archive.close();
