import { verify } from '@partywall/engine';
import { run } from '@partywall/wall';
import { expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';

const fixture = await controlDatabase();

test('verify finds nothing wrong with what counts, and its attacks leave the counters as they were', async () => {
  for (const name of ['One', 'Two']) {
    const tenant = await fixture.tenant(name);
    await run({ tenant }, async () => {
      await fixture.app.query("insert into users (tenant_id, email, name) values ($1, 'a@example.com', 'a')", [tenant]);
      await fixture.app.query(
        "with c as (insert into customers (tenant_id, name) values ($1, 'x') returning id) insert into notes (customer_id, body) select id, 'n' from c",
        [tenant],
      );
    });
  }
  const counters = async () => (await fixture.control.pool.query('select tenant_id, quota, used from partywall_control.quota_usage() order by 1, 2')).rows;
  const before = await counters();
  const report = await verify({ model: fixture.model, adminUrl: fixture.database.url, appUrl: fixture.urls.app });
  expect(report.findings.map(({ rule, target }) => `${rule} ${target}`)).toEqual([]);
  expect(JSON.stringify(report.residuals)).toContain('may create large objects; the database holds 0');
  expect(await counters()).toEqual(before);
});
