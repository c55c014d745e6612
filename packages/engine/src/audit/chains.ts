import type pg from 'pg';

/** Every chain that anything tells of, so that neither a head nor all records can be taken away unnoticed. Records by skip scan. */
const chainsSql = `with recursive listed (tenant_id) as (
  (select r.tenant_id from partywall_control.audit_records r order by r.tenant_id limit 1)
  union all
  select (select r.tenant_id from partywall_control.audit_records r where r.tenant_id > l.tenant_id order by r.tenant_id limit 1)
  from listed l where l.tenant_id is not null
)
select tenant_id from listed where tenant_id is not null
union select tenant_id from partywall_control.audit_heads
union select tenant_id from partywall_control.audit_checkpoints
union select tenant_id from partywall_control.audit_anchors`;

/** Tenants that have a chain, '' for the platform's, in no order that means anything. */
export async function listChains(pool: pg.Pool): Promise<string[]> {
  const { rows } = await pool.query<{ tenant_id: string }>(chainsSql);
  return rows.map(({ tenant_id }) => tenant_id);
}
