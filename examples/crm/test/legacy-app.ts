import type pg from 'pg';
import type { Random } from '../src/random.ts';

/**
 * The CRM's first application, as it was before anyone heard of a wall: it names a tenant only where the table always had
 * one, and knows the other tables' columns as `schema.sql` gives them. Run beside a change of the database, its report says
 * whether the change was noticed. Every statement states how many rows it must touch, because row level security that is
 * wrong fails silently: an UPDATE of no row is no error.
 */
export const legacyStatements = {
  listCustomers: 'select id, reference, name from customers where tenant_id = $1 order by name, id limit 20',
  listStages: 'select s.id from deal_stages s join pipelines p on p.id = s.pipeline_id where p.tenant_id = $1 and p.is_default order by s.position',
  listUsers: 'select id from users where tenant_id = $1 order by email limit 5',
  // Unqualified, as people write it while one table of the join has the column.
  listOpenDeals: `select name, title, amount from customers join deals on deals.customer_id = customers.id
where tenant_id = $1 and status = 'open' order by amount desc limit 10`,
  touchUser: `insert into users (tenant_id, email, name) values ($1, $2, 'Night Shift')
on conflict (tenant_id, email) do update set last_seen_at = now()`,
  insertCustomer: 'insert into customers (tenant_id, parent_id, reference, name, country_code, owner_id) values ($1, $2, $3, $4, $5, $6) returning id',
  importCustomer: `insert into customers (tenant_id, reference, name, country_code) values ($1, $2, $3, 'DE')
on conflict (reference) do update set phone = '+49 555 0100' returning id`,
  importCustomerOnce: `insert into customers (tenant_id, reference, name, country_code) values ($1, $2, $3, 'DE')
on conflict do nothing`,
  insertContacts: `insert into contacts (customer_id, first_name, last_name, email)
select $1, t.first_name, 'Legacy', t.first_name || '@legacy.example' from unnest($2::text[]) as t (first_name) returning id`,
  insertDeal: "insert into deals (customer_id, stage_id, owner_id, title, amount, currency) values ($1, $2, $3, $4, $5, 'EUR') returning id",
  insertDealActivity: "insert into activities (deal_id, contact_id, user_id, kind, subject) values ($1, $2, $3, 'call', $4) returning id",
  insertContactActivity: "insert into activities (contact_id, kind, subject, due_at) values ($1, 'task', $2, now() + interval '2 days') returning id",
  insertActivityPerDeal: "insert into activities (deal_id, kind, subject) select id, 'email', 'Sent the quote' from deals where customer_id = $1",
  insertNote: 'insert into notes (customer_id, author_id, body) values ($1, $2, $3) returning id',
  insertFile: `insert into files ("dealId", "uploadedBy", "fileName", "contentType", "sizeBytes", "storageKey")
values ($1, $2, 'quote.pdf', 'application/pdf', $3, $4)`,
  upsertTag: `insert into tags (tenant_id, name) values ($1, $2)
on conflict (tenant_id, name) do update set color = 'blue' returning id`,
  tagCustomer: 'insert into customer_tags (customer_id, tag_id) values ($1, $2) on conflict (customer_id, tag_id) do nothing',
  untagCustomer: 'delete from customer_tags where customer_id = $1 and tag_id = $2',
  deleteTag: 'delete from tags where id = $1',
  lockDeal: 'select stage_id from deals where id = $1 for update',
  moveDeal: 'update deals set stage_id = $2 where id = $1',
  closeDeal: "update deals set status = 'won', closed_at = now() where id = $1",
  moveContact: 'update contacts set customer_id = $2 where id = $1',
  finishActivity: 'update activities set done_at = now() where id = $1',
  pinNote: 'update notes set pinned = true where id = $1',
  deleteNote: 'delete from notes where id = $1',
  deleteActivity: 'delete from activities where id = $1',
  renameCustomer: "update customers set name = name || ' (renamed)', archived = not archived where id = $1 returning updated_at",
  readOverview: 'select open_deals, open_amount, won_amount from customer_overview where id = $1',
  readTimeline: `select a.id, a.subject, c.last_name from activities a
left join contacts c on c.id = a.contact_id left join deals d on d.id = a.deal_id
where coalesce(d.customer_id, c.customer_id) = $1 order by a.id`,
  readParent: 'select parent_id from customers where id = $1',
  deleteCustomer: 'delete from customers where id = $1',
} as const;
export type LegacyStatement = keyof typeof legacyStatements;

export interface LegacyOptions {
  readonly tenantId: string;
  /** Decides what is done and names what is made: two runs on one database need two streams. */
  readonly rng: Random;
  /** The workload ends at the first of these that is reached; one must be given. */
  readonly iterations?: number;
  readonly seconds?: number;
  readonly signal?: AbortSignal;
  /** Leaves out what contract takes away on purpose: `on conflict` over a unique that became per tenant. */
  readonly afterContract?: boolean;
}

