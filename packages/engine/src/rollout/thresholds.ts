import type pg from 'pg';
import { appendAuditIfInstalled } from '../audit/append-if-installed.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { PartywallError } from '../errors.ts';

interface ThresholdRule {
  readonly value: number;
  readonly unit: string;
  readonly least: number;
  readonly most: number;
  readonly what: string;
}

/** What each threshold is where nobody has changed it: the first seven are bounds of gates. */
export const thresholdRules = {
  error_rate: { value: 1, unit: 'points', least: 0, most: 100, what: 'failed statements in a hundred, more than while observing' },
  added_p99: { value: 5, unit: 'ms', least: 0, most: 60_000, what: 'P99 of statements, more than while observing; must stay below' },
  p99: { value: 200, unit: 'ms', least: 0, most: 60_000, what: 'P99 of enforced statements' },
  context_errors: { value: 10, unit: '/h', least: 0, most: 1_000_000, what: 'statements refused because the application is not ready' },
  observed_refusals: { value: 10, unit: '/h', least: 0, most: 1_000_000, what: 'what the wall would refuse of those that are observed' },
  cross_tenant_attempts: { value: 0, unit: 'attempts', least: 0, most: 1_000_000, what: 'attempts on other tenants in the window' },
  connections: { value: 80, unit: '%', least: 1, most: 100, what: 'connections of those that the server allows' },
  min_queries: { value: 1_000, unit: 'statements', least: 1, most: 1_000_000_000, what: 'fewer in a mode are too few to judge by' },
  window_minutes: { value: 60, unit: 'min', least: 1, most: 1_440, what: 'how far back the gates look, never past the last change of stage' },
  step_minutes: { value: 10, unit: 'min', least: 1, most: 1_440, what: 'least time between two automatic steps back' },
  watch_hours: { value: 48, unit: 'h', least: 0, most: 8_760, what: 'after so long of full enforcement nothing steps back by itself' },
  step_back: { value: 1, unit: '', least: 0, most: 1, what: '0: a breach only alerts' },
} as const satisfies Record<string, ThresholdRule>;

export type ThresholdName = keyof typeof thresholdRules;
export type Thresholds = Readonly<Record<ThresholdName, number>>;

export const thresholdNames = Object.keys(thresholdRules) as ThresholdName[]; // the keys of a constant

export const defaultThresholds: Thresholds = withRows([]);

/** Thresholds as they hold: what an operator has set, else the default. */
export async function readThresholds(client: pg.ClientBase | pg.Pool): Promise<Thresholds> {
  const { rows } = await client.query<{ name: string; value: number }>('select name, value from partywall.rollout_thresholds');
  return withRows(rows);
}

/** @throws PartywallError input_invalid (no such threshold, a number out of its range) */
export async function setThreshold(operation: Operation, input: { readonly name: string; readonly value: number }): Promise<Thresholds> {
  const name = thresholdNames.find((known) => known === input.name);
  if (!name) throw new PartywallError('input_invalid', `setting threshold ${JSON.stringify(input.name)}: known are ${thresholdNames.join(', ')}`);
  const { least, most, unit } = thresholdRules[name];
  if (!(input.value >= least && input.value <= most)) {
    throw new PartywallError('input_invalid', `setting threshold ${name} to ${input.value}: a number from ${least} to ${most}${unit === '' ? '' : ` ${unit}`}`);
  }
  const { actor, database } = operation;
  return transaction(database.pool, async (client) => {
    await client.query('lock table partywall.rollout_thresholds in share row exclusive mode');
    const before = (await readThresholds(client))[name];
    await client.query(
      `insert into partywall.rollout_thresholds (name, value, changed_by) values ($1, $2, $3)
on conflict (name) do update set value = excluded.value, changed_at = now(), changed_by = excluded.changed_by`,
      [name, input.value, actor.name ?? actor.id],
    );
    await appendAuditIfInstalled(client, operation, {
      tenant: null,
      action: 'rollout.threshold',
      target: `rollout_threshold:${name}`,
      details: { before, after: input.value },
    });
    return readThresholds(client);
  });
}

function withRows(rows: readonly { readonly name: string; readonly value: number }[]): Thresholds {
  const own = new Map(rows.map(({ name, value }) => [name, value]));
  const entries = thresholdNames.map((name) => [name, own.get(name) ?? thresholdRules[name].value] as const);
  return Object.fromEntries(entries) as Thresholds; // one entry for each name
}
