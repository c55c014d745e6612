import pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { ident, literal } from '../../db/sql.ts';

/** Bounds of every attack: a statement may not hold others up longer than this. */
const statementTimeoutMs = 5_000;
const lockTimeoutMs = 1_000;

/** What came of one statement. */
export type Probe =
  | { readonly ok: true; readonly count: number; readonly rows: readonly Readonly<Record<string, string | null>>[] }
  /** `constraint` names what was violated, a constraint or a NOT NULL column; code that raises the same SQLSTATE names none. */
  | { readonly ok: false; readonly state: string; readonly message: string; readonly constraint: string | undefined };

/** A transaction that is always rolled back. Statements are sent as text with quoted values, which every pooler passes on. */
export interface Transaction {
  /** Runs a statement and undoes what it did. */
  probe(text: string): Promise<Probe>;
  /** Runs a statement; what it did stays until the end of the surrounding savepoint. */
  keep(text: string): Promise<Probe>;
  /** Runs `work` in a savepoint and undoes all of it. */
  undone<T>(work: () => Promise<T>): Promise<T>;
}

/**
 * Runs `work` in a transaction and rolls it back. The server closes it too: when this process dies, the session ends and with it the
 * transaction.
 */
export async function rolledBack<T>(client: pg.ClientBase, work: (tx: Transaction) => Promise<T>): Promise<T> {
  await client.query(
    `begin isolation level read committed read write; set local statement_timeout = ${statementTimeoutMs}; set local lock_timeout = ${lockTimeoutMs}; set local idle_in_transaction_session_timeout = 30000; set local client_min_messages = error; set constraints all immediate`,
  );
  try {
    return await work(transactionOf(client));
  } finally {
    await client.query('rollback');
  }
}

function transactionOf(client: pg.ClientBase): Transaction {
  let depth = 0;
  const savepoint = async (): Promise<string> => {
    depth += 1;
    const name = ident(`pw_verify_${depth}`);
    await client.query(`savepoint ${name}`);
    return name;
  };
  const back = async (name: string): Promise<void> => {
    await client.query(`rollback to savepoint ${name}; release savepoint ${name}`);
    depth -= 1;
  };
  const run = async (text: string, keeps: boolean): Promise<Probe> => {
    const name = await savepoint();
    try {
      const result = await client.query<Record<string, string | null>>(text);
      if (keeps) {
        await client.query(`release savepoint ${name}`);
        depth -= 1;
      } else {
        await back(name);
      }
      return { ok: true, count: result.rowCount ?? 0, rows: result.rows };
    } catch (error) {
      const state = sqlState(error);
      // Without an SQLSTATE the connection is gone, and so is the transaction.
      if (state === undefined || !/^[0-9A-Z]{5}$/.test(state) || state === '57P01') throw error;
      await back(name);
      const constraint = error instanceof pg.DatabaseError ? (error.constraint ?? error.column) : undefined;
      return { ok: false, state, message: error instanceof Error ? error.message : String(error), constraint };
    }
  };
  return {
    probe: (text) => run(text, false),
    keep: (text) => run(text, true),
    undone: async (work) => {
      const name = await savepoint();
      try {
        return await work();
      } finally {
        await back(name);
      }
    },
  };
}

/** Enters a tenant as the application does. */
export function enter(tx: Transaction, tenant: string): Promise<Probe> {
  return tx.keep(`select partywall.enter(${literal(tenant)})`);
}

/**
 * Makes the session another tenant's inside one transaction, as an attacker would who can run SQL: what a tenant planted is then
 * attacked without ever being committed. The only place that relies on an unsealed context.
 */
export async function become(tx: Transaction, tenant: string): Promise<void> {
  const probe = await tx.keep(`select pg_catalog.set_config('partywall.tenant_id', ${literal(tenant)}, true)`);
  if (!probe.ok) throw new Error(`setting the context: ${probe.message}`);
}
