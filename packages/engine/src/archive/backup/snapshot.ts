import { createHash } from 'node:crypto';
import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { readCatalog } from '../../catalog/read-catalog.ts';
import { connect, sqlState } from '../../db/connect.ts';
import type { Operation } from '../../db/operation.ts';
import { ident } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import { assertModelComplete } from '../../model/check.ts';
import { tableName } from '../../model/table-name.ts';
import { schemaDdl } from '../schema/schema-ddl.ts';
import { schemaFingerprint, writeSchema } from '../schema/schema-document.ts';
import { type Lineage, readLineage } from './base.ts';
import { lockTablesSql, lockTimeoutMs } from './lock-tables.ts';
import { pinReading, readTextSettings } from './pinned-settings.ts';
import { type Allowance, ownSchemas, type Sources, sourcesOf } from './sources.ts';
import { readTableFacts, readTextFacts, type TableFacts } from './table-facts.ts';

/** The moment that a backup is of, held open for the threads that read it, and what the database was like then. */
export interface Snapshot {
  readonly name: string;
  readonly at: Date;
  readonly lsn: string;
  readonly version: string;
  readonly settings: Readonly<Record<string, string>>;
  readonly sources: Sources['sources'];
  readonly left: readonly string[];
  /** Is being read, while whoever has no question to the snapshot does something else. */
  readonly schema: Promise<SnapshotSchema>;
  /** Facts beside a row that its text depends on. */
  readonly textFacts: string;
  readonly lineage: Lineage;
  /** Keys of all registered tenants, as text. */
  readonly tenants: readonly string[];
  readonly connection: string;
  /** Holds it: what is asked here is of that moment. */
  readonly client: pg.Client;
  /** Ends the snapshot, after reading the sequences: they are no part of it, and must not be behind the rows. */
  end(): Promise<Sequence[]>;
  /** Ends it at once. Can be called again. */
  close(): Promise<void>;
}

export interface SnapshotSchema {
  readonly document: string;
  /** Of its statements alone, for the manifest. */
  readonly fingerprint: string;
  /** SHA-256 of the document, hex. */
  readonly mark: string;
}

export interface Sequence {
  readonly name: string;
  readonly last: string;
  readonly called: boolean;
}

/** Somebody rebuilds a table, or made one while the backup began. */
const attemptsMax = 5;
const retryDelayMs = 500;

/** One backup of a database at a time: two at once would each take over what the other has not finished. */
const tryLock = "select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('partywall:backup', 0)) as locked";
const holder = `select a.application_name as name from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
  cross join (select pg_catalog.hashtextextended('partywall:backup', 0) as key) k
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
    and l.classid::bigint = (k.key >> 32) & 4294967295 and l.objid::bigint = k.key & 4294967295`;

export interface SnapshotInput {
  readonly backup: string;
  readonly allow: readonly Allowance[];
  readonly onFixed?: (() => void) | undefined;
  /** For the first attempt. */
  readonly catalog?: Catalog | undefined;
}

/**
 * Opens a snapshot of the whole database. Every table is locked against TRUNCATE and rebuilding first: after either, an older snapshot finds no
 * rows, and says nothing.
 *
 * @throws PartywallError backup_refused (another backup runs; tables that the model does not classify, or that cannot be kept), lock_not_acquired
 */
export async function openSnapshot({ database, signal }: Operation, { backup, ...input }: SnapshotInput): Promise<Snapshot> {
  const connection = database.pool.options.connectionString;
  if (connection === undefined) throw new TypeError('the pool of the control plane has no connection string');
  const client = await connect(connection, { purpose: `backup ${backup}` });
  let closed = false;
  let reading: Promise<unknown> = Promise.resolve();
  const close = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    // A connection that is dropped while a statement runs keeps its locks until the server has finished that statement.
    await reading.catch(() => undefined);
    await client.end();
  };
  try {
    await refuseSecond(client);
    for (let attempt = 1; ; attempt += 1) {
      signal?.throwIfAborted();
      const taken = await attemptSnapshot(client, database, attempt === 1 ? input : { ...input, catalog: undefined });
      if (taken) {
        reading = taken.schema;
        return { ...taken, connection, client, close, end: () => endSnapshot(client).finally(close) };
      }
      if (attempt === attemptsMax) {
        throw new PartywallError(
          'lock_not_acquired',
          `locking the tables against rebuilding: a table was locked by somebody else, ${attemptsMax} times in a row`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, retryDelayMs));
    }
  } catch (error) {
    await close();
    throw error;
  }
}

type Taken = Omit<Snapshot, 'connection' | 'client' | 'close' | 'end'>;

