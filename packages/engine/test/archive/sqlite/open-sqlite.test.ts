import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { openSqlite, type SqliteFile, sqliteSource } from '@partywall/engine';
import { describe, expect, it } from 'vitest';
import { fileModel, linesOf, sqliteFixture } from './chatbot-file.ts';

const clock = (): Date => new Date('2026-11-21T02:00:00Z');

async function opened<Result>(fixture: { file: string; workFolder: string }, work: (file: SqliteFile) => Promise<Result> | Result): Promise<Result> {
  const file = await openSqlite(fixture.file, { model: fileModel, workFolder: fixture.workFolder, clock });
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

const hashOf = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await fs.readFile(file))
    .digest('hex');

describe('a SQLite file', () => {
  it('in WAL mode is copied with what is in its log, where a copy of the file alone has lost even the tables', async () => {
    const fixture = await sqliteFixture();
    const naive = path.join(fixture.folder, 'naive.db');
    await fs.copyFile(fixture.file, naive);
    const lost = new DatabaseSync(naive);
    expect(() => lost.prepare('select * from agents').all()).toThrow(/no such table/);
    lost.close();
    await opened(fixture, async (file) => expect(await linesOf(sqliteSource(file, 'acme'), 'public.messages')).toHaveLength(2));
  });

  it('stays as it was, byte for byte, and its copy is gone when it is closed', async () => {
    const fixture = await sqliteFixture();
    fixture.writer.close();
    const before = await hashOf(fixture.file);
    await fs.chmod(fixture.file, 0o444);
    await opened(fixture, async (file) => {
      expect(file.at).toEqual(clock());
      expect(() => file.database.exec("insert into tenants values ('new', 'New', null)")).toThrow(/readonly|read-only/);
      const [copy] = await fs.readdir(fixture.workFolder);
      expect((await fs.stat(path.join(fixture.workFolder, copy ?? ''))).mode & 0o777).toBe(0o700);
    });
    expect(await hashOf(fixture.file)).toBe(before);
    expect(await fs.readdir(fixture.workFolder)).toEqual([]);
  });

  it('is one moment while somebody writes it at full speed, who is not stopped', async () => {
    const fixture = await sqliteFixture();
    const writing = new Worker(new URL('./writing-thread.ts', import.meta.url), { workerData: { file: fixture.file } });
    await once(writing, 'message');
    const seen: number[] = [];
    for (let round = 0; round < 6; round += 1) {
      await opened(fixture, async (file) => {
        const source = sqliteSource(file, 'acme');
        const agents = (await linesOf(source, 'public.agents')).length;
        // One agent and two messages of the tenant were there before; each transaction adds one of both.
        expect((await linesOf(source, 'public.messages')).length).toBe(agents + 1);
        seen.push(agents);
      });
    }
    writing.postMessage('stop');
    const [written] = (await once(writing, 'message')) as [number];
    expect(seen).toEqual(seen.toSorted((left, right) => left - right));
    expect(seen[0]).toBeLessThan(seen.at(-1) ?? 0);
    expect(written).toBeGreaterThanOrEqual((seen.at(-1) ?? 0) - 1);
  });

  it('with a table that the model does not know, or without one that it scopes, is refused; the platform’s need not be there', async () => {
    const more = await sqliteFixture('create table secrets (id integer primary key, tenant_id text);');
    await expect(opened(more, () => undefined)).rejects.toMatchObject({ code: 'model_unclassified', details: [expect.stringContaining('public.secrets')] });
    const less = await sqliteFixture();
    less.writer.exec('drop table messages');
    await expect(opened(less, () => undefined)).rejects.toMatchObject({ code: 'model_drift' });
    expect(await fs.readdir(less.workFolder)).toEqual([]);
    await expect(opened(await sqliteFixture(), ({ catalog }) => [...catalog.relations.keys()].sort())).resolves.toEqual([
      'public.agents',
      'public.countries',
      'public.messages',
      'public.tenants',
    ]);
  });

  it('whose search index is a virtual table is asked for that table and not for what lies behind it', async () => {
    const fixture = await sqliteFixture('create virtual table search using fts5(body);');
    await expect(opened(fixture, () => undefined)).rejects.toMatchObject({
      code: 'model_unclassified',
      details: [expect.stringMatching(/^public\.search is not in the model/)],
    });
  });

  it('that is damaged is refused with what its check found, and leaves no copy', async () => {
    const fixture = await sqliteFixture('create index by_body on messages (body);');
    fixture.writer.exec(
      'insert into messages (agent_id, body) select 1, hex(randomblob(300)) from (with recursive n(i) as (select 1 union all select i + 1 from n where i < 500) select i from n); pragma wal_checkpoint(truncate)',
    );
    fixture.writer.close();
    const bytes = await fs.readFile(fixture.file);
    const { length } = bytes;
    bytes.fill(0x5a, length - 4_096 * 20, length - 4_096 * 18);
    await fs.writeFile(fixture.file, bytes);
    await expect(opened(fixture, () => undefined)).rejects.toMatchObject({ code: 'backup_refused' });
    expect(await fs.readdir(fixture.workFolder)).toEqual([]);
  });

  it.each([
    ['is not there', async (file: string) => fs.rm(file)],
    [
      'is something else',
      async (file: string) => fs.writeFile(file, 'SQLite, but in words, and long enough to have a header of a hundred bytes, which this sentence has by now.'),
    ],
    ['is empty', async (file: string) => fs.writeFile(file, '')],
  ])('that %s is refused before anything is copied', async (_, spoil) => {
    const fixture = await sqliteFixture();
    fixture.writer.close();
    await spoil(fixture.file);
    await expect(opened(fixture, () => undefined)).rejects.toMatchObject({ code: 'input_invalid' });
    await expect(fs.readdir(fixture.workFolder)).rejects.toThrow(/ENOENT/);
  });

  it('that somebody holds exclusively is refused with the reason when they do not let go', async () => {
    const fixture = await sqliteFixture();
    fixture.writer.exec('pragma journal_mode = delete; pragma locking_mode = exclusive; begin exclusive');
    await expect(openSqlite(fixture.file, { model: fileModel, workFolder: fixture.workFolder, clock, lockTimeoutMs: 100 })).rejects.toMatchObject({
      code: 'backup_refused',
      message: expect.stringMatching(/is locked/),
    });
  });
});
