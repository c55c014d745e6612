import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Actor } from '../db/operation.ts';

/** A record of the audit log, as lists and exports show it. */
export interface AuditRecord {
  /** Null in the chain of the platform. */
  readonly tenantId: string | null;
  /** Number in its chain, from 1. */
  readonly seq: number;
  /** ISO 8601 in UTC, with microseconds. */
  readonly at: string;
  readonly actor: { readonly kind: Actor['kind']; readonly id: string; readonly name: string | null };
  readonly address: string | null;
  readonly action: string;
  readonly target: string | null;
  readonly outcome: 'done' | 'denied';
  readonly reason: string | null;
  readonly requestId: string | null;
  readonly details: Readonly<Record<string, unknown>>;
  /** SHA-256 of the record before it, hex; zeros before the first. */
  readonly previous: string;
  /** SHA-256 over the bytes of `previous` and the text that the record is kept as. */
  readonly hash: string;
}

/** A record as the chain has it: the text that its hash covers, and both hashes in hex. */
export interface ChainLink {
  readonly text: string;
  readonly previous: string;
  readonly hash: string;
}

/** Tables of the audit log, in `partywall_control`. */
export const auditTables = ['audit_heads', 'audit_records', 'audit_anchors', 'audit_checkpoints'].map((table) => `partywall_control.${table}`);

/** The hash before the first record of a chain. */
export const noHash = '0'.repeat(64);

/**
 * Columns of a `ChainLink`, from `partywall_control.audit_records r`. The text is built here and not by `partywall_control.audit_text`, which
 * says the same: who can replace a function of the database must not decide what verification sees.
 */
export const linkColumns = `jsonb_build_array('partywall.audit.1', r.tenant_id, r.seq, (extract(epoch from r.at) * 1000000)::bigint, r.actor_kind, r.actor_id,
  r.actor_name, r.address, r.action, r.target, r.outcome, r.reason, r.request_id, r.details)::text as text,
  encode(r.previous, 'hex') as previous, encode(r.hash, 'hex') as hash`;

const text = z.string().nullable();

const hashedText = z.tuple([
  z.literal('partywall.audit.1'),
  z.string(),
  z.number().int(),
  z.number().int(),
  z.enum(['user', 'api_key', 'operator', 'system']),
  z.string(),
  text,
  text,
  z.string(),
  text,
  z.enum(['done', 'denied']),
  text,
  text,
  z.record(z.string(), z.unknown()),
]);

/** The record that a link keeps; undefined where its text is none. */
export function recordOf({ text: written, previous, hash }: ChainLink): AuditRecord | undefined {
  const parsed = hashedText.safeParse(parseJson(written));
  if (!parsed.success) return undefined;
  const [, tenant, seq, micros, kind, id, name, address, action, target, outcome, reason, requestId, details] = parsed.data;
  return {
    tenantId: tenant === '' ? null : tenant,
    seq,
    at: isoOfMicros(micros),
    actor: { kind, id, name },
    address,
    action,
    target,
    outcome,
    reason,
    requestId,
    details,
    previous,
    hash,
  };
}

/** The hash that a link must have. */
export function hashOf({ text: written, previous }: Pick<ChainLink, 'text' | 'previous'>): string {
  return createHash('sha256').update(previous, 'hex').update(written, 'utf8').digest('hex');
}

function isoOfMicros(micros: number): string {
  const seconds = Math.floor(micros / 1_000_000);
  const fraction = String(micros - seconds * 1_000_000).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, -5)}.${fraction}Z`;
}

function parseJson(written: string): unknown {
  try {
    return JSON.parse(written);
  } catch {
    return undefined;
  }
}
