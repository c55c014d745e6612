import type pg from 'pg';
import { checkRollout } from '../../rollout/check.ts';
import { refusedNotReady } from '../../rollout/gates.ts';
import { percentile } from '../../rollout/judge.ts';
import { knowsStages } from '../../rollout/stages.ts';
import { readBuckets } from '../../rollout/status.ts';
import type { AlertRule, Measurement } from './judge.ts';

/** Gates that a rule of their own watches: attempts, connections, errors of context, P99. */
const watchedElsewhere = ['cross_tenant_attempts', 'connections', 'context_errors', 'p99'];

/** What rules say of the roll-out, each in its own window. Nothing where the wall is older than gates. */
export async function measureRollout(client: pg.ClientBase, rules: readonly AlertRule[], now: Date): Promise<Measurement[]> {
  const watching = rules.filter(({ metric }) => metric.startsWith('rollout_'));
  if (watching.length === 0 || !(await knowsStages(client))) return [];
  const measured: Measurement[] = [];
  for (const rule of watching) {
    const since = new Date(now.getTime() - rule.windowMinutes * 60_000);
    const found = await measureRule(client, rule, { since, now });
    measured.push(...found.map((one) => ({ rule: rule.name, tenant: '', ...one })));
  }
  return measured;
}

async function measureRule(
  client: pg.ClientBase,
  { metric, windowMinutes }: AlertRule,
  { since, now }: { since: Date; now: Date },
): Promise<Omit<Measurement, 'rule' | 'tenant'>[]> {
  switch (metric) {
    case 'rollout_context_errors': {
      const value = await refusedNotReady(client, since);
      return [{ subject: '', value, details: { windowMinutes } }];
    }
    case 'rollout_p99': {
      const traffic = (await readBuckets(client, since)).find(({ mode }) => mode === 'enforce');
      return traffic
        ? [{ subject: '', value: percentile(traffic.buckets, 0.99).value, calls: traffic.queries, details: { queries: traffic.queries, windowMinutes } }]
        : [];
    }
    case 'rollout_gates': {
      const { gates } = await checkRollout(client, { now });
      const breached = gates.filter(({ name, verdict }) => verdict === 'breach' && !watchedElsewhere.includes(name));
      return breached.map(({ name, value, bound, unit, reason }) => ({ subject: name, value: 1, details: { value, bound, unit, reason } }));
    }
    case 'rollout_steps': {
      const { rows } = await client.query<{ steps: number; reason: string | null; percent: number | null }>(
        `select count(*)::int as steps, (array_agg(s.reason order by s.at desc))[1] as reason, (array_agg(s.percent order by s.at desc))[1] as percent
from partywall.rollout_stages s where s.automatic and s.at > $1`,
        [since],
      );
      return rows.map(({ steps, ...details }) => ({ subject: '', value: steps, details }));
    }
    default:
      return [];
  }
}
