import type pg from 'pg';
import { sqlState } from '../db/connect.ts';
import { type Operation, transaction } from '../db/operation.ts';
import { ident, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { partsOf, quoted, type TableName } from '../model/table-name.ts';

/** One table is counted in one statement; a larger one is left out of the sample, and the report says so. */
const tableTimeoutMs = 120_000;
/** Of a row as it is stored: header and line pointer, which no column tells. */
const rowOverheadBytes = 28;

export interface UsageSurvey {
  /** When it was begun; its samples carry this time. ISO 8601. */
  readonly at: string;
  /** Scoped tables of the model. */
  readonly tables: number;
  readonly counted: number;
  /** Tables that could not be counted, with the reason. */
  readonly unmeasured: readonly { readonly table: TableName; readonly reason: string }[];
}

/**
 * Counts the rows and bytes of every tenant in every scoped table: one grouped statement for each table, each in a transaction of its own. The
 * samples are read once all tables are done; a survey that was killed is never read, and goes with `pruneUsage`.
 */
export async function surveyUsage(operation: Operation, options: { readonly tableTimeoutMs?: number } = {}): Promise<UsageSurvey> {
  const { pool, model } = operation.database;
  const scoped = [...model.tables].flatMap(([table, rule]) => (rule.scope === 'scoped' ? [{ table, column: rule.column }] : []));
  const columns = await columnsOf(pool, model);
  const at = await begin(pool);
  const unmeasured: { table: TableName; reason: string }[] = [];
  for (const { table, column } of scoped) {
    operation.signal?.throwIfAborted();
    try {
      await transaction(pool, async (client) => {
        await client.query(`set local statement_timeout = ${Math.trunc(options.tableTimeoutMs ?? tableTimeoutMs)}`);
        await client.query(countSql(table, column, columns.get(table) ?? []), [at]);
      });
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === undefined) throw error;
      unmeasured.push({ table, reason });
    }
  }
  await pool.query('update partywall_control.usage_surveys set finished_at = now(), unmeasured = $2 where at = $1', [
    at,
    JSON.stringify(Object.fromEntries(unmeasured.map(({ table, reason }) => [table, reason]))),
  ]);
  return { at, tables: scoped.length, counted: scoped.length - unmeasured.length, unmeasured };
}

/** Every tenant has a sample, also one without a row; the time is the survey's key, so it is told apart from one begun in the same instant. */
async function begin(pool: pg.Pool): Promise<string> {
  const { rows } = await pool.query<{ at: string }>(
    `with survey as (
  insert into partywall_control.usage_surveys (at) values (clock_timestamp()) returning at
), samples as (
  insert into partywall_control.usage_samples (tenant_id, at, rows, storage) select d.tenant_id, s.at, '{}', 0 from partywall_control.directory d, survey s where d.status <> 'erasing'
)
select to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at from survey`,
  );
  return rows[0]?.at ?? '';
}

/**
 * A tenant that the directory does not list has no sample: its rows are orphans, which the wall reports. `pg_column_size` reads no TOAST table:
 * of a value that is kept there it tells the size from the pointer.
 */
function countSql(table: TableName, tenantColumn: string, columns: readonly string[]): string {
  const bytes = columns.map((column) => `coalesce(pg_column_size(t.${ident(column)}), 0)`);
  const name = literal(table);
  return `update partywall_control.usage_samples s set rows = s.rows || jsonb_build_object(${name}::text, c.n), storage = s.storage + c.bytes
from (
  select d.tenant_id, coalesce(r.n, 0) as n, coalesce(r.bytes, 0)::bigint as bytes from partywall_control.directory d left join (
    select t.${ident(tenantColumn)}::text as tenant_id, count(*) as n, sum(${[rowOverheadBytes, ...bytes].join(' + ')}) as bytes
    from ${quoted(table)} t group by 1
  ) r on r.tenant_id = d.tenant_id
) c
where s.tenant_id = c.tenant_id and s.at = $1`;
}

async function columnsOf(pool: pg.Pool, model: TenancyModel): Promise<ReadonlyMap<TableName, readonly string[]>> {
  const names = [...model.tables.keys()].map((table) => ({ table, ...partsOf(table) }));
  const { rows } = await pool.query<{ schema: string; name: string; columns: string[] }>(
    `select n.nspname as schema, c.relname as name, array_agg(a.attname::text order by a.attnum) as columns
from unnest($1::text[], $2::text[]) as wanted (schema, name)
  join pg_namespace n on n.nspname = wanted.schema join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
group by 1, 2`,
    [names.map(({ schema }) => schema), names.map(({ name }) => name)],
  );
  return new Map(names.map(({ table, schema, name }) => [table, rows.find((row) => row.schema === schema && row.name === name)?.columns ?? []] as const));
}

/** What speaks of one table and not of the database: it is named in the report, and the others are counted. */
function reasonOf(error: unknown): string | undefined {
  const code = sqlState(error);
  if (code === '57014') return 'takes longer than a table may';
  if (code === '42P01' || code === '42703') return 'the table or its tenant column is not there';
  if (code === '42501') return 'the service role may not read it';
  if (code === '55P03') return 'locked';
  return undefined;
}
