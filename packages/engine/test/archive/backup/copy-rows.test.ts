import type pg from 'pg';
import { afterAll, describe, expect, test } from 'vitest';
import { createDatabase } from '../../../../../test/support/database.ts';
import { copyOut } from '../../../src/archive/backup/reading/copy-rows.ts';
import { readingSocket } from '../../../src/archive/backup/reading/reading-socket.ts';
import { connect } from '../../../src/db/connect.ts';

const database = await createDatabase();
const sockets = { 'a reading socket': readingSocket, 'any other socket': undefined };
const clients: pg.Client[] = [];
afterAll(async () => {
  for (const client of clients) await client.end();
});

async function connected(stream: typeof readingSocket | undefined): Promise<pg.Client> {
  const client = await connect(database.url, { purpose: 'test', ...(stream && { stream }) });
  clients.push(client);
  return client;
}

/** Rows as text, each copied while it may be looked at. */
async function rowsOf(client: pg.Client, sql: string): Promise<string[]> {
  const rows: string[] = [];
  await copyOut(client, sql, (bytes, start, end) => rows.push(bytes.toString('utf8', start, end)));
  return rows;
}

describe.for(Object.entries(sockets))('over %s', ([, stream]) => {
  test('every row comes whole and once, short ones and ones longer than a reading', async () => {
    const client = await connected(stream);
    const lengths = '(case when n % 1000 = 0 then 700000 when n % 7 = 0 then 0 else n % 300 end)';
    const rows = await rowsOf(client, `copy (select n, repeat('x', ${lengths}) from generate_series(1, 20000) n) to stdout`);
    const expected = Array.from({ length: 20_000 }, (_, at) => {
      const n = at + 1;
      return `${n}\t${'x'.repeat(n % 1000 === 0 ? 700_000 : n % 7 === 0 ? 0 : n % 300)}\n`;
    });
    expect(rows.length).toBe(expected.length);
    expect(rows.findIndex((row, at) => row !== expected[at])).toBe(-1);
  });

  test('what follows a copy is answered as ever: another copy, none, a query, an error', async () => {
    const client = await connected(stream);
    for (let round = 0; round < 20; round += 1) {
      expect(await rowsOf(client, "copy (values ('one'), ('two')) to stdout")).toEqual(['one\n', 'two\n']);
      expect(await rowsOf(client, 'copy (select 1 where false) to stdout')).toEqual([]);
      expect((await client.query<{ text: string }>("select repeat('y', 100000) as text")).rows[0]?.text).toBe('y'.repeat(100_000));
      await expect(rowsOf(client, 'copy (select 1 / (n - 5000) from generate_series(1, 10000) n) to stdout')).rejects.toThrow('division by zero');
    }
  });

  test('an error of whoever takes the rows ends the connection', async () => {
    const client = await connected(stream);
    const failing = copyOut(client, 'copy (select n from generate_series(1, 1000000) n) to stdout', () => {
      throw new Error('no more');
    });
    await expect(failing).rejects.toThrow('no more');
    await expect(client.query('select 1')).rejects.toThrow();
  });
});
