import { once } from 'node:events';
import { Readable } from 'node:stream';
import {
  type AuditFilter,
  type AuditRecord,
  anchorAudit,
  cursorOfRecord,
  exportAudit,
  listAnchors,
  searchAudit,
  testAudit,
  verifyAudit,
} from '@partywall/engine';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { clientGone } from '../client-gone.ts';
import { decodeCursor, pageOf, pageQuery, pageSchema } from '../paging.ts';
import { problem } from '../problem.ts';
import { optionalBody, tenantId, text } from '../schemas.ts';

/** An audit log of any size, over any line. */
const handlerTimeout = 12 * 3_600_000;
/** Verifications at a time: each keeps a connection of the pool. */
const verificationsMax = 2;
/** A client that takes nothing for so long is gone. */
const stallTimeoutMs = 120_000;

const tags = ['audit'];
const ndjson = 'application/x-ndjson';

/** Years that PostgreSQL and JavaScript read alike. */
const moment = z.iso.datetime({ offset: true }).refine((given) => /^(?:19|2\d)\d\d/.test(given), 'a year from 1900 to 2999');
const flag = z.literal('true').optional();
const chain = {
  tenantId: tenantId.optional().describe('Whose chain; a super-admin who names none sees all chains'),
  platform: flag.describe('`true`: only what belongs to no tenant; super-admins alone'),
};
const range = { from: moment.optional().describe('First moment'), to: moment.optional().describe('First moment that is too late') };

const hash = z.string().describe('SHA-256, hex');
const recordSchema = z.object({
  tenantId: z.string().nullable().describe('Null: of the platform'),
  seq: z.int().describe('Number in the chain of the tenant'),
  at: z.string().describe('ISO 8601, UTC, with microseconds'),
  actor: z.object({ kind: z.enum(['user', 'api_key', 'operator', 'system']), id: z.string(), name: z.string().nullable() }),
  address: z.string().nullable().describe('Where the request came from'),
  action: z.string(),
  target: z.string().nullable(),
  outcome: z.enum(['done', 'denied']),
  reason: z.string().nullable(),
  requestId: z.string().nullable(),
  details: z.record(z.string(), z.unknown()),
  previous: hash.describe('Hash of the record before it; zeros before the first'),
  hash,
});

const reportSchema = z.object({
  sound: z.boolean(),
  chains: z.object({ visited: z.int(), of: z.int() }),
  records: z.int(),
  anchors: z.int().describe('Signed anchors that the chains were held against'),
  faults: z.array(
    z.object({
      tenantId: z.string().nullable(),
      seq: z.int().describe('The first record that is not what it must be'),
      kind: z.enum(['missing', 'changed', 'replaced', 'inserted', 'rewritten', 'signature']),
      message: z.string(),
    }),
  ),
  more: z.int().describe('Broken chains beyond those'),
});

const cursorSchema = z.strictObject({ at: moment, tenant: text(200), seq: z.int() });
const anchorsReportSchema = z.object({ chains: z.object({ visited: z.int(), of: z.int() }), signed: z.int() });

