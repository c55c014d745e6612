import { createHash, timingSafeEqual } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { boundedServer } from '@partywall/server';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { z } from 'zod';

const listMax = 200;
const posted = z.strictObject({ sessionId: z.coerce.number().int().positive(), body: z.string().min(1).max(4_000) });

/**
 * The platform as it was before the wall: nothing but these statements keeps tenants apart, so every one names the tenant, and the one that forgets it
 * shows everybody's rows.
 *
 * @param tokens bearer token of each tenant
 */
export function createSqliteApp(database: DatabaseSync, tokens: ReadonlyMap<string, string>): FastifyInstance {
  const app = fastify({ ...boundedServer, logger: false, forceCloseConnections: true });
  const all = (sql: string, tenant: string): unknown => ({ items: database.prepare(`${sql} limit ${listMax}`).all(tenant) });

  app.get('/api/health', () => ({ status: 'ok' }));

  app.get('/api/agents', (request, reply) => {
    const tenant = tenantOf(request, tokens);
    if (tenant === undefined) return reply.code(401).send({ title: 'Unauthorized' });
    return all('select cast(id as text) as id, name, model from agents where tenant_id = ? order by agents.id', tenant);
  });

  app.get('/api/leads', (request, reply) => {
    const tenant = tenantOf(request, tokens);
    if (tenant === undefined) return reply.code(401).send({ title: 'Unauthorized' });
    return all('select cast(id as text) as id, email, score from leads where tenant_id = ? order by score desc, leads.id', tenant);
  });

  app.post('/api/messages', (request, reply) => {
    const tenant = tenantOf(request, tokens);
    if (tenant === undefined) return reply.code(401).send({ title: 'Unauthorized' });
    const parsed = posted.safeParse(request.body);
    if (!parsed.success) return reply.code(400).send({ title: 'Bad Request' });
    const { sessionId, body } = parsed.data;
    // The foreign key alone would take a session of another tenant.
    const statement = database.prepare(
      `insert into channel_messages (tenant_id, session_id, direction, body, sent_at) select tenant_id, id, 'in', ?, datetime('now') from channel_sessions
      where id = ? and tenant_id = ? returning cast(id as text) as id, cast(session_id as text) as "sessionId", direction, body`,
    );
    const row = statement.get(body, sessionId, tenant);
    return row ? reply.code(201).send(row) : reply.code(404).send({ title: 'Not Found' });
  });

  return app;
}

function tenantOf({ headers }: FastifyRequest, tokens: ReadonlyMap<string, string>): string | undefined {
  const given = hash(headers.authorization ?? '');
  return [...tokens].find(([, token]) => timingSafeEqual(hash(`Bearer ${token}`), given))?.[0];
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
