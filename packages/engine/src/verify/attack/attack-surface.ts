import pg from 'pg';
import type { Catalog } from '../../catalog/catalog.ts';
import { ident, identList } from '../../db/sql.ts';
import type { TenancyModel } from '../../model/model.ts';
import { quoted, type TableName } from '../../model/table-name.ts';
import { contextValue } from '../../wall/context-sql.ts';
import { sealedFact } from '../../wall/runtime.ts';
import type { WantedTable } from '../../wall/shape.ts';
import type { AttackRuleId } from '../rules/rules.ts';
import { installedContext, type StaticFacts, topTables } from '../static/static-facts.ts';
import { type AttackResult, notApplicable, stuck } from './attack-result.ts';
import { type Troupe, tenantWithRows } from './cast.ts';
import type { ColumnFactsOf } from './column-facts.ts';
import { asParent, type Bed, findRow, type Garden, type PlantResult, plant, undone } from './plant.ts';
import type { Cast, Scene, TableAttack } from './scene.ts';
import { attackSession } from './session-attacks.ts';
import { shadowAttacks } from './shadow-attacks.ts';
import { judgeNoContext, tableAttacks } from './table-attacks.ts';
import { become, enter, type Means, rolledBack, type Transaction } from './transaction.ts';
import { attackView } from './view-attack.ts';

/** How the application reaches the database. */
export type Surface = 'direct' | 'pooler';

export interface SurfaceOptions {
  readonly surface: Surface;
  readonly url: string;
  readonly facts: StaticFacts;
  readonly columnFacts: ColumnFactsOf;
  readonly troupe: Troupe;
  /** The administrator's session: finds what the application may not see. It changes nothing. */
  readonly admin: pg.Client;
  readonly wants: (rule: AttackRuleId) => boolean;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (done: number, total: number, what: string) => void;
}

export interface SurfaceReport {
  readonly surface: Surface;
  readonly results: readonly AttackResult[];
  /** Why the surface as a whole, or the rest of it, could not be attacked. */
  readonly failure: string | undefined;
}

const connectTimeoutMs = 10_000;
/** Rows of a table that no tenant owns to choose from; a reference to it may have to be unique. */
const existingRowsMax = 20;

/** Runs every wanted attack over one connection string, as the application's own role. */
export async function attackSurface(options: SurfaceOptions): Promise<SurfaceReport> {
  const results: AttackResult[] = [];
  const { surface, facts } = options;
  const { cast } = options.troupe;
  if (!cast) {
    const found = options.troupe.enterable === 0 ? 'none' : String(options.troupe.enterable);
    return { surface, results, failure: `attacks need two active tenants, and the database has ${found}` };
  }
  let client: pg.Client;
  try {
    client = await connectAsApplication(options.url, surface);
  } catch (error) {
    return { surface, results, failure: `connecting as the application: ${error instanceof Error ? error.message : String(error)}` };
  }
  const stage: Stage = { ...options, cast, client, means: meansOf(facts, options.admin), garden: gardenOf(options) };
  try {
    const stranger = await whoIsThis(client, facts, options.admin);
    if (stranger !== undefined) return { surface, results, failure: stranger };
    await attackAll(stage, results);
    return { surface, results, failure: undefined };
  } catch (error) {
    if (options.signal?.aborted) throw error;
    return { surface, results, failure: `the attacks stopped: ${error instanceof Error ? error.message : String(error)}` };
  } finally {
    await client.end();
  }
}

export async function connectAsApplication(url: string, surface: Surface): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: `partywall verify ${surface}`, connectionTimeoutMillis: connectTimeoutMs });
  // A lost connection surfaces in the next statement.
  client.on('error', () => undefined);
  await client.connect();
  return client;
}

/** How a session of the application's role can stand for tenants here. */
export function meansOf(facts: StaticFacts, admin: pg.ClientBase): Means {
  return { admin, form: installedContext(facts), sealed: facts.catalog.runtime?.facts?.[sealedFact] !== undefined };
}

interface Stage extends SurfaceOptions {
  readonly means: Means;
  readonly cast: Cast;
  readonly client: pg.Client;
  readonly garden: Garden;
}

