import pg from 'pg';
import { wallErrorOf } from '../clients/wall-error-of.ts';
import type { WallErrorCode } from '../errors.ts';

/** What an error of a visit means. `retry`: another attempt may go well. The reason names the class: messages may hold a tenant's data. */
export type AttemptOutcome =
  | { readonly kind: 'skipped'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string; readonly retry: boolean };

/** The tenant's state changed since the run began: nobody's mistake, and no other attempt helps. */
const skips: Partial<Record<WallErrorCode, string>> = {
  tenant_suspended: 'suspended',
  tenant_cancelled: 'cancelled',
  tenant_read_only: 'read-only',
  unknown_tenant: 'gone',
  tenant_placed_elsewhere: 'placed elsewhere',
};

/** Lost or refused connections, serialization, deadlocks, locks, shutdown, lack of resources. */
const passing = /^(?:08|53)|^(?:40001|40P01|55P03|57P0[123]|ECONN\w+|EPIPE|ETIMEDOUT)$/;
const causesMax = 5;

export function attemptOutcome(error: unknown): AttemptOutcome {
  const refused = wallErrorOf(error);
  const skip = refused && skips[refused.code];
  if (skip) return { kind: 'skipped', reason: skip };
  if (refused) return { kind: 'failed', reason: refused.code, retry: false };
  const code = codeOf(error);
  const lost = error instanceof Error && /^Connection terminated|^timeout exceeded when trying to connect/.test(error.message);
  return { kind: 'failed', reason: [nameOf(error), code].filter(Boolean).join(' '), retry: lost || (code !== undefined && passing.test(code)) };
}

function codeOf(error: unknown): string | undefined {
  let cause = error;
  for (let depth = 0; depth < causesMax && cause instanceof Error; depth += 1) {
    if ('code' in cause && typeof cause.code === 'string') return cause.code;
    cause = cause.cause;
  }
  return undefined;
}

function nameOf(error: unknown): string {
  if (error instanceof pg.DatabaseError) return 'database error';
  return error instanceof Error ? error.name : typeof error;
}
