import { sqlState } from '../../db/connect.ts';
import { PartywallError } from '../../errors.ts';

/** Shutdown, crash and restart of the server, and the ends of connections that go with them. */
const lostStates: ReadonlySet<string> = new Set(['57P01', '57P02', '57P03', '08006', '08003', 'ECONNRESET', 'ECONNREFUSED', 'EPIPE']);

/** The client's own words, which have no code; and the server's, for a snapshot whose session ended before a thread could take it. */
const lostMessages = /^(Connection terminated|Client has encountered a connection error|Client was closed|invalid snapshot identifier)/;

/** What stopped a backup, as whoever ran it can act on it: errors of the model and of privileges are refusals. */
export function backupFailure(error: unknown): unknown {
  if (error instanceof PartywallError) {
    if (error.code !== 'model_unclassified' && error.code !== 'model_drift') return error;
    return new PartywallError('backup_refused', error.message, { cause: error, hint: error.hint, details: error.details });
  }
  if (!(error instanceof Error)) return error;
  const state = sqlState(error);
  if (state === '42501') {
    return new PartywallError('backup_refused', `reading as the role that was given: ${error.message}`, {
      cause: error,
      hint: 'connect as the service role: a role that a policy binds would read fewer rows',
    });
  }
  if (state === '55P03') {
    return new PartywallError(
      'lock_not_acquired',
      'locking the tables for the threads that read them: somebody waits to change one, and would wait for the backup',
      {
        cause: error,
        hint: 'nothing of this run counts; run it again once the migration is done',
      },
    );
  }
  if ((state !== undefined && lostStates.has(state)) || lostMessages.test(error.message)) {
    return new PartywallError('database_unreachable', `backing up: the connection was lost: ${error.message}`, {
      cause: error,
      hint: 'nothing of this run counts; run it again once the server is there',
    });
  }
  return error;
}
