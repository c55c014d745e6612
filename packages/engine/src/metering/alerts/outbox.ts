import type { ControlDatabase, Operation } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import type { Alert } from './alert.ts';
import type { ChannelKind, Digest } from './route.ts';

/**
 * The outbox of alerts. A delivery is waiting, then delivered or failed. Whoever sends it claims it for a while: it is theirs until then, and
 * afterwards anybody's, so that what a killed process had begun is taken over. It is sent again only where its outcome is not known, and
 * always under its own id, by which the receiver can tell.
 *
 * What concerns one alert reaches a channel in the order it happened: a resolution never overtakes the opening.
 */

/** How long a claim holds; longer than a sender may take. */
export const leaseMs = 60_000;
const attemptsMax = 12;
const backoffFirstMs = 5_000;
const backoffMaxMs = 15 * 60_000;
const failureCharactersMax = 300;

interface ClaimOf<Event extends string, Payload> {
  readonly id: string;
  /** Proof of the claim. */
  readonly lease: string;
  /** Counted from 1. */
  readonly attempt: number;
  readonly alertId: string | null;
  readonly createdAt: Date;
  readonly channel: { readonly name: string; readonly kind: ChannelKind; readonly target: Buffer };
  readonly event: Event;
  readonly payload: Payload;
}

/** A delivery that is to be sent now. */
export type Claim = ClaimOf<'opened' | 'escalated' | 'resolved', Alert> | ClaimOf<'digest', Digest> | ClaimOf<'test', { readonly requestedBy: string }>;

/** How sending went. `permanent`: it would go the same way again. */
export type Outcome =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'failed'; readonly reason: string; readonly permanent: boolean; readonly retryAfterMs?: number | undefined };

const claimSql = `with due as materialized (
  select d.id from partywall_control.deliveries d join partywall_control.alert_channels c on c.name = d.channel
  where d.status = 'waiting' and case when $2::uuid is null then d.channel = $4 and d.due_at <= now() and c.enabled else d.id = $2 and d.lease is null end
    and not exists (
      select from partywall_control.deliveries e
      where e.channel = d.channel and e.alert_id = d.alert_id and e.status = 'waiting' and e.seq < d.seq)
  order by d.due_at, d.seq limit $1 for update of d skip locked
)
update partywall_control.deliveries d
set lease = gen_random_uuid(), attempts = d.attempts + 1, due_at = now() + $3 * interval '1 millisecond'
from due, partywall_control.alert_channels c
where d.id = due.id and c.name = d.channel
returning d.id, d.lease, d.attempts as attempt, d.alert_id as "alertId", d.created_at as "createdAt", d.event, d.payload, d.seq,
  jsonb_build_object('name', c.name, 'kind', c.kind) as channel, c.target`;

/** Channels through which something is due. */
export async function dueChannels({ pool }: ControlDatabase): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>(
    `select c.name from partywall_control.alert_channels c
where c.enabled and exists (select from partywall_control.deliveries d where d.channel = c.name and d.status = 'waiting' and d.due_at <= now()) order by c.name`,
  );
  return rows.map(({ name }) => name);
}

/** What is due through a channel, at most `max`; or one delivery, due or not, also where its channel is switched off. */
export type Wanted = { readonly channel: string; readonly max: number } | { readonly id: string };

/**
 * Claims deliveries for as long as `claimMs`. A claim that nobody finishes lapses and counts as an attempt, so that a message that kills its
 * sender is not sent for ever.
 */
export async function claimDeliveries({ pool }: ControlDatabase, wanted: Wanted, claimMs = leaseMs): Promise<Claim[]> {
  type Row = Omit<Claim, 'channel'> & { channel: Omit<Claim['channel'], 'target'>; target: Buffer; seq: string };
  const { rows } = await pool.query<Row>(claimSql, 'id' in wanted ? [1, wanted.id, claimMs, null] : [wanted.max, null, claimMs, wanted.channel]);
  // The update returns rows in no particular order.
  const inOrder = rows.toSorted((a, b) => Number(BigInt(a.seq) - BigInt(b.seq)));
  // Event and payload were written together by `route` and `enqueueTest`.
  return inOrder.map(({ target, seq: _, ...row }) => ({ ...row, channel: { ...row.channel, target } }) as Claim);
}

