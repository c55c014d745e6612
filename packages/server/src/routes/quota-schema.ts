import type { QuotaState } from '@partywall/engine';
import { z } from 'zod';
import { time } from '../schemas.ts';

/** Name of a quota in a request. */
export const quotaName = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,39}$/)
  .describe('Lower-case letters, digits and _');

/** A quota as the API shows it. */
export const quotaSchema = z.object({
  quota: z.string(),
  kind: z.enum(['rows', 'bytes', 'calls']),
  usage: z.number().describe('Rows, bytes, or calls of this month'),
  limit: z.number().nullable().describe('In force now; null: none'),
  planLimit: z.number().nullable().describe('Of the plan alone'),
  increase: z.object({ limit: z.number(), until: time, reason: z.string().nullable(), createdAt: time }).nullable(),
  reset: time.nullable().describe('When the usage starts again from nothing, where it does'),
});

export function quotaView(state: QuotaState): z.input<typeof quotaSchema> {
  const { increase } = state;
  return {
    ...state,
    increase: increase && { ...increase, until: increase.until.toISOString(), createdAt: increase.createdAt.toISOString() },
    reset: state.reset?.toISOString() ?? null,
  };
}
