import { createHmac, hkdfSync, randomUUID } from 'node:crypto';
import type { FastifyContextConfig, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type pg from 'pg';
import { problem } from './problem.ts';

/**
 * Idempotency keys: a mutation with the header `Idempotency-Key` is done once within 24 hours, however often it is sent.
 *
 * A key belongs to whoever sends it. It is claimed before the handler runs and holds the answer afterwards. States of a key:
 * claimed → answered (below 400) → expired; claimed → free again, where the request was refused or failed, because what is refused has changed
 * nothing. A claim whose process is lost, or whose request timed out, can be taken over by the same request once its lease is up.
 * The same request while the first one runs is told to come back; another request with the key is a conflict.
 */
export const idempotencyKeyCharactersMax = 200;

const keyPattern = new RegExp(`^[\\x21-\\x7e]{1,${idempotencyKeyCharactersMax}}$`);
/** Longer than any mutation may take: two minutes, of which a handler has one. */
const leaseSeconds = 120;
const keptHours = 24;
/** Answers of mutations are small. One that is larger is not kept, and the request done anew where it is repeated. */
const answerCharactersMax = 1_048_576;
const pruneIntervalMs = 600_000;
const pruneBatchRows = 1_000;
const pruneBatchesMax = 20;

declare module 'fastify' {
  interface FastifyRequest {
    /** The key that this request has claimed and has to settle. */
    idempotencyClaim: Claim | null;
  }
}

interface Claim {
  readonly principal: string;
  readonly key: string;
  readonly claim: string;
}

interface Answer {
  readonly fingerprint: Buffer;
  readonly status: number | null;
  readonly contentType: string | null;
  readonly body: string | null;
}

/** Whether requests to a route are looked at for a key. On a public route nobody in particular could own it. */
export function takesIdempotencyKey(methods: readonly string[], config: FastifyContextConfig = {}): boolean {
  return methods.some(changes) && config.access !== 'public' && config.idempotent !== false;
}

export function registerIdempotency(app: FastifyInstance, pool: pg.Pool, secret: string): void {
  const fingerprintKey = Buffer.from(hkdfSync('sha256', secret, '', 'partywall idempotency', 32));
  app.decorateRequest('idempotencyClaim', null);
  app.addHook('preHandler', async (request, reply) => {
    const key = request.headers['idempotency-key'];
    if (key === undefined || !changes(request.method)) return;
    const answer = await claim(request, keyOf(request, key), pool, fingerprintKey);
    if (answer === undefined) return;
    return replay(reply, answer);
  });
  app.addHook('onError', async (request, _reply, error) => {
    // The handler still runs: its key stays claimed.
    if (error.code === 'FST_ERR_HANDLER_TIMEOUT') request.idempotencyClaim = null;
  });
  app.addHook('onSend', async (request, reply, payload) => {
    const held = request.idempotencyClaim;
    if (held === null) return;
    request.idempotencyClaim = null;
    // What was done is done: a key that cannot be settled must not turn the answer into a failure.
    await settle(pool, held, reply, payload).catch((error: unknown) => request.log.warn({ code: codeOf(error) }, 'an idempotency key could not be settled'));
  });
  pruneRegularly(app, pool);
}

function changes(method: string): boolean {
  return method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS';
}

function keyOf(request: FastifyRequest, header: string | string[]): string {
  const refuse = (message: string): Error => problem('invalid_request', { fields: [{ field: 'headers/idempotency-key', message }] });
  // Taking it silently would be a promise that is not kept.
  if (!takesIdempotencyKey([request.method], request.routeOptions.config)) throw refuse('this route takes none, because its answer is not kept');
  if (typeof header !== 'string' || !keyPattern.test(header)) throw refuse(`1 to ${idempotencyKeyCharactersMax} printable characters without space`);
  return header;
}

const claimSql = `insert into partywall_control.idempotency_keys as k (principal, key, tenant_id, fingerprint, claim, claimed_until, expires_at)
values ($1, $2, $3, $4, $5, now() + make_interval(secs => ${leaseSeconds}), now() + make_interval(hours => ${keptHours}))
on conflict (principal, key) do update set tenant_id = excluded.tenant_id, fingerprint = excluded.fingerprint, claim = excluded.claim,
  claimed_until = excluded.claimed_until, status = null, content_type = null, body = null, expires_at = excluded.expires_at
where k.expires_at < now() or (k.status is null and k.claimed_until < now() and k.fingerprint = excluded.fingerprint)
returning true`;

/** Claims the key for this request, or gives the answer that it holds. */
async function claim(request: FastifyRequest, key: string, pool: pg.Pool, fingerprintKey: Buffer): Promise<Answer | undefined> {
  const principal = `${request.principal?.kind}:${request.principal?.id}`;
  const tenant = request.tenant ?? tenantOfPath(request);
  const fingerprint = createHmac('sha256', fingerprintKey)
    .update(JSON.stringify([request.method, request.url, tenant, request.body ?? null]))
    .digest();
  const held: Claim = { principal, key, claim: randomUUID() };
  const { rowCount } = await pool.query(claimSql, [principal, key, tenant, fingerprint, held.claim]);
  if (rowCount === 1) {
    request.idempotencyClaim = held;
    return undefined;
  }
  const { rows } = await pool.query<Answer>(
    'select fingerprint, status, content_type as "contentType", body from partywall_control.idempotency_keys where principal = $1 and key = $2',
    [principal, key],
  );
  const [row] = rows;
  if (row && !row.fingerprint.equals(fingerprint)) throw problem('idempotency_conflict');
  // Still running, or freed between the two statements.
  if (!row || row.status === null) throw problem('idempotency_running');
  return row;
}

function tenantOfPath({ params, routeOptions }: FastifyRequest): string | null {
  if (!routeOptions.url?.includes('/tenants/:id') || typeof params !== 'object' || params === null) return null;
  const id: unknown = Reflect.get(params, 'id');
  return typeof id === 'string' ? id : null;
}

function replay(reply: FastifyReply, { status, contentType, body }: Answer): FastifyReply {
  if (contentType !== null) reply.type(contentType);
  return reply
    .code(status ?? 200)
    .header('idempotency-replayed', 'true')
    .serializer((kept: string) => kept)
    .send(body ?? undefined);
}

async function settle(pool: pg.Pool, { principal, key, claim: mine }: Claim, reply: FastifyReply, payload: unknown): Promise<void> {
  const body = payload === undefined || payload === null ? '' : payload;
  if (reply.statusCode < 400 && typeof body === 'string' && body.length <= answerCharactersMax) {
    const contentType = reply.getHeader('content-type');
    await pool.query(
      'update partywall_control.idempotency_keys set status = $4, content_type = $5, body = $6 where principal = $1 and key = $2 and claim = $3',
      [principal, key, mine, reply.statusCode, typeof contentType === 'string' ? contentType : null, body],
    );
    return;
  }
  await pool.query('delete from partywall_control.idempotency_keys where principal = $1 and key = $2 and claim = $3', [principal, key, mine]);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

const pruneSql = `delete from partywall_control.idempotency_keys where (principal, key) in
(select k.principal, k.key from partywall_control.idempotency_keys k where k.expires_at < now() limit ${pruneBatchRows} for update skip locked)`;

/** Deletes expired keys, in batches; returns how many. What is left for the next time is due to the limit of batches. */
export async function pruneIdempotencyKeys(pool: pg.Pool): Promise<number> {
  let deleted = 0;
  for (let batch = 0; batch < pruneBatchesMax; batch += 1) {
    const { rowCount } = await pool.query(pruneSql);
    deleted += rowCount ?? 0;
    if ((rowCount ?? 0) < pruneBatchRows) break;
  }
  return deleted;
}

function pruneRegularly(app: FastifyInstance, pool: pg.Pool): void {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<unknown> = Promise.resolve();
  app.addHook('onReady', async () => {
    timer = setInterval(() => {
      running = pruneIdempotencyKeys(pool).catch((error: unknown) => app.log.warn({ code: codeOf(error) }, 'expired idempotency keys could not be deleted'));
    }, pruneIntervalMs);
    timer.unref();
  });
  app.addHook('onClose', async () => {
    clearInterval(timer);
    await running;
  });
}
