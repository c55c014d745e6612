import type { WalledPoolConfig } from '@partywall/wall';
import type pg from 'pg';

/** What an application does, said once for every client. All of it is for the tenant of the context. */
export interface Calls {
  /** Names of all customers, in order. */
  customers(): Promise<string[]>;
  /** Name of one customer by its key, by the client's own way of reading one row. */
  customer(id: string): Promise<string | null>;
  /** Returns the key. `tenant` is the column that the application fills itself. */
  addCustomer(customer: NewCustomer): Promise<string>;
  /** Returns how many rows were changed. */
  renameCustomer(id: string, name: string): Promise<number>;
  /** Returns how many rows were deleted. */
  removeCustomer(id: string): Promise<number>;
  /** Inserts a customer, or renames the one that has the e-mail. */
  upsertCustomer(customer: NewCustomer): Promise<void>;
  /** Inserts an invoice with its lines, by the client's own nested write where it has one. */
  addInvoice(customer: string, number: number, lines: readonly NewLine[]): Promise<void>;
  /** Invoices of all customers with their lines, in order of their numbers. */
  invoices(): Promise<Invoice[]>;
  /** Rows of `select ... from customers where name = $1`, written by hand. */
  raw(name: string): Promise<{ id: string }[]>;
  /** Names of the shared countries. */
  countries(): Promise<string[]>;
  /** Runs `work` in a transaction; inside one, in a savepoint. What `work` throws undoes it, and is thrown on. */
  transaction<Result>(work: (calls: Calls) => Promise<Result>): Promise<Result>;
}

export interface Client extends Calls {
  /** Inserts all or none, as the client sends many writes at once. */
  addCustomers(customers: readonly NewCustomer[]): Promise<void>;
  /** Names of all customers, in order, a row at a time. */
  streamCustomers?(): AsyncIterable<string>;
  /** A statement that no typed method of the client would write. */
  execute(text: string): Promise<unknown>;
  /** Ends the client; the pool is the caller's. */
  end(): Promise<void>;
}

export interface NewCustomer {
  readonly tenant: string;
  readonly email: string;
  readonly name: string;
}

export interface NewLine {
  readonly text: string;
  readonly amount: number;
}

export interface Invoice {
  readonly number: number;
  readonly customer: string;
  readonly lines: readonly string[];
}

/** What a client cannot do, with the reason; the suite proves that it is so. */
export interface Inability {
  readonly reason: string;
  /** Resolves to what shows it: what the client answers, or lacks. */
  readonly proof: (client: Client) => Promise<unknown>;
}

export interface ClientUnderTest {
  readonly name: string;
  /** What the recipe passes to `createWalledPool` beside the connection. */
  readonly options: WalledPoolConfig;
  /** The recipe: the client over a pool, which is a walled one, the system pool, or for comparison a plain one. */
  over(pool: pg.Pool): Promise<Client>;
  readonly cannot: Partial<Record<'stream', Inability>>;
  /** What the client sends by itself before the first statement of the application, in order. */
  readonly onConnect: readonly string[];
}
