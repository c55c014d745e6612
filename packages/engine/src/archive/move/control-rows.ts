import type pg from 'pg';
import type { Operation } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';

/**
 * What becomes of the control plane's own rows of a tenant that moves. Every table with the column `tenant_id` is here.
 *
 * - `follows`: what somebody has decided about the tenant holds wherever it lives, so it takes the place of what the new home has.
 * - `stays`: evidence, measurements and recovery points are of the database that they were made in; what a trigger makes, the new home makes itself.
 */
export const controlTables: Readonly<Record<string, 'follows' | 'stays'>> = {
  quota_increases: 'follows',
  rate_overrides: 'follows',
  // What is left of a month's calls does not grow by a move.
  api_calls: 'follows',
  alert_overrides: 'follows',
  // Name, contact, plan and status follow with the directory's own row.
  directory: 'stays',
  usage_counters: 'stays',
  usage_moves: 'stays',
  usage_samples: 'stays',
  request_minutes: 'stays',
  request_hours: 'stays',
  active_users: 'stays',
  slow_queries: 'stays',
  alerts: 'stays',
  audit_heads: 'stays',
  audit_records: 'stays',
  audit_anchors: 'stays',
  audit_checkpoints: 'stays',
  certificates: 'stays',
  operations: 'stays',
  idempotency_keys: 'stays',
  recovery_points: 'stays',
  proved_points: 'stays',
  moves: 'stays',
};

const following = Object.keys(controlTables).filter((table) => controlTables[table] === 'follows');

/** An override of a rule that the other database does not have would override nothing. */
const only: Readonly<Record<string, string>> = {
  alert_overrides: 'where exists (select from partywall_control.alert_rules k where k.name = r.rule)',
};

/** Rows by table, as JSON: a few for each quota, rule and month. */
export type ControlRows = ReadonlyMap<string, string>;

export async function readControlRows({ database }: Operation, tenant: string): Promise<ControlRows> {
  const found = new Map<string, string>();
  for (const table of following) {
    const { rows } = await database.pool.query<{ text: string }>(
      `select coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(t)), '[]')::text as text from partywall_control.${ident(table)} t where t.tenant_id = $1`,
      [tenant],
    );
    found.set(table, rows[0]?.text ?? '[]');
  }
  return found;
}

/** Puts them in the place of what is there, in the transaction that brings the tenant. */
export async function writeControlRows(client: pg.ClientBase, tenant: string, control: ControlRows): Promise<void> {
  for (const table of following) {
    const text = control.get(table);
    if (text === undefined) continue;
    const name = `partywall_control.${ident(table)}`;
    await client.query(`delete from ${name} t where t.tenant_id = $1`, [tenant]);
    await client.query(`insert into ${name} select r.* from pg_catalog.jsonb_populate_recordset(null::${name}, $1::jsonb) r ${only[table] ?? ''}`, [text]);
  }
}
