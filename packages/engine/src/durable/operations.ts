import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import type { Actor, Operation } from '../db/operation.ts';
import { microsecondsOf, timeOf } from '../db/time-cursor.ts';
import { PartywallError } from '../errors.ts';

/** Something that takes time, as operators see it: `partywall_control.operations` has it, whoever carries it out. */
export interface LongOperation {
  readonly id: string;
  /** `tenant.erase`. */
  readonly kind: string;
  readonly tenant: string | null;
  readonly state: 'running' | 'done' | 'failed';
  readonly attempt: number;
  /** What it is at, or where it ended. */
  readonly step: string;
  readonly done: number;
  readonly total: number;
  readonly actor: Actor;
  readonly reason: string | null;
  readonly requestId: string | null;
  readonly error: string | null;
  /** What came of it, where its kind says so. */
  readonly result: Readonly<Record<string, unknown>> | null;
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
}

interface OperationRow {
  readonly id: string;
  readonly kind: string;
  readonly tenant_id: string | null;
  readonly state: LongOperation['state'];
  readonly attempt: number;
  readonly step: string;
  readonly done: string;
  readonly total: string;
  readonly actor: Actor;
  readonly reason: string | null;
  readonly request_id: string | null;
  readonly error: string | null;
  readonly result: Readonly<Record<string, unknown>> | null;
  readonly started_at: Date;
  readonly finished_at: Date | null;
}

const columns =
  "o.id, o.kind, o.tenant_id, o.state, o.attempt, o.step, o.done, o.total, o.actor, o.reason, o.request_id, o.error, o.details -> 'result' as result, o.started_at, o.finished_at";
