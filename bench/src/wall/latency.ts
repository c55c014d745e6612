import { createWalledPool, run } from '@partywall/wall';
import pg from 'pg';
import { type Figure, median, pairs, percentile } from '../report.ts';
import { eventsModel, tenantCount, tenantId } from './events-database.ts';

/** How a statement reaches the database: with a name it is parsed once per connection, without one every time. */
export type Naming = 'named' | 'unnamed';

interface Way {
  /** Runs the statement for one tenant; `n` picks the row. */
  point(naming: Naming, n: number): Promise<unknown>;
  list(naming: Naming, n: number): Promise<unknown>;
  end(): Promise<void>;
}

export interface Ratios {
  /** Median of walled over median of raw, from interleaved runs. */
  readonly point: number;
  readonly list: number;
  /** Median of begin / set_config / query / commit over median of walled, for the point read. */
  readonly againstTransaction: number;
  /** Milliseconds that walled adds to a point read at the 99th percentile. */
  readonly addedP99Ms: number;
  /** Medians in microseconds. */
  readonly figures: readonly Figure[];
}

/**
 * A pool of one connection each, one statement at a time, interleaved pair by pair: the raw way filters by tenant itself and runs as a role
 * that no policy binds; the walled way names no tenant and runs as the application's role. `naming` holds for both.
 */
export async function measureLatency(
  url: string,
  naming: Naming,
  options: { readonly rows: number; readonly runs: number; readonly label: string; readonly preparedStatements?: boolean },
): Promise<Ratios> {
  const rawWay = raw(url, options.rows);
  const walledWay = walled(url, options);
  const usualWay = usual(url, options.rows);
  let calls = 0;
  // Both members of a pair read the same row.
  const row = (): number => Math.floor(calls++ / 2);
  const pair = (kind: 'point' | 'list', other: Way) =>
    pairs(
      () => walledWay[kind](naming, row()),
      () => other[kind](naming, row()),
      options.runs,
    );
  try {
    const point = await pair('point', rawWay);
    const list = await pair('list', rawWay);
    const transaction = await pair('point', usualWay);
    const figure = (name: string, values: readonly number[]): Figure => ({
      name: `${name}, ${naming}${options.label}`,
      value: median(values) * 1_000,
      unit: 'µs',
    });
    return {
      point: point.ratio,
      list: list.ratio,
      againstTransaction: 1 / transaction.ratio,
      addedP99Ms: percentile(point.a, 99) - percentile(point.b, 99),
      figures: [
        figure('raw point read', point.b),
        figure('walled point read', point.a),
        figure('raw 50-row list', list.b),
        figure('walled 50-row list', list.a),
        figure('begin, set_config, point read, commit', transaction.b),
      ],
    };
  } finally {
    await rawWay.end();
    await walledWay.end();
    await usualWay.end();
  }
}

const pointByTenant = 'select * from public.events where tenant_id = $1 and id = $2';
const listByTenant = 'select * from public.events where tenant_id = $1 order by id limit 50';

function config(naming: Naming, name: string, text: string, values: unknown[]): pg.QueryConfig {
  return naming === 'named' ? { name, text, values } : { text, values };
}

/** Event `id` belongs to project `id % projects + 1`, whose tenant follows from its number. */
function tenantOf(id: number): string {
  const project = (id % (tenantCount * 10)) + 1;
  return tenantId(((project - 1) % tenantCount) + 1);
}

function spread(n: number, rows: number): number {
  return ((n * 7919) % rows) + 1;
}

function raw(url: string, rows: number): Way {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  return {
    point: (naming, n) => pool.query(config(naming, 'point', pointByTenant, [tenantOf(spread(n, rows)), spread(n, rows)])),
    list: (naming, n) => pool.query(config(naming, 'list', listByTenant, [tenantOf(spread(n, rows))])),
    end: () => pool.end(),
  };
}

function walled(url: string, options: { rows: number; preparedStatements?: boolean }): Way {
  const appUrl = new URL(url);
  appUrl.username = eventsModel.roles.app;
  const pool = createWalledPool({ connectionString: appUrl.toString(), max: 1, preparedStatements: options.preparedStatements ?? true });
  return {
    point: (naming, n) => {
      const id = spread(n, options.rows);
      return run({ tenant: tenantOf(id) }, () => pool.query(config(naming, 'point', 'select * from public.events where id = $1', [id])));
    },
    list: (naming, n) =>
      run({ tenant: tenantOf(spread(n, options.rows)) }, () => pool.query(config(naming, 'list', 'select * from public.events order by id limit 50', []))),
    end: () => pool.end(),
  };
}

/** What applications do without a walled pool: a connection of the pool, and four round trips on it. */
function usual(url: string, rows: number): Way {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  const inside = async (tenant: string, query: pg.QueryConfig): Promise<unknown> => {
    const client = await pool.connect();
    try {
      await client.query('begin');
      await client.query({ ...(query.name && { name: 'context' }), text: "select set_config('app.tenant_id', $1, true)", values: [tenant] });
      const result = await client.query(query);
      await client.query('commit');
      return result;
    } finally {
      client.release();
    }
  };
  return {
    point: (naming, n) => inside(tenantOf(spread(n, rows)), config(naming, 'point', pointByTenant, [tenantOf(spread(n, rows)), spread(n, rows)])),
    list: (naming, n) => inside(tenantOf(spread(n, rows)), config(naming, 'list', listByTenant, [tenantOf(spread(n, rows))])),
    end: () => pool.end(),
  };
}
