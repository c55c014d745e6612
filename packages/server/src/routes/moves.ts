import {
  awaitOperation,
  cancelMove,
  type Durable,
  finishMove,
  listMoves,
  type Move,
  type MovePreview,
  moveTenant,
  PartywallError,
  type Placements,
  previewMove,
} from '@partywall/engine';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { optionalBody, reason, tenantId, tenantParams, text, time } from '../schemas.ts';
import { operationAnswer, operationSchema } from './tenants-schemas.ts';

const tags = ['moves'];
const listDefault = 50;
const listMax = 500;
const graceDefaultSeconds = 7 * 86_400;
const graceSecondsMax = 365 * 86_400;
/** A tenant's old rows go in batches; a plan counts rows in both databases. */
const handlerTimeout = 3_600_000;

const shared = {
  graceSeconds: z.int().min(0).max(graceSecondsMax).default(graceDefaultSeconds).describe('How long the old rows stay after the switch'),
  dryRun: z.boolean().default(false).describe('Only say what would be moved, and what stands in the way'),
  reason: reason.optional(),
};
const moveBody = z.strictObject({ to: text(40).min(1).describe('Name of the placement'), ...shared });
const backBody = optionalBody(z.strictObject(shared));
const finishBody = optionalBody(z.strictObject({ now: z.boolean().default(false).describe('Before the grace has ended') }));
const cancelBody = optionalBody(z.strictObject({ reason: reason.optional() }));

const moveSchema = z.object({
  id: z.uuid().describe('Of its operation'),
  tenant: z.string(),
  placement: z.string().describe('The database that is not this one'),
  direction: z.enum(['out', 'back']),
  state: z.enum(['copying', 'switching', 'switched', 'finished', 'cancelled']),
  rows: z.int().nullable().describe('That were the same in both databases'),
  sha256: z.string().nullable(),
  startedAt: time,
  switchedAt: time.nullable(),
  removeAfter: time.nullable().describe('From then on the old rows may go'),
  finishedAt: time.nullable(),
});

const planSchema = z.object({
  dryRun: z.literal(true),
  tenant: z.string(),
  placement: z.string(),
  direction: z.enum(['out', 'back']),
  from: z.string(),
  to: z.string(),
  tables: z.array(z.object({ table: z.string(), rows: z.int() })),
  leftInTarget: z.int().describe('Old rows of an earlier stay that go first'),
  refusal: z.string().nullable().describe('Why it would be refused, if it would'),
});

interface MoveOptions {
  readonly durable: Durable;
  readonly placements?: Placements | undefined;
}

/** Moves tenants between this database and others. */
export function registerMoves(instance: FastifyInstance, { durable, placements }: MoveOptions): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const configured = (): Placements => {
    if (placements) return placements;
    throw new PartywallError('placement_unknown', 'looking for placements: this server has none');
  };

  const ways = [
    { url: '/api/admin/tenants/:id/move', operationId: 'moveTenant', summary: 'Move a tenant to another database', body: moveBody },
    { url: '/api/admin/tenants/:id/move/back', operationId: 'moveTenantBack', summary: 'Move a tenant back into this database', body: backBody },
  ];
  for (const { url, operationId, summary, body } of ways) {
    app.post(
      url,
      {
        config: { access: 'super_admin' },
        handlerTimeout,
        schema: {
          tags,
          operationId,
          summary,
          description:
            'Nobody enters the tenant while it moves: fence, copy, compare by hash, switch. 202 with the operation to ask for; with `dryRun` 200 with the plan. Asking ' +
            'again after it failed goes on with the same move.',
          params: tenantParams,
          body,
          response: { 200: planSchema, 202: z.object({ operation: operationSchema }) },
        },
      },
      async (request, reply) => {
        const operation = request.operation();
        const { dryRun, ...asked } = { to: undefined, ...request.body };
        const input = { ...asked, tenant: request.params.id };
        if (dryRun) return reply.code(200).send(planAnswer(await previewMove(operation, configured(), input)));
        const { id } = await moveTenant(operation, durable, { ...input, placements: configured() });
        return reply.code(202).send({ operation: operationAnswer(await awaitOperation(operation, id, { timeoutMs: 0 })) });
      },
    );
  }

  app.post(
    '/api/admin/tenants/:id/move/cancel',
    {
      config: { access: 'super_admin' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'cancelMove',
        summary: 'Give up a move that has not switched: the tenant is let in where it was',
        params: tenantParams,
        body: cancelBody,
        response: { 200: moveSchema },
      },
    },
    async (request) => moveAnswer(await cancelMove(request.operation(), configured(), { tenant: request.params.id, reason: request.body.reason })),
  );

  app.post(
    '/api/admin/tenants/:id/move/finish',
    {
      config: { access: 'super_admin' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'finishMove',
        summary: 'Remove the old rows of a tenant that has moved, once their grace has ended',
        params: tenantParams,
        body: finishBody,
        response: { 200: z.object({ move: moveSchema, rows: z.int().describe('That were removed') }) },
      },
    },
    async (request) => {
      const { move, rows } = await finishMove(request.operation(), configured(), { tenant: request.params.id, now: request.body.now });
      return { move: moveAnswer(move), rows };
    },
  );

  app.get(
    '/api/admin/moves',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'listMoves',
        summary: 'Moves of tenants, latest first',
        querystring: z.strictObject({ tenant: tenantId.optional(), limit: z.coerce.number().int().min(1).max(listMax).default(listDefault) }),
        response: { 200: z.object({ items: z.array(moveSchema) }) },
      },
    },
    async (request) => ({ items: (await listMoves(request.operation(), request.query)).map(moveAnswer) }),
  );
}

function planAnswer({ tables, ...plan }: MovePreview): z.output<typeof planSchema> {
  return { dryRun: true, ...plan, tables: [...tables] };
}

function moveAnswer(move: Move): z.output<typeof moveSchema> {
  const at = (time: Date | null): string | null => time?.toISOString() ?? null;
  const { id, tenant, placement, direction, state, rows, sha256, startedAt, switchedAt, removeAfter, finishedAt } = move;
  return {
    ...{ id, tenant, placement, direction, state, rows, sha256 },
    startedAt: startedAt.toISOString(),
    switchedAt: at(switchedAt),
    removeAfter: at(removeAfter),
    finishedAt: at(finishedAt),
  };
}