const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export interface BeginInput {
  readonly kind: string;
  /** Null: about none; whoever begins one sees to it that two do not begin at once. */
  readonly tenant: string | null;
  readonly reason?: string | undefined;
  /** What is asked for, where operations of a kind differ by it; kept as `request` of the details. */
  readonly request?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * Records that an operation begins, in the transaction that decides it. Where one of this kind runs for the tenant, that one is meant; where
 * one failed, it goes on from where it was. One that was asked for something else is another: beside one that runs it is refused (23505).
 */
export async function beginOperation(client: pg.ClientBase, operation: Operation, input: BeginInput): Promise<LongOperation> {
  const request = input.request === undefined ? null : JSON.stringify(input.request);
  const { rows } = await client.query<OperationRow>(
    `select ${columns} from partywall_control.operations o where o.kind = $1 and o.tenant_id is not distinct from $2 and o.state <> 'done'
and o.details -> 'request' is not distinct from $3::jsonb order by o.started_at desc limit 1 for update`,
    [input.kind, input.tenant, request],
  );
  const known = rows[0];
  if (known) return known.state === 'running' ? operationOf(known) : restartOperation(client, known.id);
  const inserted = await client.query<OperationRow>(
    `insert into partywall_control.operations as o (id, kind, tenant_id, step, actor, reason, request_id, started_at, changed_at, details)
values ($1, $2, $3, 'waiting', $4, $5, $6, $7, $7, case when $8::jsonb is null then '{}' else jsonb_build_object('request', $8::jsonb) end) returning ${columns}`,
    [
      randomUUID(),
      input.kind,
      input.tenant,
      JSON.stringify(operation.actor),
      input.reason ?? null,
      operation.requestId ?? null,
      operation.database.clock(),
      request,
    ],
  );
  return operationOf(only(inserted.rows, 'begun'));
}

/** Sets a failed operation, or one whose worker gave up, going again. */
export async function restartOperation(client: pg.ClientBase | pg.Pool, id: string): Promise<LongOperation> {
  const { rows } = await client.query<OperationRow>(
    `update partywall_control.operations o set state = 'running', attempt = o.attempt + 1, error = null, finished_at = null, changed_at = now() where o.id = $1 returning ${columns}`,
    [id],
  );
  return operationOf(only(rows, id));
}

/** @throws PartywallError operation_unknown */
export async function readOperation(client: pg.ClientBase | pg.Pool, id: string): Promise<LongOperation> {
  const { rows } = await client.query<OperationRow>(`select ${columns} from partywall_control.operations o where o.id = $1`, [
    uuidPattern.test(id) ? id : null,
  ]);
  return operationOf(only(rows, id));
}

export interface ListOperations {
  readonly state?: LongOperation['state'] | undefined;
  readonly tenant?: string | undefined;
  readonly limit: number;
  /** Start and id of the last operation of the page before. */
  readonly after?: OperationCursor | undefined;
}

export interface OperationCursor {
  /** Microseconds since 1970. */
  readonly at: number;
  readonly id: string;
}

/** Operations, latest first, `limit + 1` of them. */
export async function listOperations(operation: Operation, input: ListOperations): Promise<(LongOperation & { readonly cursor: OperationCursor })[]> {
  const { rows } = await operation.database.pool.query<OperationRow & { at: string }>(
    `select ${columns}, ${microsecondsOf('o.started_at')} as at from partywall_control.operations o
where ($1::text is null or o.state = $1) and ($2::text is null or o.tenant_id = $2) and ($3::bigint is null or (o.started_at, o.id) < (${timeOf('$3')}, $4))
order by o.started_at desc, o.id desc limit $5`,
    [input.state ?? null, input.tenant ?? null, input.after?.at ?? null, input.after?.id ?? null, input.limit + 1],
  );
  return rows.map((row) => ({ ...operationOf(row), cursor: { at: Number(row.at), id: row.id } }));
}

/** Operations that are under way, those that did not move for longest first. */
export async function runningOperations(pool: pg.Pool, limit: number): Promise<LongOperation[]> {
  const { rows } = await pool.query<OperationRow>(
    `select ${columns} from partywall_control.operations o where o.state = 'running' order by o.changed_at limit $1`,
    [limit],
  );
  return rows.map(operationOf);
}

/** What an operation keeps beside its steps. @throws PartywallError operation_unknown */
export async function readDetails(client: pg.ClientBase | pg.Pool, id: string): Promise<Readonly<Record<string, unknown>>> {
  const { rows } = await client.query<OperationRow & { details: Record<string, unknown> }>(
    `select ${columns}, o.details from partywall_control.operations o where o.id = $1`,
    [uuidPattern.test(id) ? id : null],
  );
  only(rows, id);
  return rows[0]?.details ?? {};
}

/** Keeps more beside the steps; a member that is undefined is taken out. */
export async function keepDetails(client: pg.ClientBase | pg.Pool, id: string, details: Readonly<Record<string, unknown>>): Promise<void> {
  const gone = Object.keys(details).filter((name) => details[name] === undefined);
  await client.query('update partywall_control.operations o set details = (o.details - $3::text[]) || $2::jsonb, changed_at = now() where o.id = $1', [
    id,
    JSON.stringify(details),
    gone,
  ]);
}

/** Says what an operation is at; `done` adds to what was done before. */
export async function reportProgress(client: pg.ClientBase | pg.Pool, id: string, progress: { readonly step: string; readonly done?: number }): Promise<void> {
  await client.query('update partywall_control.operations o set step = $2, done = o.done + $3, changed_at = now() where o.id = $1', [
    id,
    progress.step,
    progress.done ?? 0,
  ]);
}

export async function finishOperation(client: pg.ClientBase | pg.Pool, id: string, error?: string): Promise<void> {
  await client.query(
    `update partywall_control.operations o set state = $2, error = $3, finished_at = now(), changed_at = now(), step = case when $2 = 'done' then 'done' else o.step end
where o.id = $1 and o.state = 'running'`,
    [id, error === undefined ? 'done' : 'failed', error ?? null],
  );
}

function operationOf(row: OperationRow): LongOperation {
  return {
    id: row.id,
    kind: row.kind,
    tenant: row.tenant_id,
    state: row.state,
    attempt: row.attempt,
    step: row.step,
    done: Number(row.done),
    total: Number(row.total),
    actor: row.actor,
    reason: row.reason,
    requestId: row.request_id,
    error: row.error,
    result: row.result,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
  };
}

function only(rows: readonly OperationRow[], id: string): OperationRow {
  const row = rows[0];
  if (!row) throw new PartywallError('operation_unknown', `looking for operation ${JSON.stringify(id.slice(0, 100))}: there is none`);
  return row;
}