async function attackAll(stage: Stage, results: AttackResult[]): Promise<void> {
  const { facts, client, wants, cast, signal } = stage;
  const tables = topTables(facts.wanted);
  const views = facts.wanted.views.flatMap((view) => facts.catalog.relations.get(view) ?? []);
  const total = tables.length + views.length + 2;
  let done = 0;
  const progress = (what: string): void => {
    signal?.throwIfAborted();
    stage.onProgress(done, total, what);
    done += 1;
  };
  const keep = (found: readonly AttackResult[]): void => {
    results.push(...found.filter((result) => wants(result.rule)));
  };

  progress('the session');
  keep(await leftoverContext(stage));
  keep(
    await rolledBack(client, (tx) =>
      withoutContext(
        tx,
        tables.filter((table) => !isUnpartitioned(table, facts.catalog)),
      ),
    ),
  );
  keep(
    await attackSession({
      client,
      catalog: facts.catalog,
      model: facts.model,
      server: facts.server,
      reach: facts.reach,
      cast,
      closed: stage.troupe.closed,
      means: stage.means,
    }),
  );
  let shadowed = false;
  for (const table of tables) {
    progress(table.relation.table);
    const attacks = shadowed || table.rule === undefined ? tableAttacks : [...tableAttacks, ...shadowAttacks];
    const { found, planted } = await attackTable(stage, table, attacks);
    keep(found);
    shadowed ||= planted && table.rule !== undefined;
  }
  if (!shadowed) keep(shadowAttacks.flatMap(({ rules }) => rules.map((rule) => stuck(rule, 'every table', 'no row could be planted'))));
  for (const view of views) {
    progress(view.table);
    if (!wants('read.view')) continue;
    keep([await rolledBack(client, (tx) => attackView(view, { tx, bed: bedOf(stage, tx), cast, catalog: facts.catalog }), stage.means)]);
  }
  progress('done');
}

async function attackTable(stage: Stage, table: WantedTable, attacks: readonly TableAttack[]): Promise<{ found: AttackResult[]; planted: boolean }> {
  const { relation } = table;
  const wanted = attacks.filter((attack) => attack.rules.some(stage.wants));
  if (wanted.length === 0) return { found: [], planted: false };
  const every = (make: (rule: AttackRuleId) => AttackResult): AttackResult[] => wanted.flatMap((attack) => attack.rules.map(make));
  if (isUnpartitioned(table, stage.facts.catalog)) {
    return { found: every((rule) => notApplicable(rule, relation.table, 'it has no partition, so it can hold no row')), planted: false };
  }
  const withRow = (tenant: string, planting: boolean): Promise<AttackResult[] | { failed: string }> =>
    rolledBack(stage.client, (tx) => attackWithRow(stage, { table, tx, tenant, planting, attacks: wanted }), stage.means);
  const planted = table.rule === undefined ? { failed: 'the tenant root is not planted in' } : await withRow(stage.cast.victim, true);
  if (!('failed' in planted)) return { found: planted, planted: true };
  const owner = table.rule === undefined ? stage.cast.victim : await tenantWithRows(stage.admin, table);
  const existing = owner === undefined ? { failed: 'no tenant has a row' } : await withRow(owner, false);
  if (!('failed' in existing)) return { found: existing, planted: false };
  return {
    found: every((rule) =>
      stuck(rule, relation.table, `no row to attack: planting: ${planted.failed}; existing rows: ${existing.failed}; one that is committed is enough`),
    ),
    planted: false,
  };
}

