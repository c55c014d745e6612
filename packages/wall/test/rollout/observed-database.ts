import pg from 'pg';
import { afterAll } from 'vitest';
import { suffix } from '../../../../test/support/database.ts';
import { contextTenant } from '../../../engine/src/wall/context-sql.ts';
import { observerGrants } from '../../../engine/src/wall/runtime/rollout-sql.ts';
import { runtimeGrants } from '../../../engine/src/wall/runtime.ts';
import { createWalledPool, type WalledPoolConfig } from '../../src/index.ts';
import { type WalledDatabase, walledDatabase } from '../walled-database.ts';

export interface ObservedDatabase extends WalledDatabase {
  readonly observer: string;
  /** What the pool needs to follow the roll-out. */
  readonly rollout: NonNullable<WalledPoolConfig['rollout']>;
  /** A pool that follows the roll-out; ending it, which delivers what it has counted, is the test's. */
  rolledOut(config?: WalledPoolConfig): pg.Pool;
  /** A plain pool of the observer's login: what the application saw before there was a wall. */
  plain(): pg.Pool;
  /** Replaces all modes. */
  setModes(...modes: readonly (readonly [scope: string, target: string, mode: string])[]): Promise<void>;
  /** What was observed since it was last asked, by kind. */
  seen(): Promise<Observed[]>;
}

export interface Observed {
  readonly mode: string;
  readonly kind: string;
  readonly relation: string;
  readonly location: string;
  readonly statement: string;
  readonly count: number;
}

/** A walled database with the logging triggers of a roll-out, as an operator's command leaves it, and the login that observes. */
export async function observedDatabase(): Promise<ObservedDatabase> {
  const wall = await walledDatabase();
  const { database, app } = wall;
  const observer = `wall_observer_${suffix()}`;
  const context = contextTenant({ keyType: 'uuid', isProtected: true });
  const when = (condition: string): string => `(current_user = '${app}' or current_setting('partywall.observe', true) = 'on') and ${condition}`;
  await database.query(`create role ${observer} login bypassrls; grant select, insert, update, delete on items to ${observer}; grant select on countries to ${observer};
    create trigger observe_insert after insert on items for each row when (${when(`new.tenant_id is distinct from ${context}`)}) execute function partywall.observe_write();
    create trigger observe_update after update on items for each row when (${when(`(old.tenant_id is distinct from ${context} or new.tenant_id is distinct from ${context})`)})
      execute function partywall.observe_write();
    create trigger observe_delete after delete on items for each row when (${when(`old.tenant_id is distinct from ${context}`)}) execute function partywall.observe_write();
    insert into partywall.facts (name, value) values ('rollout_tables', '[{"schema": "public", "name": "items", "column": "tenant_id"}]')`);
  for (const statement of [...runtimeGrants(observer), ...observerGrants(observer)]) await database.query(statement);
  const pools: pg.Pool[] = [];
  afterAll(async () => {
    await Promise.all(pools.map((pool) => pool.end()));
    await database.query(`drop owned by ${observer}; drop role ${observer}`);
  });
  const rollout = { observe: { connectionString: database.urlAs(observer) }, rerun: 0 };
  return {
    ...wall,
    observer,
    rollout,
    rolledOut: (config) => {
      const pool = createWalledPool({ connectionString: database.urlAs(app), max: 2, rollout, ...config });
      pool.on('error', () => undefined); // a test may end a session from the server's side
      return pool;
    },
    plain: () => {
      const pool = new pg.Pool({ connectionString: database.urlAs(observer), max: 2 });
      // The database is dropped with force, which may come before an ended connection has gone.
      pool.on('connect', (client) => client.on('error', () => undefined));
      pool.on('error', () => undefined);
      pools.push(pool);
      return pool;
    },
    setModes: async (...modes) => {
      await database.query('delete from partywall.rollout');
      for (const [scope, target, mode] of modes) {
        await database.query('insert into partywall.rollout (scope, target, mode) values ($1, $2, $3)', [scope, target, mode]);
      }
    },
    seen: async () => {
      const { rows } = await database.query<Observed>(
        `with gone as (delete from partywall.rollout_observations returning *)
         select mode, kind, relation, location, statement, count::int as count from gone order by kind, relation, statement, location`,
      );
      return rows;
    },
  };
}
