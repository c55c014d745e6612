import type pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { ident, literal } from '../../db/sql.ts';
import { PartywallError } from '../../errors.ts';
import type { TenancyModel } from '../../model/model.ts';
import { partsOf, quoted, type TableName, tableName } from '../../model/table-name.ts';
import { effectiveRule } from '../../wall/shape.ts';
import { only } from './tables.ts';

/**
 * Proof that a restore touched no neighbour. PostgreSQL counts what a transaction does to each table, by whatever statement, cascade or
 * trigger (`pg_stat_xact_*`), so the counters of every table of the database are held to what the restore's own statements say they changed. Those
 * ran as a role that policies bind to the tenant, so a table whose counters say the same is proven. Where they say more, a cascade or a trigger was
 * at work: then the table has to have an owner column, no row of another tenant may have been written by this transaction, and rows that came
 * less rows that went must be what the tenant's own rows account for; what is left over would be rows that another tenant lost.
 *
 * The server goes on counting what earlier transactions of the session and rolled-back savepoints did: the baseline is read after them. It does
 * not count TRUNCATE; that leaves a lock which nothing else here takes, so the locks are looked at too.
 */
export interface RowProof {
  /** Every table of the database. */
  readonly tables: number;
  /** Tables where more happened than was asked for, and only to the tenant's own rows. */
  readonly examined: readonly string[];
}

/** What was done to the rows of a table. */
export interface RowCounts {
  readonly inserted: number;
  readonly updated: number;
  readonly deleted: number;
}

export type CountsByTable = ReadonlyMap<TableName, RowCounts>;

/** A table as the counters have it. */
interface Counted extends RowCounts {
  /** It has the column that the control plane's own tables have the tenant in. */
  readonly owned: boolean;
}

const none: RowCounts = { inserted: 0, updated: 0, deleted: 0 };
/** Schemas whose tables have the tenant in this column. */
const controlSchemas = ['partywall', 'partywall_control', 'partywall_people'];
const controlColumn = 'tenant_id';
const strangersMax = 50;
/** Tables that one statement counts the tenant's rows in. */
const countedAtOnce = 100;

/** A partitioned table stands for its partitions. Catalogs and temporary tables are the session's business. */
const countersSql = `select n.nspname as schema, r.relname as name, pg_catalog.current_setting('track_counts') = 'on' as counting,
  exists (select from pg_catalog.pg_attribute a where a.attrelid = r.oid and a.attname = '${controlColumn}' and not a.attisdropped) as owned,
  sum(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid))::text as inserted, sum(pg_catalog.pg_stat_get_xact_tuples_updated(c.oid))::text as updated,
  sum(pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid))::text as deleted
from pg_catalog.pg_class c join pg_catalog.pg_class r on r.oid = coalesce(pg_catalog.pg_partition_root(c.oid), c.oid) join pg_catalog.pg_namespace n on n.oid = r.relnamespace
where c.relkind in ('r', 'm') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
group by r.oid, n.nspname, r.relname`;

/** What writing rows takes; a TRUNCATE or a change of a table takes more, and keeps it until the end. */
const strongLocksSql = `select n.nspname as schema, c.relname as name, string_agg(distinct l.mode, ', ') as mode from pg_catalog.pg_locks l join pg_catalog.pg_class c on c.oid = l.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where l.locktype = 'relation' and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()) and l.pid = pg_catalog.pg_backend_pid()
  and c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'pg_toast') and l.mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
group by n.nspname, c.relname`;

/** @throws PartywallError import_conflict where the server does not count */
export async function readCounts(client: pg.ClientBase): Promise<ReadonlyMap<TableName, Counted>> {
  const { rows } = await client.query<CountersRow>(countersSql);
  if (!rows.every(({ counting }) => counting))
    throw new PartywallError('import_conflict', 'restoring a tenant: track_counts is off, so nothing tells that no neighbour is touched');
  return new Map(
    rows.map(({ schema, name, owned, inserted, updated, deleted }) => [
      tableName(schema, name),
      { owned, inserted: Number(inserted), updated: Number(updated), deleted: Number(deleted) },
    ]),
  );
}

interface CountersRow extends Record<keyof RowCounts, string> {
  readonly schema: string;
  readonly name: string;
  readonly counting: boolean;
  readonly owned: boolean;
}

export interface Proving {
  readonly tenant: string;
  readonly model: TenancyModel;
  readonly catalog: Catalog;
  /** What the statements of the restore changed, since `before`. */
  readonly asked: CountsByTable;
  /** Rows that the tenant must have gained in each table that is restored. */
  readonly net: ReadonlyMap<string, number>;
  /** Rows that the tenant had before in its other tables (`countOthers`). */
  readonly others: ReadonlyMap<TableName, number>;
}

/**
 * Holds what happened to each table since `before` to what was asked for.
 *
 * @throws PartywallError import_conflict, naming every table that does not agree
 */
