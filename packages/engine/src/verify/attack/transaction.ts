import pg from 'pg';
import { sqlState } from '../../db/connect.ts';
import { ident, literal } from '../../db/sql.ts';
import { type ContextForm, contextOf, plainSetting } from '../../wall/context-sql.ts';
import { entering } from '../../wall/entering.ts';

/** Bounds of every attack: a statement may not hold others up longer than this. */
const statementTimeoutMs = 5_000;
const lockTimeoutMs = 1_000;

/** What came of one statement. */
export type Probe =
  | { readonly ok: true; readonly count: number; readonly rows: readonly Readonly<Record<string, string | null>>[] }
  /** `constraint` names what was violated, a constraint or a NOT NULL column; code that raises the same SQLSTATE names none. */
  | { readonly ok: false; readonly state: string; readonly message: string; readonly constraint: string | undefined };

/** What a session of the application's role is given so that it can stand for tenants. */
export interface Means {
  /** The administrator's session, which can have seals and stand-ins made. */
  readonly admin: pg.ClientBase;
  readonly form: ContextForm;
  readonly sealed: boolean;
}

/** A transaction that is always rolled back. Statements are sent as text with quoted values, which every pooler passes on. */
export interface Transaction {
  readonly means: Means | undefined;
  /** Runs a statement and undoes what it did. */
  probe(text: string): Promise<Probe>;
  /** Runs a statement; what it did stays until the end of the surrounding savepoint. */
  keep(text: string, values?: readonly unknown[]): Promise<Probe>;
  /** Runs `work` in a savepoint and undoes all of it. */
  undone<T>(work: () => Promise<T>): Promise<T>;
}

/**
 * Runs `work` in a transaction and rolls it back. The server closes it too: when this process dies, the session ends and with it the
 * transaction.
 */
export async function rolledBack<T>(client: pg.ClientBase, work: (tx: Transaction) => Promise<T>, means?: Means): Promise<T> {
  await client.query(
    `begin isolation level read committed read write; set local statement_timeout = ${statementTimeoutMs}; set local lock_timeout = ${lockTimeoutMs}; set local idle_in_transaction_session_timeout = 30000; set local client_min_messages = error; set constraints all immediate`,
  );
  try {
    return await work(transactionOf(client, means));
  } finally {
    await client.query('rollback');
  }
}

function transactionOf(client: pg.ClientBase, means: Means | undefined): Transaction {
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
  const run = async (text: string, keeps: boolean, values?: readonly unknown[]): Promise<Probe> => {
    const name = await savepoint();
    try {
      const result = await client.query<Record<string, string | null>>(text, values && [...values]);
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
    means,
    probe: (text) => run(text, false),
    keep: (text, values) => run(text, true, values),
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

/** Enters a tenant, and a unit of it where one is given, as the application does: in a sealed database with a seal. */
export async function enter(tx: Transaction, tenant: string, unit?: string): Promise<Probe> {
  if (!tx.means?.sealed) return tx.keep(`select partywall.enter(${literal(tenant)}${unit === undefined ? '' : `, ${literal(unit)}`})`);
  const { text, values } = await entering(tx.means.admin, tenant, unit);
  return tx.keep(text, values);
}

/**
 * Makes the session another tenant's inside one transaction, in one of its units where one is given; '' is nobody's. What a tenant planted is then
 * attacked without ever being committed.
 * An attacker does this alone where the context is in a setting that anybody may set; where it is not, the administrator stands by.
 */
export async function become(tx: Transaction, tenant: string, unit?: string): Promise<void> {
  await takeOn(tx, tenant === '' || !tx.means ? '' : contextOf(tx.means.form, tenant, unit));
}

/** The same by the encoded context, or by what is none. */
export async function takeOn(tx: Transaction, context: string): Promise<void> {
  const { means } = tx;
  if (!means) throw new Error('setting the context: the transaction has no means to');
  const probe = means.form.isProtected
    ? await standIn(tx, means.admin, context)
    : await tx.keep(`select pg_catalog.set_config('${plainSetting}', ${literal(context)}, true)`);
  if (!probe.ok) throw new Error(`setting the context: ${probe.message}`);
}

/** The setting that only the owner sets takes letters, digits, underscores and commas alone. */
export function canHold(tx: Transaction, context: string): boolean {
  return !tx.means?.form.isProtected || /^[0-9A-Za-z_, ]*$/.test(context);
}

/** The stand-in is good for one server process, so that it is of no use to whoever gets to see it. */
async function standIn(tx: Transaction, admin: pg.ClientBase, context: string): Promise<Probe> {
  const process = await tx.keep('select pg_catalog.pg_backend_pid()::text as pid');
  if (!process.ok) return process;
  const { rows } = await admin.query<{ expires: string; mac: Buffer }>('select expires, mac from partywall.make_stand_in($1, $2)', [
    context,
    process.rows[0]?.['pid'],
  ]);
  return tx.keep('select partywall.stand_in($1, $2, $3)', [context, rows[0]?.expires, rows[0]?.mac]);
}
