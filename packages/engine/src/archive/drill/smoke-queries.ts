import type pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import type { SmokeQuery } from '../../model/archive.ts';
import { entering } from '../../wall/entering.ts';

const statementTimeoutMs = 60_000;

export interface SmokeResult {
  readonly asked: number;
  readonly problems: readonly { readonly tenant: string; readonly what: string }[];
}

/** Sessions of the application's role, and of a superuser or the owner, who lets it into a tenant. */
export interface SmokeSessions {
  readonly app: pg.ClientBase;
  readonly admin: pg.ClientBase;
}

/** Asks every declared query inside every tenant, as the application would, and rolls back what it did. */
export async function askSmokeQueries(sessions: SmokeSessions, queries: readonly SmokeQuery[], tenants: readonly string[]): Promise<SmokeResult> {
  const problems: { tenant: string; what: string }[] = [];
  for (const tenant of tenants) {
    for (const [at, query] of queries.entries()) {
      const wrong = await ask(sessions, query, tenant);
      if (wrong !== undefined) problems.push({ tenant, what: `smoke query ${at + 1}: ${wrong}` });
    }
  }
  return { asked: queries.length * tenants.length, problems };
}

/** What is wrong with the answer. */
async function ask({ app: client, admin }: SmokeSessions, { sql, expect }: SmokeQuery, tenant: string): Promise<string | undefined> {
  await client.query('begin');
  try {
    await client.query(`set local statement_timeout = ${statementTimeoutMs}`);
    const { text, values } = await entering(admin, tenant);
    await client.query(text, [...values]);
    // In the extended protocol one statement is all that a string may hold: none can end the transaction and go on outside of it.
    const query: pg.QueryArrayConfig & { queryMode: 'extended' } = { text: sql, rowMode: 'array', queryMode: 'extended' };
    const { rows } = await client.query<unknown[]>(query);
    return judge(expect, rows);
  } catch (error) {
    return whatFailed(error);
  } finally {
    await client.query('rollback');
  }
}

function judge(expect: SmokeQuery['expect'], rows: readonly unknown[][]): string | undefined {
  if (expect === undefined) return undefined;
  if (expect === 'rows') return rows.length > 0 ? undefined : 'it gives no row';
  const [first] = rows;
  if (rows.length !== 1 || first?.length !== 1) return `it gives ${rows.length} rows instead of one value`;
  return Number(first[0]) === expect ? undefined : `it does not give ${expect}`;
}

/** Of most errors the message quotes a row; those of the statement itself quote the statement. */
function whatFailed(error: unknown): string {
  const state = sqlState(error) ?? 'no SQLSTATE';
  return state.startsWith('42') && error instanceof Error ? `it failed with ${state}: ${error.message}` : `it failed with ${state}`;
}
