import { PartywallError } from '../errors.ts';
import { connect, sqlState } from './connect.ts';
import { startEmbedded } from './embedded.ts';
import { ident } from './sql.ts';

/** A database of an embedded server that is this process' own for as long as it runs. */
export interface EmbeddedDatabase {
  /** Connection string of the superuser. */
  readonly url: string;
  /** Stops the server. */
  stop(): Promise<void>;
}

/** Long enough for the server to notice that a process is gone that was killed. */
const heldTimeout = '3s';

/**
 * Starts the server of a data folder and makes its database; a later start finds its data again, on whichever port is free then. A server that outlived
 * its process is taken over. One that another process uses is not: who stopped first would stop it for both.
 *
 * @throws PartywallError embedded_unavailable
 */
export async function startEmbeddedDatabase({ dataDir, database }: { dataDir: string; database: string }): Promise<EmbeddedDatabase> {
  const server = await startEmbedded({ dataDir });
  let holder: Awaited<ReturnType<typeof connect>> | undefined;
  try {
    holder = await connect(server.url, { purpose: `holder of ${database}` });
    await hold(holder, dataDir);
    const { rowCount } = await holder.query('select from pg_catalog.pg_database where datname = $1', [database]);
    if (rowCount === 0) await holder.query(`create database ${ident(database)}`);
  } catch (error) {
    await holder?.end();
    if (!server.adopted) await server.stop();
    throw error;
  }
  const held = holder;
  return {
    url: server.urlFor(database),
    stop: async () => {
      // First the server: nobody else can take it over before it is down.
      await server.stop();
      await held.end();
    },
  };
}

/** The lock ends with the session, however the process ends. */
async function hold(holder: Awaited<ReturnType<typeof connect>>, dataDir: string): Promise<void> {
  await holder.query(`set lock_timeout = '${heldTimeout}'`);
  try {
    await holder.query("select pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('partywall embedded database', 0))");
  } catch (cause) {
    if (sqlState(cause) !== '55P03') throw cause;
    throw new PartywallError('embedded_unavailable', `starting PostgreSQL in ${dataDir}: another process uses the server of that folder`, {
      cause,
      hint: 'end that process first, or start in another folder',
    });
  }
  await holder.query('reset lock_timeout');
}
