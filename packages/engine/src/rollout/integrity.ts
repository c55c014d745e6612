import { createHash } from 'node:crypto';
import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { registryCheck } from '../verify/data-checks.ts';
import { orphanChecks } from '../wall/operations-sql.ts';
import type { WantedTable } from '../wall/shape.ts';
import { readWanted } from './follow-tables.ts';

/** What the rows of one table say. */
export interface TableIntegrity {
  readonly table: TableName;
  /** Null where they could not be counted in time. */
  readonly rows: number | null;
  /** Tenants that have rows in it. */
  readonly tenants: number;
  /** Rows of the last count; null where there was none. */
  readonly rowsBefore: number | null;
  /** Tenants, still registered, that have fewer rows than at the last count; `fellCount` of them, the first `fellMax` by name. */
  readonly fell: readonly { readonly tenant: string; readonly before: number; readonly now: number }[];
  readonly fellCount: number;
  /** Rows out of place: without a tenant, of one that is not there, or with a parent that is missing or another tenant's. */
  readonly problems: readonly { readonly problem: string; readonly via: string; readonly rows: number }[];
  /** Why a question about it could not be answered. */
  readonly failures: readonly string[];
}

export interface IntegrityReport {
  /** `damaged`: rows are out of place; `unknown`: nothing was found, and not everything could be asked. */
  readonly verdict: 'sound' | 'damaged' | 'unknown';
  readonly tables: readonly TableIntegrity[];
  /** Tables whose questions were all answered. */
  readonly visited: number;
  readonly of: number;
  readonly countedAt: Date;
  /** Moment of the count that this one is compared with. */
  readonly comparedWith: Date | null;
  /** Whether the next count can be compared with this one. */
  readonly kept: boolean;
}

export interface IntegrityOptions {
  /** How long one question about a table may read (milliseconds). */
  readonly timeoutMs?: number;
  /** False: the next count is compared with an earlier one. */
  readonly keep?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, of: number, table: TableName) => void;
}

export const integrityTimeoutMs = 120_000;
/** Tenants that are named for one table. */
const fellMax = 20;
/** With more tenants in a table only its total is kept. */
const tenantsKeptMax = 200_000;
const lacksPrivilege = '42501';

interface Question {
  readonly about: TableName;
  readonly query: string;
}

interface LastCount {
  readonly relation: string;
  readonly at: Date;
  readonly rows: number;
  readonly tenants: Readonly<Record<string, number>>;
}

/**
 * Counts the rows of every scoped table by tenant and looks for rows out of place, in one read-only snapshot. Only the count itself is written down, in
 * schema `partywall`, with tenants as hashes. Row security is off: whom a policy binds gets an error, never a count that is too low.
 *
 * @throws PartywallError lock_not_acquired where somebody holds a table exclusively
 */
export async function checkIntegrity(
  client: pg.ClientBase,
  input: { readonly model: TenancyModel; readonly now: Date },
  options: IntegrityOptions = {},
): Promise<IntegrityReport> {
  const { timeoutMs = integrityTimeoutMs, keep = true, signal, onProgress = () => undefined } = options;
  const wanted = await readWanted(client, input.model);
  // A partition's rows are counted through its parent, and so are an inheritance child's.
  const tables = [...wanted.tables.values()].filter(({ relation }) => !relation.isPartition && !relation.parents.some((parent) => wanted.tables.has(parent)));
  const questions: Question[] = [...orphanChecks(wanted), ...registryCheck(wanted)].map(({ table, query }) => ({ about: table, query }));
  const last = await readLast(client);

  const found: { table: TableIntegrity; counts: ReadonlyMap<string, number> | undefined }[] = [];
  await client.query(`begin isolation level repeatable read, read only; set local row_security = off`);
  try {
    const { rows: registered } = await client.query<{ tenant: string }>('select tenant_id::text as tenant from partywall.registry order by 1');
    const names = new Map(registered.map(({ tenant }) => [hashOf(tenant), tenant]));
    await client.query(`set local statement_timeout = ${timeoutMs}`);
    for (const [at, table] of tables.entries()) {
      signal?.throwIfAborted();
      onProgress(at, tables.length, table.relation.table);
      // An inheritance child has references of its own.
      const members = new Set([
        table.relation.table,
        ...[...wanted.tables.values()].flatMap(({ relation }) => (relation.parents.includes(table.relation.table) ? [relation.table] : [])),
      ]);
      found.push(await look(client, { table, questions: questions.filter(({ about }) => members.has(about)), before: last?.get(table.relation.table), names }));
    }
  } finally {
    await client.query('rollback');
  }
  const kept = keep && last !== undefined && (await keepCounts(client, { found, at: input.now }));
  const reports = found.map(({ table }) => table);
  const visited = reports.filter(({ failures }) => failures.length === 0).length;
  const damaged = reports.some(({ problems }) => problems.length > 0);
  const times = [...(last?.values() ?? [])].map(({ at }) => at.getTime());
  return {
    verdict: damaged ? 'damaged' : visited < reports.length ? 'unknown' : 'sound',
    tables: reports,
    visited,
    of: reports.length,
    countedAt: input.now,
    comparedWith: times.length === 0 ? null : new Date(Math.max(...times)),
    kept,
  };
}

