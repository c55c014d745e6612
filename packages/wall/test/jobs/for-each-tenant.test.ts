import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { current, JobError, run, system } from '../../src/index.ts';
import { forEachTenant, type JobOptions, type JobReceipt, type JobVisit, receiptText } from '../../src/jobs/for-each-tenant.ts';
import { failure, itemsPerTenant, tenant, tenantCount } from '../walled-database.ts';
import { warnings } from '../warnings.ts';
import { jobDatabase } from './job-database.ts';

const wall = await jobDatabase();
const { database } = wall;
const pool = wall.pool({ max: 5 });
const all = Array.from({ length: tenantCount }, (_, at) => tenant(at + 1));
const few = [tenant(1), tenant(2), tenant(3), tenant(4)];

function job(fn: (visit: JobVisit) => unknown, options: JobOptions = {}, name = 'report'): Promise<JobReceipt> {
  return forEachTenant({ pool, system: wall.system, job: name }, fn, options);
}

/** Statements of the application's role that the server is working on. */
async function running(): Promise<number> {
  const { rows } = await database.query<{ n: number }>(
    "select count(*)::int as n from pg_stat_activity where usename = $1 and (state = 'active' or state like 'idle in transaction%')",
    [wall.app],
  );
  return rows[0]?.n ?? -1;
}

async function onlyFew(): Promise<void> {
  await database.query("update partywall.registry set state = case when tenant_id = any ($1::uuid[]) then 'active' else 'suspended' end", [few]);
}

beforeEach(async () => {
  await database.query(
    "truncate partywall.job_runs, partywall.job_visits; update partywall.registry set state = 'active'; delete from items where id >= 90000",
  );
});