/** Writes down how a claimed delivery went; false where the claim had lapsed and another process has it. */
export async function finishDelivery({ pool }: ControlDatabase, claim: Pick<Claim, 'id' | 'lease' | 'attempt'>, outcome: Outcome): Promise<boolean> {
  const next = nextStep(claim.attempt, outcome, Math.random());
  const { rowCount } = await pool.query(
    `update partywall_control.deliveries set status = $3, failure = $4, lease = null,
  due_at = case when $3 = 'waiting' then now() + $5 * interval '1 millisecond' else due_at end,
  finished_at = case when $3 = 'waiting' then null else now() end
where id = $1 and lease = $2 and status = 'waiting'`,
    [claim.id, claim.lease, next.status, next.failure, next.waitMs],
  );
  return rowCount === 1;
}

export interface NextStep {
  readonly status: 'delivered' | 'failed' | 'waiting';
  readonly failure: string | null;
  readonly waitMs: number;
}

/**
 * What follows an attempt: twice the wait of the one before from 5 seconds up to 15 minutes, of which half is chance, for twelve attempts (about
 * an hour); or as long as the receiver asks, up to the same limit.
 *
 * @param chance from 0 to 1
 */
export function nextStep(attempt: number, outcome: Outcome, chance: number): NextStep {
  if (outcome.kind === 'delivered') return { status: 'delivered', failure: null, waitMs: 0 };
  const reason = outcome.reason.slice(0, failureCharactersMax);
  if (outcome.permanent) return { status: 'failed', failure: reason, waitMs: 0 };
  if (attempt >= attemptsMax) return { status: 'failed', failure: `given up after ${attempt} attempts: ${reason}`, waitMs: 0 };
  const full = Math.min(backoffMaxMs, backoffFirstMs * 2 ** (attempt - 1));
  const waitMs = Math.max((full * (1 + chance)) / 2, Math.min(outcome.retryAfterMs ?? 0, backoffMaxMs));
  return { status: 'waiting', failure: reason, waitMs: Math.round(waitMs) };
}

/** A delivery as lists show it. */
export interface Delivery {
  readonly id: string;
  readonly channel: string;
  readonly alertId: string | null;
  readonly event: Claim['event'];
  readonly status: 'waiting' | 'delivered' | 'failed';
  readonly attempts: number;
  /** Why the last attempt failed. */
  readonly failure: string | null;
  readonly createdAt: string;
  /** When it is tried next, while it waits. */
  readonly dueAt: string | null;
  readonly finishedAt: string | null;
  /** Position in the list of all. */
  readonly seq: string;
}

export interface DeliveryFilter {
  readonly channel?: string | undefined;
  readonly status?: Delivery['status'] | undefined;
  readonly limit: number;
  /** `seq` of the last one of the page before. */
  readonly before?: string | undefined;
}

type DeliveryRow = Omit<Delivery, 'createdAt' | 'dueAt' | 'finishedAt'> & {
  readonly created_at: Date;
  readonly due_at: Date;
  readonly finished_at: Date | null;
};

const deliveryColumns = 'id, channel, alert_id as "alertId", event, status, attempts, failure, created_at, due_at, finished_at, seq';

/** Deliveries, latest first. */
export async function listDeliveries({ database }: Operation, { channel, status, limit, before }: DeliveryFilter): Promise<Delivery[]> {
  const { rows } = await database.pool.query<DeliveryRow>(
    `select ${deliveryColumns} from partywall_control.deliveries
where ($1::text is null or channel = $1) and ($2::text is null or status = $2) and ($3::bigint is null or seq < $3) order by seq desc limit $4`,
    [channel, status, before, limit],
  );
  return rows.map(toDelivery);
}

/** How a delivery stands. @throws PartywallError alert_channel_unknown where its channel was removed meanwhile */
export async function showDelivery({ pool }: ControlDatabase, id: string): Promise<Delivery> {
  const { rows } = await pool.query<DeliveryRow>(`select ${deliveryColumns} from partywall_control.deliveries where id = $1`, [id]);
  if (!rows[0]) throw new PartywallError('alert_channel_unknown', `looking for delivery ${id}`);
  return toDelivery(rows[0]);
}

function toDelivery({ created_at, due_at, finished_at, ...row }: DeliveryRow): Delivery {
  return {
    ...row,
    createdAt: created_at.toISOString(),
    dueAt: row.status === 'waiting' ? due_at.toISOString() : null,
    finishedAt: finished_at?.toISOString() ?? null,
  };
}