/** All questions about one table; one that fails leaves the others. */
async function look(
  client: pg.ClientBase,
  {
    table,
    questions,
    before,
    names,
  }: {
    readonly table: WantedTable;
    readonly questions: readonly Question[];
    readonly before: LastCount | undefined;
    readonly names: ReadonlyMap<string, string>;
  },
): Promise<{ table: TableIntegrity; counts: ReadonlyMap<string, number> | undefined }> {
  const failures: string[] = [];
  const ask = async <Row extends pg.QueryResultRow>(query: string): Promise<Row[] | undefined> => {
    await client.query('savepoint pw_integrity');
    try {
      return (await client.query<Row>(query)).rows;
    } catch (error) {
      // Without an SQLSTATE the connection is gone.
      if (sqlState(error)?.length !== 5) throw error;
      await client.query('rollback to savepoint pw_integrity');
      failures.push(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  };
  const column = `t.${ident(table.column)}::text`;
  const counted = await ask<{ tenant: string | null; rows: number }>(
    `select ${column} as tenant, count(*)::float8 as rows from ${quoted(table.relation.table)} t group by 1`,
  );
  const problems: TableIntegrity['problems'][number][] = [];
  for (const { query } of questions) {
    problems.push(
      ...((await ask<TableIntegrity['problems'][number]>(`select problem, via, row_count::float8 as rows from (${query}) c (problem, via, row_count)`)) ?? []),
    );
  }
  const counts = counted && new Map(counted.flatMap(({ tenant, rows }) => (tenant === null ? [] : [[hashOf(tenant), rows] as const])));
  const fell = counts ? fallen(before, counts, names) : [];
  return {
    counts,
    table: {
      table: table.relation.table,
      rows: counted?.reduce((sum, { rows }) => sum + rows, 0) ?? null,
      tenants: counts?.size ?? 0,
      rowsBefore: before?.rows ?? null,
      fell: fell.slice(0, fellMax),
      fellCount: fell.length,
      problems,
      failures,
    },
  };
}

/** Tenants that are no longer registered have been erased, or moved: nobody misses their rows. */
function fallen(before: LastCount | undefined, counts: ReadonlyMap<string, number>, names: ReadonlyMap<string, string>): TableIntegrity['fell'][number][] {
  return Object.entries(before?.tenants ?? {})
    .flatMap(([hash, rows]) => {
      const tenant = names.get(hash);
      const now = counts.get(hash) ?? 0;
      return tenant !== undefined && now < rows ? [{ tenant, before: rows, now }] : [];
    })
    .sort((a, b) => (a.tenant < b.tenant ? -1 : 1));
}

/** Undefined where the wall is older than counts, or the role may not see them. */
async function readLast(client: pg.ClientBase): Promise<Map<string, LastCount> | undefined> {
  const { rows: found } = await client.query<{ readable: boolean | null }>(
    "select has_table_privilege(to_regclass('partywall.integrity_counts'), 'select') as readable",
  );
  if (!found[0]?.readable) return undefined;
  const { rows } = await client.query<LastCount>('select relation, counted_at as at, row_count::float8 as rows, tenants from partywall.integrity_counts');
  return new Map(rows.map((row) => [row.relation, row]));
}

/** What could not be counted keeps its last count. */
async function keepCounts(
  client: pg.ClientBase,
  { found, at }: { readonly found: readonly { readonly table: TableIntegrity; readonly counts: ReadonlyMap<string, number> | undefined }[]; readonly at: Date },
): Promise<boolean> {
  const rows = found.flatMap(({ table, counts }) =>
    counts ? [{ relation: table.table, rows: table.rows, tenants: counts.size > tenantsKeptMax ? {} : Object.fromEntries(counts) }] : [],
  );
  try {
    for (const { relation, rows: count, tenants } of rows) {
      await client.query(
        `insert into partywall.integrity_counts (relation, counted_at, row_count, tenants) values ($1, $2, $3, $4)
on conflict (relation) do update set counted_at = excluded.counted_at, row_count = excluded.row_count, tenants = excluded.tenants`,
        [relation, at, count, JSON.stringify(tenants)],
      );
    }
    return true;
  } catch (error) {
    if (sqlState(error) !== lacksPrivilege) throw error;
    return false;
  }
}

function hashOf(tenant: string): string {
  return createHash('sha256').update(tenant).digest('hex').slice(0, 16);
}