/** Puts the victim's row there, checks that the victim sees it, and runs each attack from that state. */
async function attackWithRow(
  stage: Stage,
  { table, tx, tenant, planting, attacks }: { table: WantedTable; tx: Transaction; tenant: string; planting: boolean; attacks: readonly TableAttack[] },
): Promise<AttackResult[] | { failed: string }> {
  // A standing context is a finding of its own; here it would only be in the way.
  await become(tx, '');
  const entered = await enter(tx, tenant);
  if (!entered.ok) return { failed: `entering the tenant: ${entered.state} ${entered.message}` };
  const bed = bedOf(stage, tx);
  const mine: PlantResult = planting ? await plant(bed, table, tenant) : await findRow(tx, table, tenant);
  if ('failed' in mine) return mine;
  const control = await tx.probe(`select 1 from ${quoted(table.relation.table)} where ${mine.where}`);
  if (!control.ok || control.rows.length !== 1) return { failed: 'control: the tenant does not see its own row' };
  const cast: Cast = tenant === stage.cast.attacker ? { ...stage.cast, victim: tenant, attacker: stage.cast.victim } : { ...stage.cast, victim: tenant };
  asParent(bed, mine);
  const scene: Scene = { tx, bed, table, cast, mine, planted: planting, model: stage.facts.model, catalog: stage.facts.catalog };
  const found: AttackResult[] = [];
  for (const attack of attacks) found.push(...(await undone(bed, () => attack.run(scene))));
  return found;
}

function bedOf(stage: Stage, tx: Transaction): Bed {
  return { garden: stage.garden, tx, planted: new Map() };
}

function gardenOf({ facts, columnFacts, admin }: SurfaceOptions): Garden {
  const known = new Map<string, { rows: readonly ReadonlyMap<string, string>[]; next: number }>();
  const read = async (table: TableName, columns: readonly string[]): Promise<readonly ReadonlyMap<string, string>[]> => {
    const list = columns.map((column) => `${ident(column)}::text as ${ident(column)}`).join(', ');
    const { rows } = await admin.query<Record<string, string>>(
      `select ${list} from ${quoted(table)} where row(${identList(columns)}) is not null limit ${existingRowsMax}`,
    );
    return rows.map((row) => new Map(Object.entries(row)));
  };
  return {
    wanted: facts.wanted,
    relations: facts.catalog.relations,
    columnFacts,
    accepted: new Map(),
    async existing(table, columns) {
      const key = `${table}/${columns.join('/')}`;
      const found = known.get(key) ?? { rows: await read(table, columns), next: 0 };
      known.set(key, { rows: found.rows, next: found.next + 1 });
      return found.rows[found.next % Math.max(1, found.rows.length)];
    },
  };
}

/** Before anything is set: the session has no tenant. */
async function leftoverContext({ client, facts, means }: Stage): Promise<AttackResult[]> {
  const { rows } = await client.query<{ context: string | null }>(`select ${contextValue(means.form)} as context`);
  const target = `sessions of ${facts.model.roles.app}`;
  return rows[0]?.context
    ? [{ rule: 'session.leftover-context', target, outcome: 'broken', message: 'a fresh session is in a tenant already' }]
    : [{ rule: 'session.leftover-context', target, outcome: 'held' }];
}

/** Nothing is scanned in it, so nothing is asked about the tenant either. */
function isUnpartitioned({ relation }: WantedTable, catalog: Catalog): boolean {
  return relation.kind === 'partitioned' && ![...catalog.relations.values()].some((child) => child.parents.includes(relation.table));
}

async function withoutContext(tx: Transaction, tables: readonly WantedTable[]): Promise<AttackResult[]> {
  const results: AttackResult[] = [];
  for (const { relation } of tables) {
    results.push(judgeNoContext(relation, await tx.probe(`select 1 from ${quoted(relation.table)} limit 1`), 'without context'));
  }
  return results;
}

/** Why this session does not stand for the application, undefined where it does. */
async function whoIsThis(client: pg.Client, { model, catalog }: { model: TenancyModel; catalog: Catalog }, admin: pg.Client): Promise<string | undefined> {
  const question =
    "select current_user::text as role, (select oid::text from pg_catalog.pg_database where datname = current_database()) as database, current_setting('server_version_num') as version";
  const [app, own] = await Promise.all([client.query<Record<string, string>>(question), admin.query<Record<string, string>>(question)]);
  const [here, there] = [app.rows[0], own.rows[0]];
  if (here?.['role'] !== model.roles.app)
    return `the connection string of the application logs in as ${here?.['role']}, and the model names ${model.roles.app}`;
  if (here['database'] !== there?.['database'] || here['version'] !== there?.['version']) {
    return `the application's connection string leads to another database than ${catalog.database}`;
  }
  return undefined;
}
