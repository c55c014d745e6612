import pg from 'pg';

const connectionsMax = 10;
const connectTimeoutMs = 10_000;
/** A control-plane statement that takes longer is stuck; what works on a whole tenant asks for more by itself. */
const statementTimeoutMs = 30_000;

/** A pool for the control plane: names are written in full, so the search path is empty; texts that are compared or hashed have one form. */
export function controlPool(url: string, options: { readonly purpose: string; readonly max?: number }): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    application_name: `partywall ${options.purpose}`,
    max: options.max ?? connectionsMax,
    connectionTimeoutMillis: connectTimeoutMs,
    options: `-c search_path= -c DateStyle=ISO -c TimeZone=UTC -c IntervalStyle=postgres -c extra_float_digits=1 -c bytea_output=hex -c jit=off -c statement_timeout=${statementTimeoutMs}`,
  });
  // A lost idle connection is replaced by the next query that needs one; without a listener it would end the process.
  pool.on('error', () => undefined);
  // So does one that is lost while it is held and nothing is asked: the next statement says so.
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}