export interface LegacyError {
  readonly statement: LegacyStatement | 'connect' | 'transaction';
  /** SQLSTATE or system code; `rows` when a statement touched another number of rows than it must. */
  readonly code: string;
  readonly message: string;
}

export interface LegacyReport {
  readonly iterations: number;
  /** Statements that did what they must. */
  readonly operations: Readonly<Record<LegacyStatement, number>>;
  readonly errors: readonly LegacyError[];
  readonly slowest: { readonly statement: LegacyStatement | undefined; readonly ms: number };
  /** Customers that the workload made and left. */
  readonly customers: readonly string[];
}

interface Made {
  readonly customer: string;
  readonly contacts: readonly string[];
  readonly deal: string;
  readonly activity: string;
  readonly note: string;
}

interface Session {
  readonly options: LegacyOptions;
  readonly operations: Record<LegacyStatement, number>;
  readonly errors: LegacyError[];
  readonly kept: Made[];
  readonly imported: string[];
  slowest: { statement: LegacyStatement | undefined; ms: number };
}

type Client = Pick<pg.ClientBase, 'query'>;

const keptCustomersMax = 5;
const errorsMax = 100;

/** Ends an iteration whose failure is already in the report. */
class Reported extends Error {}

export async function runLegacyWorkload(pool: pg.Pool, options: LegacyOptions): Promise<LegacyReport> {
  const { iterations = Number.POSITIVE_INFINITY, seconds = Number.POSITIVE_INFINITY, signal } = options;
  if (iterations === Number.POSITIVE_INFINITY && seconds === Number.POSITIVE_INFINITY && !signal) throw new RangeError('the workload needs an end');
  const names = Object.keys(legacyStatements) as LegacyStatement[]; // the keys are the names
  const session: Session = {
    options,
    operations: Object.fromEntries(names.map((name) => [name, 0])) as Record<LegacyStatement, number>, // every name is a key
    errors: [],
    kept: [],
    imported: [],
    slowest: { statement: undefined, ms: 0 },
  };
  const deadline = performance.now() + seconds * 1000;
  let done = 0;
  while (done < iterations && performance.now() < deadline && !signal?.aborted && session.errors.length < errorsMax) {
    try {
      await iterate(session, pool);
    } catch (error) {
      if (!(error instanceof Reported)) throw error;
    }
    done += 1;
  }
  const { operations, errors, slowest, kept, imported } = session;
  return { iterations: done, operations, errors, slowest, customers: [...kept.map(({ customer }) => customer), ...imported] };
}

/** One user's half hour. */
async function iterate(session: Session, pool: pg.Pool): Promise<void> {
  const { tenantId, rng } = session.options;
  const on = (statement: LegacyStatement, values: unknown[], rows: number | 'some' = 1) => execute(session, pool, statement, values, rows);
  await on('listCustomers', [tenantId], 'some');
  const stages = (await on('listStages', [tenantId], 'some')).map(idOf);
  const users = (await on('listUsers', [tenantId], 'some')).map(idOf);
  await on('touchUser', [tenantId, `night.shift.${rng.int(1, 3)}@legacy.example`]);
  const made = await transaction(session, pool, (client) => insertTree(session, client, { stages, users }));
  session.kept.push(made);

  await on('listOpenDeals', [tenantId], 'some');
  await on('insertActivityPerDeal', [made.customer], 1);
  await on('insertFile', [made.deal, rng.pick(users), rng.int(1, 5_000_000), `legacy/${rng.uuid()}`]);
  await importCustomer(session, pool);
  await tagging(session, pool, made);
  await transaction(session, pool, async (client) => {
    await execute(session, client, 'lockDeal', [made.deal], 1);
    await execute(session, client, 'moveDeal', [made.deal, rng.pick(stages)], 1);
    if (rng.chance(0.4)) await execute(session, client, 'closeDeal', [made.deal], 1);
  });
  await on('finishActivity', [made.activity]);
  await on('pinNote', [made.note]);
  await on('renameCustomer', [made.customer]);
  await on('readOverview', [made.customer]);
  await on('readTimeline', [made.customer], 3);

  const before = session.kept.at(-2);
  const [movable] = made.contacts;
  if (before && movable) await on('moveContact', [movable, before.customer]);
  if (rng.chance(0.5)) await on('deleteNote', [made.note]);
  if (rng.chance(0.5)) await on('deleteActivity', [made.activity]);
  if (session.kept.length > keptCustomersMax) await deleteOldest(session, pool);
}

