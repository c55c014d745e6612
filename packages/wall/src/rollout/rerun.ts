import type pg from 'pg';
import { inScope, type Scope } from '../context.ts';
import { splitStatements, type Tokens } from '../lexer.ts';
import type { Statement } from '../statement.ts';
import type { CallSite } from './call-site.ts';
import type { Tally } from './tally.ts';

/** A SELECT that an observed tenant has had answered. */
export interface Answered {
  readonly text: string;
  readonly values: readonly unknown[];
  readonly scope: Scope;
  readonly statement: Statement;
  readonly site: CallSite | undefined;
}

const fractionDefault = 0.01;
/** Between the end of one re-run and the next, for one pool: with one at a time this bounds what they cost the database (milliseconds). */
const gapMs = 500;
/** Of each count (milliseconds). */
const timeoutMs = 2_000;
const textCharsMax = 20_000;
/** Names of functions that were looked up; each set of names is asked for once. */
const volatileKnownMax = 1_000;

/** The two pools, each with connections of its role. */
export interface RerunPools {
  readonly observing: pg.Pool;
  readonly enforcing: pg.Pool;
  /** Runs `work` on a connection whose statements are not watched. */
  unwatched<Result>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<Result>): Promise<Result>;
}

/**
 * Runs a sample of the SELECTs of observed tenants again, under both roles in one snapshot, and compares how many rows they give, and
 * where nothing in the text makes them differ by itself what is in them: what the rows themselves do not show (a count, an aggregate, a view, a query
 * that leaves the tenant out). Read only, one at a time, and only on connections
 * that nobody waits for. A statement that locks rows or calls a volatile function is left alone.
 */
export class Rerun {
  readonly #pools: () => RerunPools;
  readonly #tally: Tally;
  readonly #fraction: number;
  readonly #volatile = new Map<string, boolean>();
  #running: Promise<void> | undefined;
  #freeAt = 0;

  constructor(pools: () => RerunPools, tally: Tally, fraction = fractionDefault) {
    this.#pools = pools;
    this.#tally = tally;
    this.#fraction = fraction;
  }

  /** Takes it for the sample, or not; never throws, and nothing waits for it. */
  offer(answered: Answered): void {
    if (this.#running || Math.random() >= this.#fraction || performance.now() < this.#freeAt || !isCandidate(answered)) return;
    const pools = this.#pools();
    if (!hasRoom(pools.observing) || !hasRoom(pools.enforcing)) return;
    this.#running = inScope(answered.scope, () => this.#compare(answered, pools))
      .catch(() => undefined) // it could not be compared: a timeout, a table that is gone, a snapshot that is too old
      .finally(() => {
        this.#freeAt = performance.now() + gapMs;
        this.#running = undefined;
      });
  }

  /** Resolves when none is running. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #compare(answered: Answered, { observing, enforcing, unwatched }: RerunPools): Promise<void> {
    const [tokens = []] = splitStatements(answered.text);
    const contents = comparesContents(tokens) ? 'coalesce(sum(pg_catalog.hashtextextended(compared::text, 0)), 0)::text' : "''";
    const count = `select count(*)::text as rows, ${contents} as contents from (${answered.text.trim().replace(/;$/, '')}\n) as compared`;
    await unwatched(observing, async (observer) => {
      if (await this.#callsVolatile(observer, tokens)) return;
      await inSnapshot(observer, undefined, async (snapshot) => {
        const seen = await countOf(observer, count, answered.values);
        const allowed = await unwatched(enforcing, (bound) => inSnapshot(bound, snapshot, () => countOf(bound, count, answered.values).catch(refusalOf)));
        if (allowed && seen && allowed.rows === seen.rows && allowed.contents === seen.contents) return;
        const kind = !allowed ? 'refused_read' : allowed.rows === seen?.rows ? 'other_result' : 'fewer_rows';
        this.#tally.add({ mode: 'observe', kind, text: answered.text, site: answered.site });
      });
    });
  }

  /** Whether any function of a name that the statement calls is volatile. Those inside views and operators are not seen; all is read only. */
  async #callsVolatile(client: pg.PoolClient, tokens: Tokens): Promise<boolean> {
    const names = [...new Set(tokens.flatMap((token, at) => (token.kind !== 'string' && tokens[at + 1]?.text === '(' ? [token.text] : [])))].sort();
    if (names.length === 0) return false;
    const key = names.join('\0');
    const known = this.#volatile.get(key);
    if (known !== undefined) return known;
    const { rows } = await client.query<{ found: boolean }>(
      "select exists (select from pg_catalog.pg_proc p where p.proname = any ($1) and p.provolatile = 'v') as found",
      [names],
    );
    const found = rows[0]?.found ?? true;
    if (this.#volatile.size >= volatileKnownMax) this.#volatile.clear();
    this.#volatile.set(key, found);
    return found;
  }
}

function isCandidate({ text, statement }: Answered): boolean {
  if (text.length > textCharsMax || statement.many || !['select', 'with', 'values', 'table', ''].includes(statement.verb)) return false;
  const [tokens = []] = splitStatements(text);
  const locks = tokens.some(
    ({ kind, text: word }, at) => kind === 'word' && word === 'for' && ['update', 'share', 'no', 'key'].includes(tokens[at + 1]?.text ?? ''),
  );
  return !locks && !tokens.some(({ kind, text: word }) => kind === 'word' && ['insert', 'update', 'delete', 'merge', 'into'].includes(word));
}

/** Words that make two transactions, or two roles, differ in an answer that is right in both. */
const ownWords = /^(limit|fetch|offset|tablesample|now|age|user|session_user|(current|local|transaction|statement|pg|to_reg|has|row|rank)(_\w+)?|\w+_rank)$/;

function comparesContents(tokens: Tokens): boolean {
  return !tokens.some(({ kind, text }) => kind === 'word' && ownWords.test(text));
}

/** A connection that nobody waits for. */
function hasRoom(pool: pg.Pool): boolean {
  return pool.waitingCount === 0 && (pool.idleCount > 0 || pool.totalCount < pool.options.max);
}

async function inSnapshot<Result>(client: pg.PoolClient, snapshot: string | undefined, work: (snapshot: string) => Promise<Result>): Promise<Result> {
  await client.query('begin isolation level repeatable read read only');
  try {
    if (snapshot !== undefined) await client.query(`set transaction snapshot '${snapshot.replaceAll("'", "''")}'`);
    await client.query(`set local statement_timeout = ${timeoutMs}`);
    return await work(snapshot ?? (await exported(client)));
  } finally {
    await client.query('rollback').catch(() => undefined);
  }
}

async function exported(client: pg.PoolClient): Promise<string> {
  const { rows } = await client.query<{ snapshot: string }>('select pg_catalog.pg_export_snapshot() as snapshot');
  return rows[0]?.snapshot ?? '';
}

interface Counted {
  readonly rows: string;
  /** A sum over the rows, so that their order does not matter; empty where it is not compared. */
  readonly contents: string;
}

async function countOf(client: pg.PoolClient, text: string, values: readonly unknown[]): Promise<Counted | undefined> {
  const { rows } = await client.query<Counted>(text, [...values]);
  return rows[0];
}

/** No count where the wall or the application's rights refuse the read; any other error means that nothing was compared. */
function refusalOf(error: unknown): undefined {
  const state = typeof error === 'object' && error !== null && ('sqlstate' in error ? error.sqlstate : 'code' in error ? error.code : undefined);
  if (state === insufficientPrivilege || (typeof state === 'string' && state.startsWith('PW'))) return undefined;
  throw error;
}

const insufficientPrivilege = '42501';
