import type { Operation } from '../db/operation.ts';
import { type AuditRecord, type ChainLink, linkColumns, recordOf } from './records.ts';

/** Which records to list; what is left out does not narrow. */
export interface AuditFilter {
  /** Key of a tenant, null for the chain of the platform; undefined for all chains merged by time. */
  readonly tenant?: string | null | undefined;
  /** Id of whoever did it. */
  readonly actor?: string | undefined;
  /** Beginning of the action: `tenant.` is everything that was done to tenants. */
  readonly action?: string | undefined;
  readonly outcome?: AuditRecord['outcome'] | undefined;
  /** First moment, ISO 8601. */
  readonly from?: string | undefined;
  /** First moment that is too late. */
  readonly to?: string | undefined;
  /** Part of the target, in any case. */
  readonly target?: string | undefined;
}

/** Sort key of a record, as `cursorOfRecord` gives it. */
export interface AuditCursor {
  readonly at: string;
  readonly tenant: string;
  readonly seq: number;
}

export function cursorOfRecord({ at, tenantId, seq }: AuditRecord): AuditCursor {
  return { at, tenant: tenantId ?? '', seq };
}

/**
 * Records that the filter lets through, newest first, at most `limit` after the cursor. Each order is that of an index, so that a page costs
 * what it reads: the tenant's, the actor's or the one over all. A target that hardly occurs makes it read on, until the statement timeout.
 */
export async function searchAudit(
  operation: Operation,
  filter: AuditFilter,
  page: { readonly limit: number; readonly after?: AuditCursor | undefined },
): Promise<AuditRecord[]> {
  const values: unknown[] = [];
  const value = (given: unknown): string => `$${values.push(given)}`;
  const conditions = [
    filter.tenant === undefined ? undefined : `r.tenant_id = ${value(filter.tenant ?? '')}`,
    filter.actor === undefined ? undefined : `r.actor_id = ${value(filter.actor)}`,
    filter.action === undefined ? undefined : `r.action like ${value(`${filter.action.replaceAll(/[\\%_]/g, '\\$&')}%`)}`,
    filter.outcome === undefined ? undefined : `r.outcome = ${value(filter.outcome)}`,
    filter.from === undefined ? undefined : `r.at >= ${value(filter.from)}`,
    filter.to === undefined ? undefined : `r.at < ${value(filter.to)}`,
    filter.target === undefined ? undefined : `strpos(lower(r.target), lower(${value(filter.target)})) > 0`,
    page.after === undefined ? undefined : `(r.at, r.tenant_id, r.seq) < (${value(page.after.at)}, ${value(page.after.tenant)}, ${value(page.after.seq)})`,
  ].filter((condition) => condition !== undefined);
  const where = conditions.length === 0 ? '' : `where ${conditions.join(' and ')}`;
  const order = filter.tenant === undefined ? 'r.at desc, r.tenant_id desc, r.seq desc' : 'r.at desc, r.seq desc';
  const { rows } = await operation.database.pool.query<ChainLink>(
    `select ${linkColumns} from partywall_control.audit_records r ${where} order by ${order} limit ${value(page.limit)}`,
    values,
  );
  return rows.map(toRecord);
}

/** A record of the table is one that `append_audit` wrote, or one that somebody wrote past it, which `verifyAudit` finds. */
export function toRecord(link: ChainLink): AuditRecord {
  const record = recordOf(link);
  if (!record) throw new TypeError('a row of the audit log is no audit record');
  return record;
}
