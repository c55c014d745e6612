import { changeRollout, evaluateAlerts, inProcess, listAlerts, setAlertChannel, works } from '@partywall/engine';
import { latencyBucketsMs } from '@partywall/wall';
import { beforeEach, expect, test } from 'vitest';
import { schedules } from '../src/schedules.ts';
import { serverFixture } from './server.ts';

const fixture = await serverFixture();
const { server, database, control } = fixture;
const tenant = await fixture.tenant('Alder');
const superAdmin = await fixture.person({ superAdmin: true });
const admin = await fixture.person({ memberships: { [tenant]: 'admin' } });
const operation = { database: control, actor: { kind: 'operator', id: 'kari' } } as const;

/** A canary that has gone on for half an hour, and what its processes report. */
async function canary({ refused = 0, slow = false }: { refused?: number; slow?: boolean }): Promise<void> {
  const client = await control.pool.connect();
  for (const change of [
    { scope: 'all', mode: 'observe' },
    { scope: 'percent', percent: 10 },
  ] as const) {
    await changeRollout(client, { model: control.model, change, actor: operation.actor });
  }
  client.release();
  await database.query("update partywall.rollout_stages set at = at - interval '30 minutes'");
  const buckets = Array.from({ length: latencyBucketsMs.length + 1 }, () => 0);
  buckets[slow ? latencyBucketsMs.indexOf(500) : 5] = 5_000;
  for (const mode of ['enforce', 'observe']) {
    await database.query(
      "insert into partywall.rollout_traffic (minute, mode, queries, errors, buckets) values (date_trunc('minute', now()) - interval '5 minutes', $1, 5000, 0, $2)",
      [mode, buckets],
    );
  }
  await database.query(
    "insert into partywall.rollout_counts (minute, mode, kind, count) values (date_trunc('minute', now()) - interval '5 minutes', 'enforce', 'tenant_context', $1)",
    [refused],
  );
}

const guard = async () => {
  const durable = inProcess(control, works);
  await schedules(control)
    .find(({ name }) => name === 'rollout.guard')
    ?.run(durable);
  await durable.stop();
};
const modes = async () => (await database.query('select scope || target as mode from partywall.rollout order by 1')).rows.map(({ mode }) => mode);
const opened = async () => (await listAlerts(operation, { limit: 50 })).map(({ rule }) => rule).sort();
const told = async () =>
  (await database.query("select d.channel, d.payload ->> 'rule' as rule from partywall_control.deliveries d order by 1, 2")).rows.map(
    ({ channel, rule }) => `${channel}: ${rule}`,
  );

beforeEach(async () => {
  await database.query('truncate partywall.rollout, partywall.rollout_stages, partywall.rollout_traffic, partywall.rollout_counts, partywall.attempts');
  await database.query('truncate partywall_control.alerts, partywall_control.deliveries, partywall_control.alert_channels cascade');
  await database.query("update partywall_control.alert_rules set enabled = name like 'rollout_%' or name = 'cross_tenant'");
});

test('the schedule steps back where a gate is breached, and says so', async () => {
  await canary({ refused: 11 });
  await guard();
  expect(await modes()).toEqual(['all']);
  await evaluateAlerts(operation);
  expect(await opened()).toEqual(['rollout_context_errors', 'rollout_step_back']);
  const answer = (await server.inject({ url: '/api/admin/rollout', headers: superAdmin.headers })).json();
  expect(answer).toMatchObject({
    stage: 0,
    stages: [{ percent: 0, automatic: true, reason: expect.stringContaining('context_errors 11') }, { percent: 10 }, { percent: 0 }],
  });
  await guard();
  expect((await database.query('select from partywall.rollout_stages where automatic')).rowCount).toBe(1);
});

test('each kind of trouble goes to a channel of its own: errors of context, attempts, slow statements', async () => {
  for (const [name, rule] of [
    ['chat', 'rollout_p99'],
    ['pager', 'rollout_context_errors'],
    ['security', 'cross_tenant'],
  ] as const) {
    await setAlertChannel(operation, {
      name,
      kind: 'email',

      severities: ['warning', 'critical'],
      rules: [rule],
      tenants: null,
      enabled: true,
      target: { kind: 'email', to: [`${name}@example.com`] },
    });
  }
  await canary({ refused: 11, slow: true });
  await database.query("insert into partywall.attempts (at, last_at, times, kind, source) values (now(), now(), 1, 'tenant', '198.51.100.7')");
  await evaluateAlerts(operation);
  expect(await told()).toEqual(['chat: rollout_p99', 'pager: rollout_context_errors', 'security: cross_tenant']);
});

test('ten errors of context in an hour are none, and nothing is told of a roll-out that goes well', async () => {
  await canary({ refused: 10 });
  await guard();
  await evaluateAlerts(operation);
  expect([await opened(), await modes()]).toEqual([[], ['all', 'percent10']]);
  const answer = (await server.inject({ url: '/api/admin/rollout', headers: superAdmin.headers })).json();
  expect(answer).toMatchObject({ verdict: 'green', stage: 10, thresholds: { context_errors: 10 } });
});

test('nobody but super-admins sees the gates', async () => {
  expect((await server.inject({ url: '/api/admin/rollout', headers: admin.headers })).statusCode).toBe(403);
  expect((await server.inject('/api/admin/rollout')).statusCode).toBe(401);
});
