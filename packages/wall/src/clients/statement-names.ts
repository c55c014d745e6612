import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { Statement } from '../statement.ts';

/** Statements that are named, each of which every connection of the pool may come to keep: some ten kilobytes. */
const namedMax = 200;
/** Uses of a text before it is named, so that texts with values written into them do not take the names. */
const usesBefore = 3;
/** Texts that are counted. */
const countedMax = 1_000;
const textCharsMax = 8_192;

/**
 * Names for the statements of libraries that give them none, so that a connection parses and plans each once. Most of what the wall adds to an
 * unnamed statement is planning its policies again: a point read of 110 µs takes 150 without a name and 80 with one.
 *
 * A prepared statement whose result has another shape after a migration is refused by PostgreSQL ("cached plan must not change result
 * type", 0A000). Such a text is given a new name, so it fails once for each connection that was sending it, and not until the process is
 * started again.
 */
export class StatementNames {
  readonly #names = new Map<string, string>();
  readonly #uses = new Map<string, number>();
  #renamed = 0;

  /** Gives the query a name where it has none, has parameters, and has been sent often enough. */
  name(query: pg.Query, statement: Statement): void {
    const { text } = query;
    if (query.name || text === undefined || statement.kind !== 'data' || statement.many || !Array.isArray(query.values) || query.values.length === 0) return;
    query.name = this.#names.get(text) ?? this.#used(text);
  }

  /** The database has refused the statement as it was prepared. */
  forget({ text, name }: pg.Query): void {
    if (text === undefined || this.#names.get(text) !== name) return;
    this.#renamed += 1;
    this.#names.set(text, this.#nameOf(text));
  }

  #used(text: string): string | undefined {
    if (this.#names.size >= namedMax || text.length > textCharsMax) return undefined;
    const uses = (this.#uses.get(text) ?? 0) + 1;
    if (uses < usesBefore) {
      if (this.#uses.size >= countedMax) this.#uses.clear();
      this.#uses.set(text, uses);
      return undefined;
    }
    this.#uses.delete(text);
    const name = this.#nameOf(text);
    this.#names.set(text, name);
    return name;
  }

  #nameOf(text: string): string {
    return `partywall_${createHash('sha256').update(`${this.#renamed} ${text}`).digest('hex').slice(0, 24)}`;
  }
}

/**
 * The server has another idea of the prepared statement: its result has another shape (0A000), or somebody has dropped it (26000). 0A000 is also what a statement
 * fails with that the server cannot run; a new name each time would leave one more prepared statement on the connection.
 */
export function isStale({ code, routine }: pg.DatabaseError): boolean {
  return code === '26000' || (code === '0A000' && routine === planCheck);
}

/** Where PostgreSQL compares a plan's result with what it was: the message is translated, this is not. */
const planCheck = 'RevalidateCachedQuery';
