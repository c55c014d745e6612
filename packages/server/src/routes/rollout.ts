import { checkRollout, gateNames, thresholdRules } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { time } from '../schemas.ts';

const gateSchema = z.object({
  name: z.enum(gateNames),
  verdict: z.enum(['green', 'breach', 'not_enough', 'idle']),
  value: z.number().nullable().describe('Null where nothing could be measured'),
  bound: z.number(),
  unit: z.string(),
  reason: z.string(),
  stepsBack: z.boolean().describe('Whether a breach takes a step back; else it only alerts'),
});

const stageSchema = z.object({
  at: time,
  percent: z.number(),
  automatic: z.boolean().describe('A step that the gates took'),
  reason: z.string().nullable(),
});

const answerSchema = z.object({
  verdict: z.enum(['green', 'breach', 'not_enough']),
  stage: z.number().describe('Percentage of the tenants that is enforced: 0 observe, 100 enforce'),
  stageSince: time.nullable(),
  since: time.describe('Of what the gates were judged by'),
  gates: z.array(gateSchema),
  thresholds: z.object(Object.fromEntries(Object.entries(thresholdRules).map(([name, { what }]) => [name, z.number().describe(what)]))),
  stages: z.array(stageSchema).describe('Latest first'),
});

/** The gates of the roll-out as they stand. */
export function registerRollout(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    '/api/admin/rollout',
    {
      config: { access: 'super_admin' },
      schema: { tags: ['operations'], operationId: 'showRollout', summary: 'The gates of the roll-out, judged now', response: { 200: answerSchema } },
    },
    async (request) => {
      const { database } = request.operation();
      const client = await database.pool.connect();
      try {
        const { verdict, stage, stageSince, since, gates, thresholds, stages } = await checkRollout(client, { now: database.clock() });
        return {
          verdict,
          stage,
          stageSince: stageSince?.toISOString() ?? null,
          since: since.toISOString(),
          gates: [...gates],
          thresholds,
          stages: stages.map(({ at, ...one }) => ({ ...one, at: at.toISOString() })),
        };
      } finally {
        client.release();
      }
    },
  );
}