export async function proveRows(client: pg.ClientBase, before: CountsByTable, proving: Proving): Promise<RowProof> {
  const after = await readCounts(client);
  const examined: TableName[] = [];
  const strange: string[] = [];
  for (const [table, now] of after) {
    const then = before.get(table) ?? none;
    const change = { inserted: now.inserted - then.inserted, updated: now.updated - then.updated, deleted: now.deleted - then.deleted };
    const asked = proving.asked.get(table) ?? none;
    if (change.inserted === asked.inserted && change.updated === asked.updated && change.deleted === asked.deleted) continue;
    const problem = await beyond(client, table, change, proving);
    if (problem === undefined) examined.push(table);
    else
      strange.push(
        `${table}: ${problem} (${change.inserted} inserted, ${change.updated} updated, ${change.deleted} deleted; asked for ${asked.inserted}, ${asked.updated}, ${asked.deleted})`,
      );
  }
  const { rows: locks } = await client.query<{ schema: string; name: string; mode: string }>(strongLocksSql);
  strange.push(...locks.map(({ schema, name, mode }) => `${tableName(schema, name)}: something took ${mode}, as TRUNCATE does`));
  if (strange.length === 0) return { tables: after.size, examined };
  throw new PartywallError('import_conflict', `restoring a tenant: a trigger or cascade reaches beyond it: ${strange[0]}`, {
    details: strange.slice(0, strangersMax),
  });
}

/**
 * Rows of the tenant in its tables that are not restored themselves: triggers may write them, and they must stay accounted for.
 *
 * @param tables all of the database
 */
export async function countOthers(
  client: pg.ClientBase,
  tables: ReadonlyMap<TableName, Counted>,
  { tenant, model, catalog, restored }: Pick<Proving, 'tenant' | 'model' | 'catalog'> & { readonly restored: readonly TableName[] },
): Promise<ReadonlyMap<TableName, number>> {
  const counting = [...tables].flatMap(([table, { owned }]) => {
    const { schema, name } = partsOf(table);
    const column = ownerColumn(table, model, catalog) ?? (owned && controlSchemas.includes(schema) ? controlColumn : undefined);
    if (column === undefined || restored.includes(table) || /^audit_/.test(name)) return [];
    return [`select ${literal(table)} as name, count(*)::text as count from ${own(table, catalog)} t where t.${ident(column)} = ${literal(tenant)}`];
  });
  const counts = new Map<TableName, number>();
  for (let from = 0; from < counting.length; from += countedAtOnce) {
    const { rows } = await client.query<{ name: TableName; count: string }>(counting.slice(from, from + countedAtOnce).join('\nunion all '));
    for (const { name, count } of rows) counts.set(name, Number(count));
  }
  return counts;
}

/** Why what happened to a table cannot be the tenant's own doing alone; undefined where it is. */
async function beyond(
  client: pg.ClientBase,
  table: TableName,
  change: RowCounts,
  { tenant, model, catalog, net, others }: Proving,
): Promise<string | undefined> {
  const control = others.has(table) ? controlColumn : undefined;
  const column = ownerColumn(table, model, catalog) ?? control;
  const count = others.get(table);
  if (column === undefined) return 'it is no tenant’s, and changed';
  const gained = net.get(table) ?? (count === undefined ? undefined : (await countOwn(client, own(table, catalog), column, tenant)) - count);
  if (gained === undefined || change.inserted - change.deleted !== gained) return 'rows of another tenant came or went';
  return (await wroteForeign(client, own(table, catalog), column, tenant)) ? 'a row of another tenant was written' : undefined;
}

function ownerColumn(table: TableName, model: TenancyModel, catalog: Catalog): string | undefined {
  const relation = catalog.relations.get(table);
  const rule = relation && effectiveRule(model, catalog, relation);
  if (rule === 'root') return model.tenant.key;
  return rule?.scope === 'scoped' ? rule.column : undefined;
}

async function countOwn(client: pg.ClientBase, from: string, column: string, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: string }>(`select count(*) from ${from} t where t.${ident(column)} = $1`, [tenant]);
  return Number(rows[0]?.count ?? 0);
}

/**
 * Whether this transaction wrote a row of another tenant. A row written under a savepoint carries a number of its own, later than the
 * transaction's and, as long as it has not committed, in progress; rows of others that are visible have committed. Reads the whole table.
 */
async function wroteForeign(client: pg.ClientBase, from: string, column: string, tenant: string): Promise<boolean> {
  const { rowCount } = await client.query(
    `select from ${from} t, (select pg_catalog.pg_current_xact_id() as top) x where t.${ident(column)} is distinct from $1
and case when pg_catalog.age(t.xmin) <= pg_catalog.age(x.top::xid)
  then pg_catalog.pg_xact_status((x.top::text::int8 + (pg_catalog.age(x.top::xid) - pg_catalog.age(t.xmin)))::text::xid8) = 'in progress' end limit 1`,
    [tenant],
  );
  return rowCount !== 0;
}

/** Inheritance children are counted as tables of their own; those of the control plane have none. */
function own(table: TableName, catalog: Catalog): string {
  const relation = catalog.relations.get(table);
  return relation ? only(relation) : quoted(table);
}
