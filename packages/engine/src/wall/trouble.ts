import type pg from 'pg';
import { type Catalog, columnOf, type Relation } from '../catalog/catalog.ts';
import { ident, identList, literal } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import type { WantedTable, WantedWall } from './shape.ts';

/**
 * Rows that the wall cannot hold as they are: without a tenant, of a tenant that does not exist, or referring to another tenant's
 * row. They are found before anything is validated, listed, and taken aside only on request.
 */
export interface TroubledRows {
  readonly table: TableName;
  readonly kind: 'no tenant' | 'unknown tenant' | 'crosses tenants';
  /** The reference that crosses, for `crosses tenants`. */
  readonly constraint: string | undefined;
  readonly count: number;
  /** Primary keys (or row addresses) of the first of them, as JSON text. */
  readonly sample: readonly string[];
}

const sampleRowsMax = 10;

interface Question {
  readonly table: WantedTable;
  readonly kind: TroubledRows['kind'];
  readonly constraint: string | undefined;
  /** Condition on `row`. */
  readonly where: string;
}

/** The questions, each a condition on the row `row`; also what verify asks again after contract. */
export function troubleQuestions(model: TenancyModel, catalog: Catalog, wanted: WantedWall): Question[] {
  const root = `${quoted(model.tenant.table)} root where root.${ident(model.tenant.key)}`;
  return [...wanted.tables.values()].flatMap((table) => {
    if (columnOf(table.relation, table.column) === undefined || table.relation.isPartition) return [];
    const tenant = `row.${ident(table.column)}`;
    const own: Question[] = table.rule
      ? [
          { table, kind: 'no tenant', constraint: undefined, where: `${tenant} is null` },
          { table, kind: 'unknown tenant', constraint: undefined, where: `${tenant} is not null and not exists (select from ${root} = ${tenant})` },
        ]
      : [];
    return [...own, ...crossings(catalog, table, wanted)];
  });
}

/** One per foreign key between scoped tables, whether it is still plain or already carries the tenant. */
function crossings(catalog: Catalog, table: WantedTable, wanted: WantedWall): Question[] {
  return table.relation.constraints.flatMap(({ name, foreign, columns, inherited }) => {
    const target = foreign && wanted.tables.get(foreign.table);
    const relation = foreign && catalog.relations.get(foreign.table);
    if (!foreign || !target?.rule || inherited || !relation || columnOf(relation, target.column) === undefined) return [];
    const pairs = columns.map((column, at) => ({ column, references: foreign.columns[at] ?? '' })).filter((pair) => pair.column !== table.column);
    if (pairs.length === 0) return [];
    const matches = pairs.map((pair) => `parent.${ident(pair.references)} = row.${ident(pair.column)}`).join(' and ');
    const tenants = `parent.${ident(target.column)} is not null and row.${ident(table.column)} is not null and parent.${ident(target.column)}::text <> row.${ident(table.column)}::text`;
    // With a key that is unique in each tenant only, a row of its own tenant may be beside the other's.
    const own = `not exists (select from ${quoted(foreign.table)} parent where ${matches} and parent.${ident(target.column)}::text = row.${ident(table.column)}::text)`;
    return {
      table,
      kind: 'crosses tenants' as const,
      constraint: name,
      where: `exists (select from ${quoted(foreign.table)} parent where ${matches} and ${tenants}) and ${own}`,
    };
  });
}

export async function findTroubledRows(client: pg.ClientBase, model: TenancyModel, catalog: Catalog, wanted: WantedWall): Promise<TroubledRows[]> {
  const found: TroubledRows[] = [];
  for (const { table, kind, constraint, where } of troubleQuestions(model, catalog, wanted)) {
    const name = quoted(table.relation.table);
    const { rows } = await client.query<{ count: number; sample: string[] | null }>(
      `select count(*)::int as count, (array_agg(key))[1:${sampleRowsMax}] as sample from (select ${rowKey(table.relation)} as key from ${name} row where ${where}) troubled`,
    );
    const [row] = rows;
    if (row && row.count > 0) found.push({ table: table.relation.table, kind, constraint, count: row.count, sample: row.sample ?? [] });
  }
  return found;
}

/** A line for a person: table, kind, count, the first keys. */
export function describeTrouble(rows: TroubledRows): string {
  const which =
    rows.kind === 'crosses tenants'
      ? `refer to another tenant's row by ${rows.constraint}`
      : rows.kind === 'no tenant'
        ? 'have no tenant'
        : 'have a tenant that does not exist';
  return `${rows.table}: ${rows.count} ${rows.count === 1 ? 'row' : 'rows'} ${which}: ${rows.sample.join(', ')}${rows.count > rows.sample.length ? ', …' : ''}`;
}

