import pg from 'pg';
import { afterAll, expect, inject } from 'vitest';
import { ident } from '../../packages/engine/src/db/sql.ts';

/** A database of the caller's own on the shared cluster, dropped after the test file. */
export interface TestDatabase {
  readonly name: string;
  /** Superuser connection string. */
  readonly url: string;
  /** Connection string of another role; the test cluster trusts every role without a password. */
  urlAs(role: string): string;
  /** Runs statements as the superuser over one shared connection, which is made anew where the server ended it. */
  query<Row extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: unknown[]): Promise<pg.QueryResult<Row>>;
}

/**
 * Creates a database for this test file, from `template` when given, on the cluster that all share or on one of the test's own. Roles are shared by
 * the whole cluster, so role names in tests carry `suffix()`.
 */
export async function createDatabase(options: { template?: string; clusterUrl?: string } = {}): Promise<TestDatabase> {
  const clusterUrl = options.clusterUrl ?? inject('clusterUrl');
  const name = `t_${suffix()}`;
  await onCluster(clusterUrl, `create database ${ident(name)}${options.template ? ` template ${ident(options.template)}` : ''}`);
  const url = withDatabase(clusterUrl, name);
  let client: pg.Client | undefined;
  const connect = async (): Promise<pg.Client> => {
    const fresh = new pg.Client(url);
    fresh.on('error', () => undefined); // the database is dropped with force below, which ends this session
    fresh.on('end', () => {
      client = undefined;
    });
    await fresh.connect();
    client = fresh;
    return fresh;
  };
  await connect();
  afterAll(async () => {
    await client?.end();
    await onCluster(clusterUrl, `drop database if exists ${ident(name)} with (force)`);
  });
  return {
    name,
    url,
    urlAs: (role) => withUser(url, role),
    query: <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) =>
      client ? client.query<Row>(text, values) : connect().then((fresh) => fresh.query<Row>(text, values)),
  };
}

/** Waits until no session has an advisory lock: those of a process that was killed stay until the server has noticed, and the next run is refused. */
export async function locksReleased(database: TestDatabase): Promise<void> {
  const held = `select from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())`;
  await expect.poll(async () => (await database.query(held)).rowCount, { timeout: 30_000, interval: 10 }).toBe(0);
}

/** Unique within the run: process id, time and a counter. */
export function suffix(): string {
  counter += 1;
  return `${process.pid}_${Date.now().toString(36)}_${counter}`;
}
let counter = 0;

async function onCluster(url: string, statement: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function withDatabase(url: string, database: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${encodeURIComponent(database)}`;
  return parsed.toString();
}

function withUser(url: string, user: string): string {
  const parsed = new URL(url);
  parsed.username = encodeURIComponent(user);
  parsed.password = '';
  return parsed.toString();
}
