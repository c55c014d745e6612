import type pg from 'pg';
import type { Catalog, Relation } from '../catalog/catalog.ts';
import { dollarQuote, ident, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { noteQuarantineSql } from './facts.ts';
import { type InTime, type StepContext, withRetriedLocks } from './run-step.ts';
import type { WantedWall } from './shape.ts';
import { rowsOf, troubleQuestions } from './trouble.ts';

/**
 * Takes troubled rows aside, and with them whatever refers to them (it would hang in the air), into `partywall.quarantine` as JSON
 * images. One transaction; returns how many rows each table lost. A row comes back by `select partywall.put_back(id)`, parents first.
 *
 * Each row is locked where it is chosen. From then on nobody can change it or refer to it anew: whoever tries waits for the end of
 * this transaction, and what was referred to before is found by the next statement. So it holds also where the foreign keys' own
 * checks are off (a superuser switches the application's triggers off, and these with them).
 *
 * @throws PartywallError lock_not_acquired where writers keep one of the rows
 */
export async function quarantine(
  model: TenancyModel,
  catalog: Catalog,
  wanted: WantedWall,
  context: Pick<StepContext, 'client' | 'quiet' | 'signal' | 'lockAttempts'>,
): Promise<ReadonlyMap<TableName, number>> {
  const { client } = context;
  return withRetriedLocks('taking rows aside', context, async (inTime) => {
    if (context.quiet) await client.query('set local session_replication_role = replica');
    for (const statement of quarantineSql) await client.query(statement);
    await client.query(
      'create temporary table pw_aside (relation oid not null, at tid not null, reason text not null, depth int not null, primary key (relation, at)) on commit drop',
    );
    for (const { table, kind, constraint, where } of troubleQuestions(model, catalog, wanted)) {
      const reason = constraint ? `${kind} by ${constraint}` : kind;
      const choose = `insert into pg_temp.pw_aside select pw_row.tableoid, pw_row.ctid, ${literal(reason)}, 0 from ${rowsOf(table.relation)} pw_row where ${where} for update of pw_row on conflict do nothing`;
      await inTime(() => client.query(choose));
    }
    await addDependents(client, catalog, inTime);
    return takeAside(client, catalog, inTime);
  });
}

const putBackBody = `declare
  taken partywall.quarantine;
  names text;
begin
  delete from partywall.quarantine q where q.id = put_back.id returning q.* into taken;
  if not found then
    raise exception 'no row % in the quarantine', put_back.id using errcode = 'no_data_found';
  end if;
  select string_agg(format('%I', a.attname), ', ' order by a.attnum) into names from pg_attribute a
    where a.attrelid = taken.relation::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '';
  execute format('insert into %1$s (%2$s) overriding system value select %2$s from jsonb_populate_record(null::%1$s, $1)', taken.relation, names) using taken."row";
end`;

/** What `select partywall.put_back(id)` calls. */
export const putBackSql = `create or replace function partywall.put_back(id bigint) returns void language plpgsql set search_path = pg_catalog, pg_temp as ${dollarQuote(putBackBody)}`;

/** The function lives as long as the table: a rollback leaves both. */
const quarantineSql = [
  `create table if not exists partywall.quarantine (
  id bigint generated always as identity primary key,
  relation text not null,
  reason text not null,
  "row" jsonb not null,
  taken_at timestamptz not null default now()
)`,
  putBackSql,
  'revoke all on function partywall.put_back(bigint) from public',
  noteQuarantineSql,
];

/** Until nothing new is found: rows whose foreign key points at a row that goes. */
async function addDependents(client: pg.ClientBase, catalog: Catalog, inTime: InTime): Promise<void> {
  for (let depth = 1; ; depth += 1) {
    let added = 0;
    for (const relation of catalog.relations.values()) {
      for (const { foreign, columns, name, inherited, enforced } of relation.constraints) {
        const target = foreign && catalog.relations.get(foreign.table);
        if (!foreign || !target || inherited || !enforced) continue;
        const on = columns.map((column, at) => `pw_parent.${ident(foreign.columns[at] ?? '')} = pw_row.${ident(column)}`).join(' and ');
        const choose = `insert into pg_temp.pw_aside select pw_row.tableoid, pw_row.ctid, ${literal(`refers by ${name} to a row that was taken aside`)}, ${depth}
           from ${rowsOf(relation)} pw_row join ${rowsOf(target)} pw_parent on ${on}
           join pg_temp.pw_aside aside on aside.relation = pw_parent.tableoid and aside.at = pw_parent.ctid and aside.depth = ${depth - 1}
           for update of pw_row on conflict do nothing`;
        const result = await inTime(() => client.query(choose));
        added += result.rowCount ?? 0;
      }
    }
    if (added === 0) return;
  }
}

/**
 * All images first, then all rows in one statement: foreign keys are checked at its end, so their order does not matter, and a cascade finds
 * nothing that is not in the quarantine.
 */
async function takeAside(client: pg.ClientBase, catalog: Catalog, inTime: InTime): Promise<ReadonlyMap<TableName, number>> {
  const { rows } = await client.query<{ relation: number; count: number }>(
    'select relation::int8::float8 as relation, count(*)::int as count from pg_temp.pw_aside group by 1 order by min(depth), 1',
  );
  const byOid = new Map([...catalog.relations.values()].map((relation) => [relation.oid, relation]));
  const relations = rows.map(({ relation: oid, count }) => {
    const relation = byOid.get(oid);
    if (!relation) throw new Error(`taking rows aside: relation ${oid} is not in the catalog`);
    return { relation, count };
  });
  if (relations.length === 0) return new Map();
  const aside = (relation: Relation) => `pg_temp.pw_aside aside where aside.relation = ${relation.oid} and aside.at = pw_row.ctid`;
  const images = relations.map(
    ({ relation }) =>
      `select ${literal(relation.table)}, aside.reason, to_jsonb(pw_row.*), aside.depth from only ${quoted(relation.table)} pw_row, ${aside(relation)}`,
  );
  await client.query(
    `insert into partywall.quarantine (relation, reason, "row") select i.relation, i.reason, i."row" from (${images.join('\nunion all ')}) i (relation, reason, "row", depth) order by i.depth, i.relation`,
  );
  const deletions = relations.map(({ relation }, at) => `d${at} as (delete from only ${quoted(relation.table)} pw_row using ${aside(relation)} returning 1)`);
  const counts = relations.map((_, at) => `(select count(*)::int from d${at}) as d${at}`);
  const gone = await inTime(() => client.query<Record<string, number>>(`with ${deletions.join(', ')} select ${counts.join(', ')}`));
  const taken = new Map<TableName, number>();
  for (const [at, { relation, count }] of relations.entries()) {
    const deleted = gone.rows[0]?.[`d${at}`] ?? 0;
    if (deleted !== count)
      throw new Error(`taking rows aside: ${deleted} of ${count} rows of ${relation.table} could be deleted; a trigger or a rule kept the others`);
    taken.set(relation.table, count);
  }
  return taken;
}
