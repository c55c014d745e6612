import pg from 'pg';
import pgUtils from 'pg/lib/utils.js';
import { expect, test } from 'vitest';
import { walledDatabase } from './walled-database.ts';

const wall = await walledDatabase();

/** `src/pg-internals.d.ts` claims these; a version of pg that moves one must not be found out by its symptoms. */
test('pg has the inner parts that the walled client builds on', async () => {
  const client = await wall.client();
  expect(client._queryQueue).toEqual([]);
  expect(client._activeQuery ?? null).toBeNull();
  expect(client.readyForQuery).toBe(true);
  expect(client.getTransactionStatus()).toBe('I');
  for (const method of ['_handleErrorMessage', '_handleNotice', '_handleReadyForQuery', '_handleRowDescription', '_handleDataRow', 'cancel', 'unref'] as const)
    expect(client[method]).toBeTypeOf('function');
  expect(client.connection).toBeInstanceOf(pg.Connection);
  expect(client.connection.parsedStatements).toEqual({});
  expect(client.connection.submittedNamedStatements).toEqual({});
  expect(client.connection._send).toBeTypeOf('function');
  expect(client.connection.stream.cork).toBeTypeOf('function');
});

test('a query is submitted by the queue through its own submit, and answered through its own handlers', async () => {
  const client = await wall.client();
  const query = new pg.Query({ name: 'n', text: 'select $1::int as a', values: [1] });
  expect(query).toMatchObject({ name: 'n', text: 'select $1::int as a', values: [1] });
  expect(query.requiresPreparation()).toBe(true);
  expect(new pg.Query('select 1').requiresPreparation()).toBe(false);
  const calls: string[] = [];
  const submit = query.submit;
  query.submit = (connection) => {
    calls.push('submit');
    query.submit = submit;
    expect(client._activeQuery).toBe(query);
    return query.submit(connection);
  };
  client.query(query);
  await new Promise((resolve) => query.on('end', resolve));
  expect(calls).toEqual(['submit']);
  expect(client.connection.parsedStatements['n']).toBe('select $1::int as a');
});

test('values become what goes over the wire, or throw', () => {
  expect(pgUtils.prepareValue({ a: 1 })).toBe('{"a":1}');
  expect(pgUtils.prepareValue(undefined)).toBeNull();
  expect(() => pgUtils.prepareValue({ a: 1n })).toThrow(TypeError);
});
