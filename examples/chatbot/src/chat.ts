import { text } from '@partywall/server';
import { current } from '@partywall/wall';
import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type pg from 'pg';
import { z } from 'zod';

/* No statement here filters by tenant: the wall decides which rows there are. Inserts name it, because the column is the application's own. */

const listMax = 200;
const id = z.coerce.number().int().positive();
const agent = z.object({ id: z.string(), name: z.string(), model: z.string(), isDefault: z.boolean() });
const message = z.object({ id: z.string(), sessionId: z.string(), direction: z.string(), body: z.string() });
const lead = z.object({ id: z.string(), email: z.string(), score: z.number() });
const read = { access: 'member', scope: 'chat:read' } as const;
const write = { access: 'member', scope: 'chat:write' } as const;

export function registerChat(instance: FastifyInstance, pool: Pick<pg.Pool, 'query'>): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.get('/api/agents', { config: read, schema: { operationId: 'listAgents', response: { 200: z.object({ items: z.array(agent) }) } } }, async () => {
    const { rows } = await pool.query<z.output<typeof agent>>(`select id, name, model, is_default as "isDefault" from agents order by id limit ${listMax}`);
    return { items: rows };
  });

  app.get('/api/leads', { config: read, schema: { operationId: 'listLeads', response: { 200: z.object({ items: z.array(lead) }) } } }, async () => {
    const { rows } = await pool.query<z.output<typeof lead>>(`select id, email, score from leads order by score desc, id limit ${listMax}`);
    return { items: rows };
  });

  app.post(
    '/api/messages',
    { config: write, schema: { operationId: 'postMessage', body: z.strictObject({ sessionId: id, body: text(4_000) }), response: { 201: message } } },
    async (request, reply) => {
      const { sessionId, body } = request.body;
      const { rows } = await pool.query<z.output<typeof message>>(
        `insert into channel_messages (tenant_id, session_id, direction, body) values ($1, $2, 'in', $3) returning id, session_id as "sessionId", direction, body`,
        [current().tenant, sessionId, body],
      );
      const [row] = rows;
      if (!row) throw new Error('the insert returned no row');
      return reply.code(201).send(row);
    },
  );
}
