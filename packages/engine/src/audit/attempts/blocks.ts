import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { appendAudit } from '../append.ts';
import { appendAuditIfInstalled } from '../append-if-installed.ts';
import { withoutFullMask } from './attempts.ts';

/** A source that is, or was, refused by the middlewares of the application. */
export interface Block {
  readonly source: string;
  readonly blockedAt: string;
  readonly until: string;
  readonly active: boolean;
  /** Attempts that led to it; 0 where an operator blocked it. */
  readonly attempts: number;
  /** Operator; null where the threshold was passed. */
  readonly blockedBy: string | null;
  readonly reason: string | null;
}

interface Row {
  readonly source: string;
  readonly blocked_at: Date;
  readonly until: Date;
  readonly active: boolean;
  readonly attempts: string;
  readonly blocked_by: string | null;
  readonly reason: string | null;
}

const columns = `b.source::text as source, b.blocked_at, b.until, b.until > now() as active, b.attempts, b.blocked_by, b.reason`;

/** Larger networks are half of a country. */
const shortestMask = { 4: 8, 6: 32 } as const;
/** Blocks that one record of the audit log names. */
const namedMax = 100;

/** Blocks in force, and with `ended` those that ended too, latest first. */
export async function listBlocks(
  { database }: Pick<Operation, 'database'>,
  { ended = false, limit }: { readonly ended?: boolean | undefined; readonly limit: number },
): Promise<Block[]> {
  const { rows } = await database.pool.query<Row>(
    `select ${columns} from partywall.attempt_blocks b where $1 or b.until > now() order by b.blocked_at desc, b.source limit $2`,
    [ended, limit],
  );
  return rows.map(toBlock);
}

/**
 * Refuses all requests of an address or network for a time, or for another time than it already is. Every process of the application holds it within seconds.
 *
 * @throws PartywallError input_invalid (no address, or so large a network that it would keep out everybody)
 */
export async function blockSource(
  operation: Operation,
  input: { readonly source: string; readonly minutes: number; readonly reason?: string | undefined },
): Promise<Block> {
  const { actor, database } = operation;
  return transaction(database.pool, async (client) => {
    const source = await networkOf(client, input.source);
    const { rows } = await client.query<Row>(
      `insert into partywall.attempt_blocks as b (source, blocked_at, until, attempts, blocked_by, reason, told)
values ($1, now(), now() + make_interval(mins => $2), 0, $3, $4, true)
on conflict (source) do update set blocked_at = excluded.blocked_at, until = excluded.until, attempts = 0, blocked_by = excluded.blocked_by, reason = excluded.reason, told = true
returning ${columns}`,
      [source, input.minutes, actor.name ?? actor.id, input.reason ?? null],
    );
    const [row] = rows;
    if (!row) throw new Error('a statement that returns one row returned none');
    await appendAuditIfInstalled(client, operation, {
      tenant: null,
      action: 'source.block',
      target: `source:${source}`,
      reason: input.reason,
      details: { until: row.until.toISOString() },
    });
    return toBlock(row);
  });
}

/**
 * Ends a block. What the source did before counts no more.
 *
 * @returns undefined where it is not blocked
 * @throws PartywallError input_invalid (no address, or one inside a network that is blocked as a whole)
 */
export async function unblockSource(
  operation: Operation,
  input: { readonly source: string; readonly reason?: string | undefined },
): Promise<Block | undefined> {
  return transaction(operation.database.pool, async (client) => {
    const source = await networkOf(client, input.source);
    const { rows } = await client.query<Row>(
      `update partywall.attempt_blocks b set until = now(), told = true where b.source = $1 and b.until > now() returning ${columns}`,
      [source],
    );
    const [row] = rows;
    if (row) {
      await appendAuditIfInstalled(client, operation, { tenant: null, action: 'source.unblock', target: `source:${source}`, reason: input.reason });
      return toBlock(row);
    }
    const around = await client.query<{ source: string }>(
      'select b.source from partywall.attempt_blocks b where b.source >> $1::inet and b.until > now() limit 1',
      [source],
    );
    const [outer] = around.rows;
    if (outer) throw new PartywallError('input_invalid', `unblocking ${source}: it is part of ${outer.source}, which is blocked as a whole`);
    return undefined;
  });
}

/**
 * Records blocks that the application's middlewares made since it was last asked, in the caller's transaction. The database that blocks has no audit log of
 * its own to write to. Those of a session that has not committed yet come with the next call.
 */
export async function auditNewBlocks(client: pg.ClientBase, operation: Operation): Promise<number> {
  const { rows: found } = await client.query<{ there: boolean }>("select to_regclass('partywall.attempt_blocks') is not null as there");
  if (!found[0]?.there) return 0;
  const { rows } = await client.query<Row>(
    `update partywall.attempt_blocks b set told = true where b.source in (
  select n.source from partywall.attempt_blocks n where not n.told order by n.blocked_at limit $1 for update skip locked) returning ${columns}`,
    [namedMax],
  );
  if (rows.length === 0) return 0;
  const blocks = rows.map(toBlock).map(({ source, attempts, until }) => ({ source, attempts, until }));
  // The threshold blocked them, whoever asks now.
  const bySystem: Operation = { ...operation, actor: { kind: 'system', id: 'attempts' } };
  await appendAudit(client, bySystem, { tenant: null, action: 'source.blocked', details: { blocks } });
  return rows.length;
}

/** The network that a text names, as it is stored: one address of IPv6 stands for its /64, as it does when attempts are recorded. */
async function networkOf(client: pg.ClientBase, text: string): Promise<string> {
  try {
    const { rows } = await client.query<{ source: string; family: 4 | 6; mask: number }>(
      `select network(s.given)::text as source, family(s.given) as family, masklen(s.given) as mask
from (select case when family($1::inet) = 6 and masklen($1::inet) = 128 then set_masklen($1::inet, 64) else $1::inet end as given) s`,
      [text],
    );
    const [found] = rows;
    if (!found || found.mask < shortestMask[found.family]) {
      throw new PartywallError('input_invalid', `reading the source ${JSON.stringify(text)}: so large a network would keep everybody out`);
    }
    return found.source;
  } catch (cause) {
    if (sqlState(cause)?.startsWith('22') !== true) throw cause;
    throw new PartywallError('input_invalid', `reading the source ${JSON.stringify(text)}: it is neither an address nor a network such as 198.51.100.0/24`, {
      cause,
    });
  }
}

function toBlock({ source, blocked_at, until, active, attempts, blocked_by, reason }: Row): Block {
  return {
    source: withoutFullMask(source),
    blockedAt: blocked_at.toISOString(),
    until: until.toISOString(),
    active,
    attempts: Number(attempts),
    blockedBy: blocked_by,
    reason,
  };
}