/**
 * Takes troubled rows aside, and with them whatever refers to them (it would hang in the air), into `partywall.quarantine` as JSON
 * images. One transaction; returns how many rows each table lost. To bring a row back:
 * `insert into t select (jsonb_populate_record(null::t, q.row)).* from partywall.quarantine q where ...`.
 */
export async function quarantine(
  client: pg.ClientBase,
  model: TenancyModel,
  catalog: Catalog,
  wanted: WantedWall,
  superuser: boolean,
): Promise<ReadonlyMap<TableName, number>> {
  await client.query('begin');
  try {
    if (superuser) await client.query('set local session_replication_role = replica');
    await client.query(quarantineTableSql);
    await client.query(
      'create temporary table pw_aside (relation oid not null, at tid not null, reason text not null, depth int not null, primary key (relation, at)) on commit drop',
    );
    for (const { table, kind, constraint, where } of troubleQuestions(model, catalog, wanted)) {
      const reason = constraint ? `${kind} by ${constraint}` : kind;
      await client.query(
        `insert into pg_temp.pw_aside select row.tableoid, row.ctid, ${literal(reason)}, 0 from ${quoted(table.relation.table)} row where ${where} on conflict do nothing`,
      );
    }
    await addDependents(client, catalog);
    const taken = await takeAside(client, catalog);
    await client.query("insert into partywall.facts (name, value) values ('quarantined', 'true') on conflict (name) do nothing");
    await client.query('commit');
    return taken;
  } catch (error) {
    await client.query('rollback');
    throw error;
  }
}

const quarantineTableSql = `create table if not exists partywall.quarantine (
  id bigint generated always as identity primary key,
  relation text not null,
  reason text not null,
  "row" jsonb not null,
  taken_at timestamptz not null default now()
)`;

/** Until nothing new is found: rows whose foreign key points at a row that goes. */
async function addDependents(client: pg.ClientBase, catalog: Catalog): Promise<void> {
  for (let depth = 1; ; depth += 1) {
    let added = 0;
    for (const relation of catalog.relations.values()) {
      for (const { foreign, columns, name, inherited } of relation.constraints) {
        if (!foreign || inherited) continue;
        const on = columns.map((column, at) => `parent.${ident(foreign.columns[at] ?? '')} = row.${ident(column)}`).join(' and ');
        const result = await client.query(
          `insert into pg_temp.pw_aside select row.tableoid, row.ctid, ${literal(`refers by ${name} to a row that was taken aside`)}, ${depth}
           from ${quoted(relation.table)} row join ${quoted(foreign.table)} parent on ${on}
           join pg_temp.pw_aside aside on aside.relation = parent.tableoid and aside.at = parent.ctid and aside.depth = ${depth - 1}
           on conflict do nothing`,
        );
        added += result.rowCount ?? 0;
      }
    }
    if (added === 0) return;
  }
}

/** Deepest dependents first, so that no foreign key is broken on the way. */
async function takeAside(client: pg.ClientBase, catalog: Catalog): Promise<ReadonlyMap<TableName, number>> {
  const taken = new Map<TableName, number>();
  const { rows } = await client.query<{ relation: number; depth: number }>(
    'select relation::int8::float8 as relation, depth from pg_temp.pw_aside group by 1, 2 order by depth desc, relation',
  );
  const byOid = new Map([...catalog.relations.values()].map((relation) => [relation.oid, relation]));
  for (const { relation: oid, depth } of rows) {
    const relation = byOid.get(oid);
    if (!relation) throw new Error(`taking rows aside: relation ${oid} is not in the catalog`);
    const name = quoted(relation.table);
    const chosen = `from pg_temp.pw_aside aside where aside.relation = ${oid} and aside.depth = ${depth} and aside.at = row.ctid`;
    await client.query(
      `insert into partywall.quarantine (relation, reason, "row") select ${literal(relation.table)}, aside.reason, to_jsonb(row) from only ${name} row, pg_temp.pw_aside aside where aside.relation = ${oid} and aside.depth = ${depth} and aside.at = row.ctid`,
    );
    const gone = await client.query(`delete from only ${name} row where exists (select ${chosen})`);
    taken.set(relation.table, (taken.get(relation.table) ?? 0) + (gone.rowCount ?? 0));
  }
  return taken;
}

/** SQL of a row's key as JSON text, its address where it has none. */
function rowKey(relation: Relation): string {
  const primary = relation.constraints.find((constraint) => constraint.kind === 'primary');
  if (!primary) return 'row.ctid::text';
  const [only, ...more] = primary.columns;
  return more.length === 0 && only !== undefined
    ? `to_json(row.${ident(only)})::text`
    : `json_build_array(${identList(primary.columns).replaceAll(/(^|, )"/g, '$1row."')})::text`;
}
