import { connect } from '@partywall/engine';
import pg from 'pg';
import { eventsModel, tenantId } from './events-database.ts';

/**
 * How queries under row level security read their table. A read by primary key alone may go by that key: one row is one row, and the
 * planner counts both indexes the same; everything else goes by an index whose condition is the tenant.
 */
export async function tenantIndexPlans(url: string): Promise<readonly { readonly query: string; readonly usesIndex: boolean; readonly plan: string }[]> {
  const appUrl = new URL(url);
  appUrl.username = eventsModel.roles.app;
  const admin = await connect(url, { purpose: 'bench' });
  await admin.query('vacuum analyze public.events');
  await admin.end();
  const client = new pg.Client(appUrl.toString());
  await client.connect();
  try {
    const plans = [];
    const queries = [
      { query: 'select * from public.events where id = 4711', byPrimaryKey: true },
      { query: `select * from public.events where tenant_id = '${tenantId(12)}' and id = 4711`, byPrimaryKey: false },
      { query: 'select * from public.events order by id limit 50', byPrimaryKey: false },
      { query: 'select count(*) from public.events', byPrimaryKey: false },
    ];
    for (const { query, byPrimaryKey } of queries) {
      await client.query('begin');
      await client.query('select partywall.enter($1)', [tenantId(12)]);
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain (costs off) ${query}`);
      await client.query('rollback');
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      const byTenant = /Index Cond: \(.*tenant_id = /.test(plan);
      plans.push({ query, usesIndex: byTenant || (byPrimaryKey && /Index Scan using events_pkey/.test(plan)), plan });
    }
    return plans;
  } finally {
    await client.end();
  }
}