async function insertTree(session: Session, client: Client, { stages, users }: { stages: readonly string[]; users: readonly string[] }): Promise<Made> {
  const { tenantId, rng } = session.options;
  const one = async (statement: LegacyStatement, values: unknown[]) => idOf((await execute(session, client, statement, values, 1))[0]);
  const parent = session.kept.at(-1)?.customer ?? null;
  const customer = await one('insertCustomer', [
    tenantId,
    parent,
    `legacy-${rng.uuid()}`,
    `Legacy ${rng.int(1, 9999)}`,
    rng.pick(['DE', 'GB', 'US']),
    rng.pick(users),
  ]);
  const contacts = (await execute(session, client, 'insertContacts', [customer, ['Ada', 'Bo', 'Cy']], 3)).map(idOf);
  const deal = await one('insertDeal', [customer, rng.pick(stages), rng.pick(users), 'Legacy deal', rng.int(100, 100_000)]);
  const activity = await one('insertDealActivity', [deal, rng.pick(contacts.slice(1)), rng.pick(users), 'Introduction call']);
  await one('insertContactActivity', [rng.pick(contacts.slice(1)), 'Collect requirements']);
  const note = await one('insertNote', [customer, rng.pick(users), 'Asked for a quote.']);
  return { customer, contacts, deal, activity, note };
}

/** The nightly import sends the same line twice. */
async function importCustomer(session: Session, pool: pg.Pool): Promise<void> {
  const { tenantId, rng, afterContract } = session.options;
  const values = [tenantId, `import-${rng.uuid()}`, 'Imported Works GmbH'];
  await execute(session, pool, 'importCustomerOnce', values, 1);
  await execute(session, pool, 'importCustomerOnce', values, 0);
  if (afterContract) return;
  const [row] = await execute(session, pool, 'importCustomer', values, 1);
  session.imported.push(idOf(row));
}

async function tagging(session: Session, pool: pg.Pool, made: Made): Promise<void> {
  const { tenantId, rng } = session.options;
  // One name that all sessions of the tenant fight over, one of this session's own that it deletes again.
  const [shared] = await execute(session, pool, 'upsertTag', [tenantId, 'imported'], 1);
  const [own] = await execute(session, pool, 'upsertTag', [tenantId, `batch ${rng.uuid()}`], 1);
  await execute(session, pool, 'tagCustomer', [made.customer, idOf(shared)], 1);
  await execute(session, pool, 'tagCustomer', [made.customer, idOf(shared)], 0);
  await execute(session, pool, 'tagCustomer', [made.customer, idOf(own)], 1);
  if (rng.chance(0.3)) await execute(session, pool, 'untagCustomer', [made.customer, idOf(shared)], 1);
  await execute(session, pool, 'deleteTag', [idOf(own)], 1);
}

/** The group's head goes: its subsidiary stays, without a parent. */
async function deleteOldest(session: Session, pool: pg.Pool): Promise<void> {
  const [oldest, next] = session.kept;
  if (!oldest || !next) return;
  session.kept.shift();
  await execute(session, pool, 'deleteCustomer', [oldest.customer], 1);
  const [child] = await execute(session, pool, 'readParent', [next.customer], 1);
  if (child?.['parent_id'] !== null) report(session, { statement: 'readParent', code: 'rows', message: 'the parent is gone and its child still names it' });
}

async function transaction<Result>(session: Session, pool: pg.Pool, work: (client: Client) => Promise<Result>): Promise<Result> {
  const client = await pool.connect().catch((error: unknown) => report(session, { statement: 'connect', ...described(error) }));
  const end = (command: 'begin' | 'commit') =>
    client.query(command).catch((error: unknown) => report(session, { statement: 'transaction', ...described(error) }));
  let broken: Error | undefined;
  try {
    await end('begin');
    const result = await work(client);
    await end('commit');
    return result;
  } catch (error) {
    await client.query('rollback').catch((cause: unknown) => {
      broken = cause instanceof Error ? cause : new Error(String(cause)); // released below as broken
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

async function execute(session: Session, client: Client, statement: LegacyStatement, values: unknown[], rows: number | 'some'): Promise<pg.QueryResultRow[]> {
  const started = performance.now();
  const result = await client.query(legacyStatements[statement], values).catch((error: unknown) => report(session, { statement, ...described(error) }));
  const ms = performance.now() - started;
  if (ms > session.slowest.ms) session.slowest = { statement, ms };
  const touched = result.rowCount ?? 0;
  if (rows === 'some' ? touched === 0 : touched !== rows) {
    return report(session, { statement, code: 'rows', message: `touched ${touched} rows, expected ${rows}` });
  }
  session.operations[statement] += 1;
  return result.rows;
}

function report(session: Session, error: LegacyError): never {
  session.errors.push(error);
  throw new Reported(error.message);
}

function described(error: unknown): Pick<LegacyError, 'code' | 'message'> {
  if (!(error instanceof Error)) return { code: 'unknown', message: String(error) };
  return { code: 'code' in error && typeof error.code === 'string' ? error.code : error.name, message: error.message };
}

function idOf(row: pg.QueryResultRow | undefined): string {
  const id: unknown = row?.['id'];
  if (typeof id !== 'string' && typeof id !== 'number') throw new TypeError('a row without id');
  return String(id);
}
