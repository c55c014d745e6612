import pg from 'pg';
import pgUtils from 'pg/lib/utils.js';
import { type Callback, isCallback } from './caller.ts';
import { isQueryObject, type QueuedQuery } from './queued-query.ts';

/** What `client.query` takes beside a text, in pg 8; the types of pg leave most of it out. */
interface QueryConfig extends pg.QueryConfig<unknown[]> {
  readonly rows?: number;
  readonly rowMode?: string;
  readonly binary?: boolean;
  readonly portal?: string;
  readonly queryMode?: string;
  readonly query_timeout?: number;
  readonly callback?: Callback;
}

/**
 * The query of a text or a configuration. Built from the text where nothing needs pg's constructor to see the configuration: it copies
 * one property by property, descriptors and all, which costs 2 µs of the 65 of a point read.
 */
export function queryOf(config: unknown, values: unknown, callback: unknown): pg.Query {
  if (config === null || config === undefined) throw new TypeError('Client was passed a null or undefined query');
  const given = (typeof config === 'string' ? { text: config } : config) as QueryConfig; // each field is read as pg reads it, which checks none
  const done = callback || (isCallback(values) ? values : given.callback);
  if (done && !isCallback(done)) throw new TypeError('callback is not a function');
  const simple = typeof given.text === 'string' && given.rowMode === undefined && given.types === undefined;
  const query = new pg.Query(simple ? given.text : given);
  query.values = values && !isCallback(values) ? values : given.values;
  query.callback = isCallback(done) ? done : undefined;
  if (simple) {
    query.name = given.name;
    query.rows = given.rows;
    query.binary = given.binary;
    query.portal = given.portal ?? '';
    query.queryMode = given.queryMode;
  }
  if (given.query_timeout) query.query_timeout = given.query_timeout;
  return query;
}

/** The text of what `query` was called with. */
export function givenText(config: unknown): string | undefined {
  if (typeof config === 'string') return config;
  const { text, cursor } = (config ?? {}) as { readonly text?: unknown; readonly cursor?: { readonly text?: unknown } }; // as in QueryObject
  const own = text ?? cursor?.text;
  return typeof own === 'string' ? own : undefined;
}

/** The text that a query would send. One that was prepared before may come with its name alone. */
export function textOf(query: QueuedQuery, connection: pg.Connection): string | undefined {
  if (query instanceof pg.Query) return query.text ?? (query.name === undefined ? undefined : connection.parsedStatements[query.name]);
  if (!isQueryObject(query)) return undefined;
  const text = query.text ?? query.cursor?.text;
  return typeof text === 'string' ? text : undefined;
}

/**
 * Turns the values into what goes over the wire, before anything is written: pg does it in the middle of its messages, and a value
 * that cannot be written leaves a named statement that the server has closed and pg takes for parsed. Returns the error.
 */
export function prepareValues(query: pg.Query): Error | undefined {
  const { values } = query;
  if (!Array.isArray(values) || values.length === 0) return undefined;
  try {
    query.values = values.map((value: unknown) => pgUtils.prepareValue(value));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
