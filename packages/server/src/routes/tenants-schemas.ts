import { type Certificate, type LongOperation, type Tenant, tenantStatuses } from '@partywall/engine';
import { z } from 'zod';
import { time } from '../schemas.ts';

/** How tenants, operations and certificates look in answers. */
export const tenantFields = {
  id: z.string().describe('Key of the tenant'),
  name: z.string(),
  contactEmail: z.string().nullable(),
  plan: z.string(),
  status: z.enum(tenantStatuses),
  reason: z.string().nullable().describe('Why it is in that status, where somebody said'),
  statusChangedAt: time,
  retainedUntil: time.nullable().describe('Cancelled or deleted: until then it can be brought back'),
  legalHold: z.object({ reason: z.string(), since: time }).nullable().describe('Keeps it from being deleted'),
  createdAt: time,
};
export const tenantSchema = z.object(tenantFields);
export type TenantAnswer = z.output<typeof tenantSchema>;

export function tenantAnswer(tenant: Tenant): TenantAnswer {
  const { hold } = tenant;
  return {
    id: tenant.id,
    name: tenant.name,
    contactEmail: tenant.contactEmail,
    plan: tenant.plan,
    status: tenant.status,
    reason: tenant.reason,
    statusChangedAt: tenant.statusChangedAt.toISOString(),
    retainedUntil: tenant.retainedUntil?.toISOString() ?? null,
    legalHold: hold && { reason: hold.reason, since: hold.since.toISOString() },
    createdAt: tenant.createdAt.toISOString(),
  };
}

export const operationSchema = z.object({
  id: z.uuid(),
  kind: z.string().describe('tenant.erase'),
  tenantId: z.string().nullable(),
  state: z.enum(['running', 'done', 'failed']),
  step: z.string().describe('What it is at, or where it ended'),
  done: z.int().describe('Rows that are done'),
  total: z.int().describe('Rows that were there when it began'),
  requestedBy: z.object({ kind: z.string(), id: z.string() }),
  reason: z.string().nullable(),
  error: z.string().nullable(),
  result: z.record(z.string(), z.unknown()).nullable().describe('What came of it, where its kind says so: `{ tenant }` of a clone'),
  startedAt: time,
  finishedAt: time.nullable(),
});

export function operationAnswer(operation: LongOperation): z.output<typeof operationSchema> {
  return {
    id: operation.id,
    kind: operation.kind,
    tenantId: operation.tenant,
    state: operation.state,
    step: operation.step,
    done: operation.done,
    total: operation.total,
    requestedBy: { kind: operation.actor.kind, id: operation.actor.id },
    reason: operation.reason,
    error: operation.error,
    result: operation.result,
    startedAt: operation.startedAt.toISOString(),
    finishedAt: operation.finishedAt?.toISOString() ?? null,
  };
}

export const certificateSchema = z.object({
  number: z.int(),
  tenantId: z.string(),
  completedAt: time,
  rows: z.int().describe('Rows of the model that went'),
  text: z.string().describe('The signed JSON text, byte for byte'),
  hash: z.string().describe('SHA-256 of the text, hex; the next certificate names it'),
  keyId: z.string(),
  signature: z.string().describe('Ed25519 over the text, base64'),
});

export function certificateAnswer({ body, text, hash, signature }: Certificate): z.output<typeof certificateSchema> {
  return {
    number: body.number,
    tenantId: body.tenant.id,
    completedAt: body.completedAt,
    rows: body.tables.reduce((sum, { before }) => sum + before, 0),
    text,
    hash,
    keyId: body.keyId,
    signature,
  };
}
