import type pg from 'pg';
import { columnOf } from '../catalog/catalog.ts';
import { readCatalog } from '../catalog/read-catalog.ts';
import { identList } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName, tableName } from '../model/table-name.ts';
import { planWall, stepSql } from './plan.ts';
import { type WantedWall, wantedWall } from './shape.ts';

/** Tenant queries slower than this on average are listed. */
const slowQueryMs = 20;
const listMax = 50;

/** What to do about the indexes of the walled tables. Nothing here is carried out; each missing index comes with its statement. */
export interface IndexAdvice {
  /** Wanted by the wall or by a cascade, each built beside writers. */
  readonly missing: readonly { readonly table: TableName; readonly reason: string; readonly statement: string }[];
  /** Not read since the statistics began, and carrying no constraint or foreign key. */
  readonly unused: readonly { readonly table: TableName; readonly index: string; readonly bytes: number }[];
  /** Statements over walled tables by mean time, from pg_stat_statements; undefined where that is not installed. */
  readonly slow: readonly { readonly query: string; readonly meanMs: number; readonly calls: number }[] | undefined;
  /** When the usage statistics were last reset, ISO 8601; undefined: never. An index unused since yesterday says little. */
  readonly since: string | undefined;
}

/** The client must be able to read the statistics views (a superuser, or a member of pg_read_all_stats for others' statements). */
export async function adviseIndexes(client: pg.ClientBase, model: TenancyModel): Promise<IndexAdvice> {
  const catalog = await readCatalog(client);
  const wanted = wantedWall(model, catalog);
  const planned = planWall(model, catalog).steps.flatMap(
    (step) =>
      step.table && step.id.startsWith('expand/index/')
        ? stepSql(step).map((statement) => ({ table: step.table as TableName, reason: step.reason, statement }))
        : [], // narrowed by the test beside it
  );
  const { rows } = await client.query<{ since: string | null }>(
    'select to_char(stats_reset at time zone \'UTC\', \'YYYY-MM-DD"T"HH24:MI:SS"Z"\') as since from pg_catalog.pg_stat_database where datname = current_database()',
  );
  return {
    missing: [...planned, ...unitIndexes(wanted), ...cascadeIndexes(wanted)],
    unused: await unusedIndexes(client, wanted),
    slow: await slowQueries(client, wanted),
    since: rows[0]?.since ?? undefined,
  };
}

/** What an application asks of one unit names the unit, and reads all of the tenant's rows where no index knows both. */
function unitIndexes(wanted: WantedWall): IndexAdvice['missing'] {
  return [...wanted.tables.values()].flatMap(({ relation, column, unit }) => {
    // The key of the units themselves is led by a key of its own; a partition's indexes are its parent's.
    if (!unit || relation.isPartition || relation.table === wanted.unitTable) return [];
    const isLed = relation.indexes.some((index) => index.valid && !index.predicate && index.columns[0] === column && index.columns[1] === unit.column);
    if (isLed) return [];
    const statement = `create index concurrently on ${quoted(relation.table)} (${identList([column, unit.column])})`;
    return [{ table: relation.table, reason: 'reads inside a unit are by tenant and unit', statement }];
  });
}

/** A foreign key that cascades reads its table for every deleted parent: without an index on its columns, all of it. */
function cascadeIndexes(wanted: WantedWall): IndexAdvice['missing'] {
  return [...wanted.tables.values()].flatMap(({ relation, column }) =>
    relation.constraints.flatMap(({ foreign, columns, name, inherited }) => {
      if (!foreign || inherited) return [];
      const own = columns.filter((candidate) => candidate !== column);
      const isLed = relation.indexes.some(
        (index) => index.valid && !index.predicate && own.every((candidate) => index.columns.slice(0, own.length + 1).includes(candidate)),
      );
      if (own.length === 0 || isLed) return [];
      // Between scoped tables the key carries the tenant; to shared ones it does not.
      const leads = wanted.tables.has(foreign.table) && columnOf(relation, column) !== undefined;
      return {
        table: relation.table,
        reason: `${name} is followed from its parent's side on every delete and key change`,
        statement: `create index concurrently on ${quoted(relation.table)} (${identList(leads ? [column, ...own] : own)})`,
      };
    }),
  );
}

async function unusedIndexes(client: pg.ClientBase, wanted: WantedWall): Promise<IndexAdvice['unused']> {
  const { rows } = await client.query<{
    schema: string;
    name: string;
    index: string;
    bytes: string;
  }>(`select s.schemaname as schema, s.relname as name, s.indexrelname as index, pg_relation_size(s.indexrelid) as bytes
    from pg_catalog.pg_stat_user_indexes s join pg_catalog.pg_index i on i.indexrelid = s.indexrelid
    where s.idx_scan = 0 and not i.indisunique and not i.indisexclusion and not exists (select from pg_catalog.pg_constraint k where k.conindid = s.indexrelid)
    order by pg_relation_size(s.indexrelid) desc`);
  const found = rows.map((row) => ({ table: tableName(row.schema, row.name), index: row.index, bytes: Number(row.bytes) }));
  const carriesForeignKey = ({ table, index }: { table: TableName; index: string }) => {
    const entry = wanted.tables.get(table);
    const live = entry?.relation.indexes.find(({ name }) => name === index);
    return (
      entry?.relation.constraints.some(
        ({ kind, columns }) => kind === 'foreign' && columns.some((column) => column !== entry.column && live?.columns.includes(column)),
      ) ?? false
    );
  };
  return found.filter((row) => wanted.tables.has(row.table) && !carriesForeignKey(row)).slice(0, listMax);
}

async function slowQueries(client: pg.ClientBase, wanted: WantedWall): Promise<IndexAdvice['slow']> {
  const extension = await client.query<{ schema: string }>(
    "select n.nspname as schema from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'",
  );
  const [installed] = extension.rows;
  if (!installed) return undefined;
  const names = [...wanted.tables.values()].map(({ relation }) => relation.name);
  const { rows } = await client.query<{ query: string; mean: number; calls: string }>(
    `select s.query, s.mean_exec_time as mean, s.calls from ${identList([installed.schema])}.pg_stat_statements s
     where s.dbid = (select oid from pg_catalog.pg_database where datname = current_database()) and s.mean_exec_time > $1
       and s.query ~* '^\\s*(select|insert|update|delete|with|merge)\\M' and exists (select from unnest($2::text[]) t where position(lower(t) in lower(s.query)) > 0)
     order by s.mean_exec_time desc limit ${listMax}`,
    [slowQueryMs, names],
  );
  return rows.map((row) => ({ query: row.query, meanMs: row.mean, calls: Number(row.calls) }));
}
