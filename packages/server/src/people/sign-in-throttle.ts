import { createHash } from 'node:crypto';
import type pg from 'pg';

/**
 * Guessing is slowed by account and by address, in the database, so that it holds over processes and restarts. An attempt counts when it
 * begins, so that a thousand at once are a thousand; one that succeeds is taken back.
 */
export interface Attempt {
  /** E-mail address that is to be signed in. */
  readonly account: string;
  /** Network address the request comes from. */
  readonly address: string;
}

export const signInLimits = { account: 10, address: 50, windowSeconds: 15 * 60 } as const;
/** Expired rows that each attempt takes along, so that the table stays as small as its window. */
const sweptMax = 20;

const countSql = `with swept as (
  delete from partywall_people.sign_in_attempts where subject in (
    select s.subject from partywall_people.sign_in_attempts s
    where s.expires_at < now() and s.subject <> all ($1::bytea[]) order by s.expires_at limit ${sweptMax} for update skip locked)
)
insert into partywall_people.sign_in_attempts as a (subject, attempts, expires_at)
select s.subject, 1, now() + make_interval(secs => ${signInLimits.windowSeconds}) from unnest($1::bytea[]) as s (subject) order by s.subject
on conflict (subject) do update set
  attempts = case when a.expires_at < now() then 1 else a.attempts + 1 end,
  expires_at = case when a.expires_at < now() then excluded.expires_at else a.expires_at end
returning a.subject, a.attempts, ceil(extract(epoch from a.expires_at - now()))::integer as "waitSeconds"`;

interface Row {
  readonly subject: Buffer;
  readonly attempts: number;
  readonly waitSeconds: number;
}

export interface Counted {
  /** How long to wait; undefined where the attempt may go on. */
  readonly waitSeconds: number | undefined;
  /** True for the first attempt that has to wait: recording each would let an attacker write as much as they like. */
  readonly first: boolean;
}

/** Counts an attempt before anything is looked at. */
export async function countAttempt(pool: pg.Pool, attempt: Attempt): Promise<Counted> {
  const limits = subjects(attempt);
  const { rows } = await pool.query<Row>(countSql, [limits.map(({ subject }) => subject)]);
  const over = rows.flatMap((row) => {
    const limit = limits.find(({ subject }) => subject.equals(row.subject))?.limit ?? 0;
    return row.attempts > limit ? [{ wait: row.waitSeconds, first: row.attempts === limit + 1 }] : [];
  });
  if (over.length === 0) return { waitSeconds: undefined, first: false };
  return { waitSeconds: Math.max(1, ...over.map(({ wait }) => wait)), first: over.some(({ first }) => first) };
}

/** Takes a successful attempt back: the account starts anew, the address keeps what others there got wrong. */
export async function forgiveAttempt(pool: pg.Pool, attempt: Attempt): Promise<void> {
  const [account, address] = subjects(attempt);
  await pool.query(
    `with account as (delete from partywall_people.sign_in_attempts where subject = $1)
update partywall_people.sign_in_attempts set attempts = greatest(attempts - 1, 0) where subject = $2`,
    [account.subject, address.subject],
  );
}

interface Limit {
  readonly subject: Buffer;
  readonly limit: number;
}

function subjects({ account, address }: Attempt): [account: Limit, address: Limit] {
  return [
    { subject: subject(`account:${account.toLowerCase()}`), limit: signInLimits.account },
    { subject: subject(`address:${address}`), limit: signInLimits.address },
  ];
}

function subject(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
