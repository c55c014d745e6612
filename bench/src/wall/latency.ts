import { createWalledPool, run } from '@partywall/wall';
import pg from 'pg';
import { type Figure, median, type Pairs, pairs, percentile } from '../report.ts';
import { eventsModel, tenantCount, tenantId } from './events-database.ts';

/** How a statement reaches the database: with a name it is parsed once per connection, without one every time. */
export type Naming = 'named' | 'unnamed';

interface Way {
  /** Reads one event of the tenant. */
  point(naming: Naming, tenant: string, id: number): Promise<unknown>;
  /** Reads the tenant's first fifty events. */
  list(naming: Naming, tenant: string, id: number): Promise<unknown>;
  end(): Promise<void>;
}

export interface Ratios {
  /** Median of walled over median of raw, from interleaved runs. */
  readonly point: number;
  readonly list: number;
  /** The same of a pool that seals, for the point read. */
  readonly sealed: number;
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
  options: { readonly runs: number; readonly label: string; readonly seal: string; readonly preparedStatements?: boolean },
): Promise<Ratios> {
  const rawWay = raw(url);
  const { seal, ...plain } = options;
  const walledWay = walled(url, plain);
  const sealedWay = walled(url, { ...plain, seal });
  const usualWay = usual(url);
  const pair = (kind: 'point' | 'list', { walled: way, against: other }: { walled: Way; against: Way }) =>
    inTurns(options.runs, (tenant, row, runs) =>
      pairs(
        () => way[kind](naming, tenant, row()),
        () => other[kind](naming, tenant, row()),
        runs,
      ),
    );
  try {
    const point = await pair('point', { walled: walledWay, against: rawWay });
    const sealed = await pair('point', { walled: sealedWay, against: rawWay });
    const list = await pair('list', { walled: walledWay, against: rawWay });
    const transaction = await pair('point', { walled: walledWay, against: usualWay });
    const figure = (name: string, values: readonly number[]): Figure => ({
      name: `${name}, ${naming}${options.label}`,
      value: median(values) * 1_000,
      unit: 'µs',
    });
    return {
      point: point.ratio,
      list: list.ratio,
      sealed: sealed.ratio,
      againstTransaction: 1 / transaction.ratio,
      addedP99Ms: percentile(point.a, 99) - percentile(point.b, 99),
      figures: [
        figure('raw point read', point.b),
        figure('walled point read', point.a),
        figure('sealed point read', sealed.a),
        figure('raw 50-row list', list.b),
        figure('walled 50-row list', list.a),
        figure('begin, set_config, point read, commit', transaction.b),
      ],
    };
  } finally {
    await rawWay.end();
    await walledWay.end();
    await sealedWay.end();
    await usualWay.end();
  }
}

const pointByTenant = 'select * from public.events where tenant_id = $1 and id = $2';
const listByTenant = 'select * from public.events where tenant_id = $1 order by id limit 50';

function config(naming: Naming, name: string, text: string, values: unknown[]): pg.QueryConfig {
  return naming === 'named' ? { name, text, values } : { text, values };
}

const turns = 20;

/**
 * Measures in turns, each for another tenant and inside that tenant's context, as the queries of one request are. Both members of a
 * pair read the same row, and both pay for running inside a context.
 */
async function inTurns(runs: number, measure: (tenant: string, row: () => number, runs: number) => Promise<Pairs>): Promise<Pairs> {
  const all: { a: number[]; b: number[] } = { a: [], b: [] };
  for (let turn = 0; turn < turns; turn += 1) {
    const number = ((turn * 389) % tenantCount) + 1;
    let calls = 0;
    // Events of a tenant lie `tenantCount` apart, because projects are dealt out to tenants in turn.
    const row = (): number => number - 1 + tenantCount * (1 + (Math.floor(calls++ / 2) % rowsPerTenant));
    const { a, b } = await run({ tenant: tenantId(number) }, () => measure(tenantId(number), row, Math.ceil(runs / turns)));
    all.a.push(...a);
    all.b.push(...b);
  }
  return { ...all, ratio: median(all.a) / median(all.b) };
}

/** Of the tenant's rows, as many are read in turn; the smallest load has fifty of each tenant. */
const rowsPerTenant = 40;

function raw(url: string): Way {
  const pool = new pg.Pool({ connectionString: url, max: 1 });
  return {
    point: (naming, tenant, id) => pool.query(config(naming, 'point', pointByTenant, [tenant, id])),
    list: (naming, tenant) => pool.query(config(naming, 'list', listByTenant, [tenant])),
    end: () => pool.end(),
  };
}

function walled(url: string, options: { readonly preparedStatements?: boolean; readonly seal?: string }): Way {
  const appUrl = new URL(url);
  appUrl.username = eventsModel.roles.app;
  const pool = createWalledPool({ connectionString: appUrl.toString(), max: 1, seal: options.seal, preparedStatements: options.preparedStatements ?? true });
  return {
    point: (naming, _tenant, id) => pool.query(config(naming, 'point', 'select * from public.events where id = $1', [id])),
    list: (naming) => pool.query(config(naming, 'list', 'select * from public.events order by id limit 50', [])),
    end: () => pool.end(),
  };
}

/** What applications do without a walled pool: a connection of the pool, and four round trips on it. */
function usual(url: string): Way {
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
    point: (naming, tenant, id) => inside(tenant, config(naming, 'point', pointByTenant, [tenant, id])),
    list: (naming, tenant) => inside(tenant, config(naming, 'list', listByTenant, [tenant])),
    end: () => pool.end(),
  };
}