export function registerAudit(instance: FastifyInstance): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  let verifications = 0;

  app.get(
    '/api/audit-logs',
    {
      config: { access: 'member', tenant: 'query_or_all', scope: 'audit:read' },
      schema: {
        tags,
        operationId: 'listAuditLogs',
        summary: 'Search the audit log, newest first',
        description: 'A super-admin sees every chain, a tenant admin that of the tenant, a member and an API key what they did themselves.',
        querystring: z.strictObject({
          ...pageQuery.shape,
          ...chain,
          ...range,
          actor: text(400).optional().describe('Id of whoever did it'),
          action: text(400).optional().describe('Beginning of the action, such as `tenant.`'),
          outcome: z.enum(['done', 'denied']).optional(),
          target: text(400).optional().describe('Part of the target'),
        }),
        response: { 200: pageSchema(recordSchema) },
      },
    },
    async (request) => {
      const { limit, cursor, platform, tenantId: _named, ...filter } = request.query;
      const after = decodeCursor(cursorSchema, cursor);
      const records = await searchAudit(request.operation(), { ...filter, ...visible(request, platform, filter.actor) }, { limit: limit + 1, after });
      return pageOf<AuditRecord>(records, limit, cursorOfRecord);
    },
  );

  // Without the types of its answer, which is a stream of lines.
  instance.get<{ Querystring: { platform?: 'true'; from?: string; to?: string } }>(
    '/api/audit-logs/export',
    {
      config: { access: 'tenant_admin', tenant: 'query_or_all' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'exportAuditLogs',
        summary: 'Export the audit log as lines of JSON',
        description: 'Streamed; verifies without the database: `partywall audit verify --file`. A file whose last line is no `end` was cut short.',
        querystring: z.strictObject({ ...chain, ...range }),
        response: { 200: { description: 'Lines of JSON, see docs/guide/audit.md', content: { [ndjson]: { schema: z.string() } } } },
      },
    },
    (request, reply) => {
      const { platform, from, to } = request.query;
      const { tenant } = visible(request, platform);
      return streamed(reply, exportAudit({ ...request.operation(), signal: clientGone(reply) }, { tenant, from, to }), 'audit.jsonl');
    },
  );

  app.post(
    '/api/test/audit',
    {
      config: { access: 'member', tenant: 'query_or_all', scope: 'audit:read' },
      schema: {
        tags,
        operationId: 'testAudit',
        summary: 'Test that audit records are being kept',
        description: 'Writes a record `audit.test`, reads it back and holds it against the one before it.',
        querystring: z.strictObject({ tenantId: chain.tenantId }),
        body: optionalBody(z.strictObject({})),
        response: { 200: z.object({ ok: z.boolean(), seq: z.int(), hash, fault: z.string().nullable() }) },
      },
    },
    (request) => testAudit(request.operation(), request.tenant),
  );

  app.post(
    '/api/admin/audit/verify',
    {
      config: { access: 'super_admin', idempotent: false },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'verifyAudit',
        summary: 'Verify every record of the audit log, or of one chain',
        body: optionalBody(z.strictObject({ tenantId: tenantId.optional(), platform: z.literal(true).optional() })),
        response: { 200: reportSchema },
      },
    },
    async (request, reply) => {
      const { tenantId: tenant, platform } = request.body;
      if (verifications >= verificationsMax) throw problem('try_again');
      verifications += 1;
      try {
        const report = await verifyAudit({ ...request.operation(), signal: clientGone(reply) }, { tenant: platform ? null : tenant });
        return { ...report, faults: [...report.faults] };
      } finally {
        verifications -= 1;
      }
    },
  );

  app.post(
    '/api/admin/audit/anchors',
    {
      config: { access: 'super_admin' },
      schema: {
        tags,
        operationId: 'anchorAudit',
        summary: 'Sign where every chain stands now',
        body: optionalBody(z.strictObject({})),
        response: { 200: anchorsReportSchema },
      },
    },
    (request) => anchorAudit(request.operation()),
  );

  instance.get(
    '/api/admin/audit/anchors',
    {
      config: { access: 'super_admin' },
      handlerTimeout,
      schema: {
        tags,
        operationId: 'listAuditAnchors',
        summary: 'The latest anchor of each chain, to keep elsewhere',
        response: { 200: { description: 'Lines of JSON, for `partywall audit verify --anchors`', content: { [ndjson]: { schema: z.string() } } } },
      },
    },
    (request, reply) => streamed(reply, lines(listAnchors({ ...request.operation(), signal: clientGone(reply) })), 'audit-anchors.jsonl'),
  );
}

/** What the asker may see: a tenant's admin the tenant's chain, a member and an API key what they did themselves in it. */
function visible({ principal, tenant }: FastifyRequest, platform: 'true' | undefined, actor?: string): Pick<AuditFilter, 'tenant' | 'actor'> {
  if (!principal) throw problem('unauthorized');
  if (platform === 'true') {
    if (!principal.superAdmin) throw problem('forbidden');
    return { tenant: null, actor };
  }
  if (principal.superAdmin) return { tenant: tenant ?? undefined, actor };
  if (tenant === null) throw problem('not_found');
  return { tenant, actor: principal.memberships.get(tenant) === 'admin' && principal.kind === 'user' ? actor : principal.id };
}

async function* lines(values: AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const value of values) yield `${JSON.stringify(value)}\n`;
}

/** Sends lines as fast as the client takes them. */
async function streamed(reply: FastifyReply, source: AsyncIterable<string>, file: string): Promise<FastifyReply> {
  const document = Readable.from(source, { objectMode: false });
  // What can be refused fails before the first line, and still has a status.
  await Promise.race([once(document, 'readable'), once(document, 'end')]);
  reply.raw.setTimeout(stallTimeoutMs, () => {
    if (reply.raw.writableNeedDrain) reply.raw.destroy();
  });
  return reply.type(ndjson).header('content-disposition', `attachment; filename="${file}"`).send(document);
}
