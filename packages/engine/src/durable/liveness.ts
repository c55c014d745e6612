import pg from 'pg';

/**
 * Which processes are alive: each holds an advisory lock on its own name in the system database, over a connection of its own. The lock ends with the
 * process, however it ends, so there is no heartbeat to miss and no clock to trust.
 */
export interface Liveness {
  /**
   * Runs `work` if the process of that name is gone, and keeps others from doing so meanwhile. Returns whether it was gone.
   */
  ifGone(executor: string, work: () => Promise<void>): Promise<boolean>;
  /** Takes the lock again where the connection was lost. */
  renew(): Promise<void>;
  end(): Promise<void>;
}

const key = "pg_catalog.hashtextextended('partywall:executor:' || $1, 0)";

export async function announce(url: string, executor: string): Promise<Liveness> {
  let client = await open(url, executor);
  return {
    ifGone: async (other, work) => {
      const { rows } = await client.query<{ gone: boolean }>(`select pg_catalog.pg_try_advisory_lock(${key}) as gone`, [other]);
      if (!rows[0]?.gone) return false;
      try {
        await work();
      } finally {
        await client.query(`select pg_catalog.pg_advisory_unlock(${key})`, [other]);
      }
      return true;
    },
    renew: async () => {
      try {
        await client.query('select 1');
      } catch {
        await client.end().catch(() => undefined);
        client = await open(url, executor);
      }
    },
    end: () => client.end(),
  };
}

async function open(url: string, executor: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'partywall executor' });
  // A lost connection shows in the next query; without a listener it would end the process.
  client.on('error', () => undefined);
  await client.connect();
  await client.query(`select pg_catalog.pg_advisory_lock(${key})`, [executor]);
  return client;
}
