import type pg from 'pg';
import { afterAll } from 'vitest';
import { suffix } from '../../../../test/support/database.ts';
import { jobGrants } from '../../../engine/src/wall/runtime/jobs-sql.ts';
import { createSystemPool } from '../../src/index.ts';
import { type WalledDatabase, walledDatabase } from '../walled-database.ts';

export interface JobDatabase extends WalledDatabase {
  readonly system: pg.Pool;
  readonly systemUrl: string;
  /** What is stored of the visits of a run, by tenant. */
  visits(runKey: string): Promise<StoredVisit[]>;
}

interface StoredVisit {
  readonly tenant_id: string;
  readonly outcome: string;
  readonly reason: string | null;
  readonly attempts: number;
  readonly rows_read: string;
  readonly rows_written: string;
}

/** A walled database with a system login that may run jobs, as `apply` leaves it. */
export async function jobDatabase(): Promise<JobDatabase> {
  const wall = await walledDatabase();
  const login = `wall_system_${suffix()}`;
  await wall.database.query(`create role ${login} login bypassrls`);
  for (const statement of jobGrants(login)) await wall.database.query(statement);
  const systemUrl = wall.database.urlAs(login);
  const system = createSystemPool({ connectionString: systemUrl, max: 4 });
  system.on('error', () => undefined); // the database is dropped with force
  afterAll(async () => {
    await system.end();
    await wall.database.query(`drop owned by ${login}; drop role ${login}`);
  });
  return {
    ...wall,
    system,
    systemUrl,
    visits: async (runKey) => {
      const { rows } = await wall.database.query<StoredVisit>(
        `select v.tenant_id, v.outcome, v.reason, v.attempts, v.rows_read, v.rows_written from partywall.job_visits v
         join partywall.job_runs r on r.id = v.run where r.run_key = $1 order by v.tenant_id`,
        [runKey],
      );
      return rows;
    },
  };
}
