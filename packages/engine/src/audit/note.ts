import { type Operation, transaction } from '../db/operation.ts';
import { appendAudit } from './append.ts';

/** What an operator writes into the log by hand: the end of an incident, a decision, an answer that was given. */
export interface NoteInput {
  /** Key of the tenant it is about; null where it is about none. */
  readonly tenant: string | null;
  readonly note: string;
}

/** Adds a note to the tenant's chain; returns the number of the record in it. */
export function recordNote(operation: Operation, { tenant, note }: NoteInput): Promise<string> {
  return transaction(operation.database.pool, (client) => appendAudit(client, operation, { tenant, action: 'audit.note', reason: note }));
}
