/**
 * Times in the sort keys of pages are whole microseconds since 1970: all that PostgreSQL keeps, and any number that fits is a time, which a
 * text that a client sends back need not be.
 */
export function microsecondsOf(time: string): string {
  return `(extract(epoch from ${time}) * 1000000)::bigint`;
}

/** The time that such a number stands for; `microseconds` is SQL. */
export function timeOf(microseconds: string): string {
  return `(timestamptz 'epoch' + ${microseconds}::bigint * interval '1 microsecond')`;
}