describe('a job', () => {
  test('visits every tenant once, in its own context, and accounts for each with the rows it saw', async () => {
    const visited: string[] = [];
    const receipt = await job(async (visit) => {
      expect(current()).toEqual({ tenant: visit.tenant, user: 'job:report' });
      visited.push(visit.tenant);
      const { rows } = await pool.query<{ tenant_id: string }>('select tenant_id from items');
      expect(new Set(rows.map(({ tenant_id }) => tenant_id))).toEqual(new Set([visit.tenant]));
      await pool.query("update items set body = body || '' where id <= 120");
    });
    expect(visited.sort()).toEqual(all);
    expect(receipt).toMatchObject({ status: 'complete', planned: 60, succeeded: 60, failed: 0, skipped: 0, notVisited: 0, alerts: [] });
    expect(receipt).toMatchObject({ rowsRead: 60 * itemsPerTenant, rowsWritten: 120 });
    const stored = await wall.visits(receipt.runKey);
    expect(stored.map(({ tenant_id }) => tenant_id)).toEqual(all);
    for (const visit of stored) expect(visit).toMatchObject({ outcome: 'succeeded', attempts: 1, rows_read: String(itemsPerTenant), rows_written: '2' });
    expect(receiptText(receipt)).toBe('visited 60 of 60: 60 succeeded, 0 failed, 0 skipped; 1800 rows read, 120 written');
  });

  test('goes on where onProblem throws, which is said once', async () => {
    await onlyFew();
    const warned = warnings();
    const receipt = await job(() => Promise.reject(new Error('it went wrong')), {
      onProblem: () => {
        throw new Error('the log is full');
      },
    });
    expect(receipt).toMatchObject({ status: 'incomplete', failed: 4, notVisited: 0 });
    await vi.waitFor(() => expect(warned).toEqual([expect.stringMatching(/^onProblem of job "report" failed, which is said once: Error: the log is full/)]));
  });

  test('goes on past a tenant that fails, skips who is suspended before or meanwhile, and names them', async () => {
    await onlyFew();
    const problems: unknown[] = [];
    const receipt = await job(
      async (visit) => {
        if (visit.tenant === tenant(2)) throw new TypeError(`a secret of ${visit.tenant}`);
        if (visit.tenant === tenant(3)) await wall.setState(tenant(3), 'suspended');
        await pool.query('select id from items');
      },
      { concurrency: 1, onProblem: ({ tenant: of, outcome, reason }) => problems.push([of, outcome, reason]) },
    );
    expect(receipt).toMatchObject({ status: 'incomplete', planned: 60, succeeded: 2, failed: 1, skipped: 57, notVisited: 0, skips: { suspended: 57 } });
    expect(receipt.failures).toEqual([{ tenant: tenant(2), reason: 'TypeError' }]);
    expect(problems).toEqual([
      [tenant(2), 'failed', 'TypeError'],
      [tenant(3), 'skipped', 'suspended'],
    ]);
    expect(JSON.stringify(await wall.visits(receipt.runKey))).not.toContain('a secret');
  });

  test('tries again where the error may pass, and not otherwise', async () => {
    await onlyFew();
    const attempts = new Map<string, number>();
    const receipt = await job(
      async (visit) => {
        attempts.set(visit.tenant, visit.attempt);
        if (visit.tenant === tenant(1) && visit.attempt < 3) await pool.query("do $$begin raise exception 'again' using errcode = '40001'; end$$");
        if (visit.tenant === tenant(2)) await pool.query("do $$begin raise exception 'always' using errcode = '40P01'; end$$");
        if (visit.tenant === tenant(3)) await pool.query('select 1 / 0');
      },
      { attemptsMax: 3 },
    );
    expect(few.map((of) => attempts.get(of))).toEqual([3, 3, 1, 1]);
    expect(receipt).toMatchObject({ succeeded: 2, failed: 2 });
    expect(receipt.failures.map(({ reason }) => reason)).toEqual(['database error 40P01', 'database error 22012']);
  });

  test('stops a tenant whose time is over: its statement is cancelled, nothing of it goes on, and neighbours are not touched', async () => {
    await onlyFew();
    const late: Promise<Error>[] = [];
    const receipt = await job(
      async (visit) => {
        if (visit.tenant === tenant(1)) {
          const goesOn = async (): Promise<void> => {
            await pool.query('select pg_sleep(600)').catch(() => undefined);
            await pool.query("insert into items (id, body) values (90001, 'late')");
          };
          late.push(failure(goesOn()));
          await late[0];
        } else if (visit.tenant === tenant(2)) {
          const client = await pool.connect();
          await client.query('begin');
          await client.query("insert into items (id, body) values (90002, 'open')");
          await new Promise(() => undefined);
        } else {
          await pool.query("insert into items (id, body) values (90003, 'on time')");
        }
      },
      { timeoutMs: 1_500, concurrency: 4 },
    );
    expect(receipt).toMatchObject({ succeeded: 2, failed: 2 });
    expect(receipt.failures).toEqual([
      { tenant: tenant(1), reason: 'timeout' },
      { tenant: tenant(2), reason: 'timeout' },
    ]);
    await expect(late[0]).resolves.toMatchObject({ code: 'statement_refused' });
    await vi.waitFor(async () => expect(await running()).toBe(0), { timeout: 10_000 });
    const { rows } = await database.query<{ id: number; tenant_id: string }>('select id, tenant_id from items where id >= 90000 order by tenant_id');
    expect(rows).toEqual([
      { id: 90003, tenant_id: tenant(3) },
      { id: 90003, tenant_id: tenant(4) },
    ]);
  });

  test('fails a tenant whose function leaves a transaction open', async () => {
    await onlyFew();
    const receipt = await job(
      async (visit) => {
        if (visit.tenant !== tenant(1)) return;
        const client = await pool.connect();
        await client.query('begin');
        await client.query('select id from items');
      },
      { timeoutMs: 1_000 },
    );
    expect(receipt.failures).toEqual([{ tenant: tenant(1), reason: 'timeout' }]);
    await vi.waitFor(async () => expect(await running()).toBe(0), { timeout: 10_000 });
  });

  test('that is aborted cancels what runs, and says who was not visited; the same key goes on with them alone', async () => {
    await onlyFew();
    const abort = new AbortController();
    const first = await job(
      async (visit) => {
        if (visit.tenant !== tenant(2)) return;
        setImmediate(() => abort.abort());
        await pool.query('select pg_sleep(600)');
      },
      { runKey: 'k', concurrency: 1, signal: abort.signal },
    );
    expect(first).toMatchObject({ status: 'incomplete', succeeded: 1, failed: 0, notVisited: 3 });
    expect(await running()).toBe(0);
    const visited: string[] = [];
    const second = await job((visit) => visited.push(visit.tenant), { runKey: 'k' });
    expect(visited.sort()).toEqual([tenant(2), tenant(3), tenant(4)]);
    expect(second).toMatchObject({ status: 'complete', succeeded: 4, notVisited: 0 });
    expect(await job(() => visited.push('again'), { runKey: 'k' })).toEqual(second);
    expect(visited).not.toContain('again');
  });

  test('that is killed goes on with the tenants that were not done, and visits none twice', async () => {
    const script = fileURLToPath(new URL('killed-job.ts', import.meta.url));
    const child = spawn(process.execPath, ['--conditions=partywall-source', script, database.urlAs(wall.app), wall.systemUrl, 'nightly', tenant(20)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface(child.stdout)) if (line === tenant(20)) break;
    child.kill('SIGKILL');
    await once(child, 'exit');
    await database.query('select pg_cancel_backend(pid) from pg_stat_activity where usename = $1', [wall.app]);
    const visited: string[] = [];
    const rerun = (): Promise<JobReceipt> => job((visit) => visited.push(visit.tenant), { runKey: 'nightly' }, 'killed');
    const receipt = await vi.waitFor(rerun, { timeout: 10_000 });
    expect(visited.sort()).toEqual(all.slice(19));
    expect(receipt).toMatchObject({ status: 'complete', planned: 60, succeeded: 60, notVisited: 0 });
  }, 60_000);

  test('that runs already is refused, and its lock is free when it has ended', async () => {
    const inside = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const first = job(async () => {
      inside.resolve();
      await go.promise;
    });
    await inside.promise;
    const refused = await failure(job(() => undefined));
    expect(refused).toBeInstanceOf(JobError);
    expect(refused.code).toBe('job_running');
    expect(await job(() => undefined, {}, 'another')).toMatchObject({ status: 'complete' });
    go.resolve();
    await first;
    expect(await job(() => undefined)).toMatchObject({ status: 'complete' });
  });

  test('that loses the connection of its record stops with an error, and can go on', async () => {
    await onlyFew();
    // The job hears of the end before the server's process has gone, and its lock with it.
    let gone: Promise<unknown> = Promise.resolve();
    const lost = job(
      async (visit) => {
        if (visit.tenant !== tenant(2)) return;
        gone = database.query(
          "select pg_terminate_backend(pid, 10000) from pg_locks where locktype = 'advisory' and objid <> 0 and pid <> pg_backend_pid() and database = (select oid from pg_database where datname = current_database())",
        );
        await gone;
        await pool.query('select pg_sleep(600)');
      },
      { runKey: 'lost', concurrency: 1 },
    );
    expect((await failure(lost)).code).toBe('job_interrupted');
    await gone;
    expect(await job(() => undefined, { runKey: 'lost' })).toMatchObject({ status: 'complete', succeeded: 4 });
  });

  test('tells its alert where rows are zero that never were: in all, and of one tenant', async () => {
    const purge = (condition: string) => () => pool.query(`update items set body = body || '' where id <= 60 and ${condition}`);
    expect((await job(purge('true'))).alerts).toEqual([]);
    expect((await job(purge('true'))).alerts).toEqual([]);
    expect((await job(purge(`tenant_id <> '${tenant(7)}'`))).alerts).toEqual([{ kind: 'zero_tenants', count: 1, tenants: [tenant(7)] }]);
    const dead = await job(purge('false'));
    expect(dead.alerts).toContainEqual({ kind: 'zero', measure: 'rowsWritten' });
    expect(dead.status).toBe('complete');
    expect(receiptText(dead)).toContain('ALERT: rowsWritten is 0 and never was');
    expect((await job(purge('false'))).alerts).toContainEqual({ kind: 'zero', measure: 'rowsWritten' });
    expect((await job(purge('true'))).alerts).toEqual([]);
  });

  test('counts rows by what the server says, however they are fetched, and none of other contexts', async () => {
    await onlyFew();
    const receipt = await job(async (visit) => {
      if (visit.tenant !== tenant(1)) return;
      const client = await pool.connect();
      await client.query('begin');
      await client.query("insert into items (id, body) values (90001, 'a'), (90002, 'b') returning id");
      await client.query('delete from items where id >= 90000');
      await client.query('commit');
      client.release();
      await run({ tenant: tenant(1) }, () => pool.query('select id from items limit 3'));
      await system('look', () => pool.query('select code from countries'));
    });
    expect(receipt).toMatchObject({ rowsRead: 5, rowsWritten: 4 });
  });
});

describe('the record of jobs', async () => {
  const attacker = await wall.client();
  test.each([
    'begin_job_run(text, text)',
    'next_job_visits(bigint, text, integer)',
    'end_job_visit(bigint, jsonb)',
    'end_job_run(bigint)',
    'last_job_run(text)',
  ])('keeps %s from the application', async (name) => {
    const { rows } = await database.query('select has_function_privilege($1, $2, $3) as may', [wall.app, `partywall.${name}`, 'execute']);
    expect(rows).toEqual([{ may: false }]);
  });

  test('cannot be read or written by the application', async () => {
    for (const table of ['job_runs', 'job_visits'])
      for (const statement of [`select from partywall.${table}`, `delete from partywall.${table}`])
        expect((await failure(attacker.query(statement))).code).toBe('42501');
  });

  test('keeps so many runs of a job, the latest ones, and nothing of a tenant that is deleted', async () => {
    await onlyFew();
    await database.query("insert into partywall.job_runs (job, run_key, started_at) select 'report', 'old ' || n, now() from generate_series(1, 65) n");
    await database.query("insert into partywall.job_runs (job, run_key, started_at) values ('another', 'old', now())");
    const { runKey } = await job(() => undefined, { runKey: 'new' });
    const { rows } = await database.query<{ run_key: string }>("select run_key from partywall.job_runs where job = 'report' order by id");
    expect(rows.map(({ run_key }) => run_key)).toEqual([...Array.from({ length: 59 }, (_, at) => `old ${at + 7}`), 'new']);
    expect((await database.query("select from partywall.job_runs where job = 'another'")).rows).toHaveLength(1);
    await database.query('begin');
    await database.query('delete from partywall.registry where tenant_id = $1', [tenant(60)]);
    expect((await wall.visits(runKey)).map(({ tenant_id }) => tenant_id)).toEqual(all.slice(0, 59));
    await database.query('rollback');
  });
});