/** Undefined: a lock was not to be had, or the tables changed meanwhile. */
async function attemptSnapshot(
  client: pg.Client,
  { model, clock }: Operation['database'],
  { allow, onFixed, catalog: given }: Omit<SnapshotInput, 'backup'>,
): Promise<Taken | undefined> {
  const catalog = given ?? (await readCatalog(client));
  assertModelComplete(model, catalog);
  const schemas = [...new Set([...[...catalog.relations.values()].map(({ schema }) => schema), ...ownSchemas])];
  const before = await readTableFacts(client, schemas);
  refuse(sourcesOf(model, catalog, before), allow);
  await client.query('begin isolation level repeatable read, read only');
  // Nothing is selected before the locks are held: the first SELECT takes the snapshot.
  await client.query(`set local lock_timeout = ${lockTimeoutMs}`);
  try {
    await client.query(lockTablesSql(sourcesOf(model, catalog, before).sources));
  } catch (error) {
    await client.query('rollback');
    // Not available, or dropped since.
    if (['55P03', '42P01', '3F000'].includes(sqlState(error) ?? '')) return undefined;
    throw error;
  }
  await pinReading(client);
  const at = clock();
  const { rows } = await client.query<{ name: string; lsn: string; version: string }>(
    "select pg_catalog.pg_export_snapshot() as name, pg_catalog.pg_current_wal_lsn()::text as lsn, pg_catalog.current_setting('server_version') as version",
  );
  const facts = await readTableFacts(client, schemas);
  if (shapeOf(facts) !== shapeOf(before)) {
    await client.query('rollback');
    return undefined;
  }
  onFixed?.();
  const { sources, left, refused } = sourcesOf(model, catalog, facts);
  const unread = new Set(refused.map(({ what }) => what));
  const tenants = await client.query<{ tenant: string }>('select tenant_id::text as tenant from partywall.registry order by 1');
  return {
    name: rows[0]?.name ?? '',
    at,
    lsn: rows[0]?.lsn ?? '',
    version: rows[0]?.version ?? '',
    settings: await readTextSettings(client),
    sources: sources.map((source) => ({ ...source, leaves: source.leaves.filter(({ unlogged }) => !unlogged) })),
    left: [...left, ...[...unread].map((what) => `left out, as allowed: ${what}`)],
    textFacts: await readTextFacts(client),
    lineage: await readLineage(client),
    tenants: tenants.rows.map(({ tenant }) => tenant),
    // Last: it changes settings while it reads.
    schema: readSchema(client),
  };
}

function readSchema(client: pg.Client): Promise<SnapshotSchema> {
  const read = schemaDdl(client).then((ddl) => {
    const document = writeSchema(ddl);
    return { document, fingerprint: schemaFingerprint(ddl), mark: createHash('sha256').update(document).digest('hex') };
  });
  // Surfaces where it is waited for; a run that ends before does not.
  read.catch(() => undefined);
  return read;
}

async function refuseSecond(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ locked: boolean }>(tryLock);
  if (rows[0]?.locked) return;
  const first = await client.query<{ name: string }>(holder);
  const name = first.rows[0]?.name.replace(/^partywall backup /, '') ?? '';
  throw new PartywallError('backup_refused', `starting a backup: ${name === '' ? 'another one' : name} is running on this database`, {
    hint: 'wait for it to end, or end its session',
  });
}

function refuse({ refused }: Sources, allow: readonly Allowance[]): void {
  const open = refused.filter(({ kind }) => !allow.includes(kind));
  const [first] = open;
  if (!first) return;
  throw new PartywallError('backup_refused', `looking at what there is to back up: ${first.what}${open.length > 1 ? ` and ${open.length - 1} more` : ''}`, {
    details: open.map(({ what }) => what),
    hint: `a crash empties unlogged tables, and large objects have no tenant: move them, or leave them out with ${[...new Set(open.map(({ kind }) => `--allow ${kind}`))].join(' ')}`,
  });
}

/** What the statements were made from. */
function shapeOf(facts: readonly TableFacts[]): string {
  return JSON.stringify(facts.map(({ oid, table, filenode, columns, top, unlogged }) => [oid, table, filenode, columns, top, unlogged]));
}

/** What cannot be selected from is read as `pg_sequences` shows it, to whoever may use the sequence. */
const sequencesSql = `select n.nspname as schema, c.relname as name, pg_catalog.has_sequence_privilege(c.oid, 'SELECT') as readable,
  pg_catalog.has_sequence_privilege(c.oid, 'USAGE') as usable, s.start_value::text as start, s.last_value::text as last
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_sequences s on s.schemaname = n.nspname and s.sequencename = c.relname
where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' order by 1, 2`;

async function endSnapshot(client: pg.Client): Promise<Sequence[]> {
  await client.query('commit');
  const { rows } = await client.query<{ schema: string; name: string; readable: boolean; usable: boolean; start: string; last: string | null }>(sequencesSql);
  const sequences: Sequence[] = [];
  for (const { schema, name, readable, usable, start, last } of rows) {
    const sequence = tableName(schema, name);
    if (!readable && !usable) {
      throw new PartywallError('backup_refused', `reading sequence ${sequence}: the role may neither read nor use it`, {
        hint: `grant select on sequence ${sequence} to the service role`,
      });
    }
    const read = readable
      ? await client.query<{ last: string; called: boolean }>(`select last_value::text as last, is_called as called from ${ident(schema)}.${ident(name)}`)
      : undefined;
    const [value] = read?.rows ?? [{ last: last ?? start, called: last !== null }];
    if (value) sequences.push({ name: sequence, ...value });
  }
  return sequences;
}
