import { type AuditReport, verifyAudit } from '../audit/verify.ts';
import type { Operation } from '../db/operation.ts';
import { signingKey } from '../keyring/signing.ts';
import { listCertificates, verifyCertificate } from './certificate.ts';

/** What an auditor of a control plane asks for, from the live database: who may do what, what was refused, whether the record is whole. */
export interface ControlEvidence {
  readonly audit: AuditReport;
  /** Of the period: what was refused, by action. */
  readonly denials: readonly { readonly action: string; readonly times: number; readonly tenants: number }[];
  /** Of the period: what operators and super-admins did, by action. */
  readonly changes: readonly { readonly action: string; readonly times: number }[];
  readonly superAdmins: readonly { readonly email: string; readonly since: string }[];
  readonly tenants: Readonly<Record<string, number>>;
  readonly holds: number;
  /** Retention by plan, in days. */
  readonly retention: readonly { readonly plan: string; readonly tenants: number; readonly tenantDays: number; readonly auditDays: number }[];
  /** Erasures: certificates, and those of the latest that do not verify. */
  readonly erasures: {
    readonly certificates: number;
    readonly checked: number;
    readonly invalid: readonly { readonly number: number; readonly problem: string }[];
  };
  readonly periodDays: number;
}

const certificatesMax = 1_000;
const actionsMax = 200;
const superAdminsMax = 1_000;

/** Reads and verifies; changes nothing. */
export async function controlEvidence(operation: Operation, { periodDays }: { readonly periodDays: number }): Promise<ControlEvidence> {
  const { pool, clock } = operation.database;
  const since = new Date(clock().getTime() - periodDays * 86_400_000);
  const list = async <Row extends object>(text: string, values: readonly unknown[] = []): Promise<Row[]> => (await pool.query<Row>(text, [...values])).rows;
  const statuses = await list<{ status: string; tenants: number }>(
    'select d.status, count(*)::int as tenants from partywall_control.directory d group by d.status order by d.status',
  );
  const [holds] = await list<{ held: number }>('select count(*)::int as held from partywall_control.directory d where d.hold_reason is not null');
  return {
    audit: await verifyAudit(operation),
    denials: await list(
      `select r.action, sum(coalesce((r.details ->> 'times')::int, 1))::int as times, count(distinct nullif(r.tenant_id, ''))::int as tenants
from partywall_control.audit_records r where r.outcome = 'denied' and r.at >= $1 group by r.action order by 2 desc, 1 limit $2`,
      [since, actionsMax],
    ),
    changes: await list(
      `select r.action, count(*)::int as times from partywall_control.audit_records r where r.outcome = 'done' and r.at >= $1
group by r.action order by 2 desc, 1 limit $2`,
      [since, actionsMax],
    ),
    superAdmins: await list(
      `select u."email" as email, to_char(u."createdAt" at time zone 'UTC', 'YYYY-MM-DD') as since from partywall_people."user" u
where u."superAdmin" order by u."createdAt", u."id" limit $1`,
      [superAdminsMax],
    ),
    tenants: Object.fromEntries(statuses.map(({ status, tenants }) => [status, tenants])),
    holds: holds?.held ?? 0,
    retention: await list(
      `select p.name as plan, count(d.tenant_id)::int as tenants, p.retention_days as "tenantDays", p.audit_retention_days as "auditDays"
from partywall_control.plans p left join partywall_control.directory d on d.plan = p.name group by p.name order by p.name`,
    ),
    erasures: await checkCertificates(operation),
    periodDays,
  };
}

async function checkCertificates(operation: Operation): Promise<ControlEvidence['erasures']> {
  const { rows } = await operation.database.pool.query<{ n: number }>('select count(*)::int as n from partywall_control.certificates');
  const latest = (await listCertificates(operation, { limit: certificatesMax })).slice(0, certificatesMax);
  const invalid: { number: number; problem: string }[] = [];
  for (const certificate of latest) {
    const { problem } = await verifyCertificate(operation, certificate);
    if (problem !== null) invalid.push({ number: certificate.body.number, problem });
  }
  return { certificates: rows[0]?.n ?? 0, checked: latest.length, invalid };
}

/** Whether nothing in it is broken; what was refused is no fault. */
export function isSound(evidence: ControlEvidence): boolean {
  return evidence.audit.sound && evidence.erasures.invalid.length === 0;
}

export interface SignedEvidence {
  /** Exactly what was signed. */
  readonly text: string;
  readonly keyId: string;
  /** Base64, Ed25519. */
  readonly signature: string;
}

/** Signs a report with the key that signs certificates, so that it can be told from an edited one. */
export async function signEvidence(operation: Operation, report: object): Promise<SignedEvidence> {
  const key = await signingKey(operation.database.keyring);
  const text = JSON.stringify(report);
  return { text, keyId: key.id, signature: key.sign(text).toString('base64') };
}
