import { connect } from '@partywall/engine';
import pg from 'pg';
import { eventsModel, tenantId } from './events-database.ts';

/** Whether the plan of a query under row level security reads its table by an index on the tenant. */
export async function tenantIndexPlans(url: string): Promise<readonly { readonly query: string; readonly usesTenantIndex: boolean; readonly plan: string }[]> {
  const appUrl = new URL(url);
  appUrl.username = eventsModel.roles.app;
  const admin = await connect(url, { purpose: 'bench' });
  await admin.query('vacuum analyze public.events');
  await admin.end();
  const client = new pg.Client(appUrl.toString());
  await client.connect();
  try {
    const plans = [];
    for (const query of [
      'select * from public.events where id = 4711',
      'select * from public.events order by id limit 50',
      'select count(*) from public.events',
    ]) {
      await client.query('begin');
      await client.query('select partywall.enter($1)', [tenantId(12)]);
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`explain (costs off) ${query}`);
      await client.query('rollback');
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      plans.push({ query, usesTenantIndex: /Index Cond: \(.*tenant_id = /.test(plan) && !/Seq Scan/.test(plan), plan });
    }
    return plans;
  } finally {
    await client.end();
  }
}
