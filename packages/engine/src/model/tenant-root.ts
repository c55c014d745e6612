import { type Catalog, type Column, columnOf, type Relation } from '../catalog/catalog.ts';
import { PartywallError } from '../errors.ts';
import { sameKeyFamily } from './key-types.ts';
import { isPeopleTable, isSignInTable } from './people.ts';
import { prefixes, type Reference, type References } from './references.ts';
import type { TableName } from './table-name.ts';
import { generalTenantColumn, type RootKey, tenantColumnNames, tenantNouns } from './tenant-columns.ts';
import { compact, stemOf } from './words.ts';

/** A table that may be the tenant root. */
interface RootCandidate {
  readonly table: TableName;
  readonly score: number;
  /** `12 tables refer to it, 3 more have a column named after it`. */
  readonly why: string;
}

export interface FoundRoot extends RootKey {
  readonly why: string;
}

/** A runner-up with at least this share of the best score leaves the question to a person. */
const undecidedShare = 0.6;
const candidatesShown = 6;
/** A weaker word than `team` decides nothing by itself: a person says so. */
const decidingNounMin = 45;
/** Of all tables, at least this share holds the key of a root that is not called tenant. */
const holdersShareMin = 0.1;
const namedNounMin = 15;
/** How much less a name says with another word in front. */
const prefixedShare = 0.6;
/** What a most-referenced table needs to be named in the message though its name says nothing. */
const namelessReferencesMin = 4;

const noNoun: Noun = { weight: 0, prefixed: false };
/** Whoever names the root vouches for its columns. */
const askedNoun: Noun = { weight: tenantNouns.get('tenant') ?? 0, prefixed: false };

interface Standing {
  readonly relation: Relation;
  readonly key: Column;
  readonly noun: number;
  /** Its name has an application's in front. */
  readonly prefixed: boolean;
  /** Tables that hold its key, by foreign key or by a column named after it. */
  readonly holders: ReadonlySet<TableName>;
  readonly keyed: number;
  /** Share of those columns that are never null. */
  readonly certain: number;
}

/**
 * Picks the tenant root: a table that is called what tenants are called, and whose key other tables hold. A candidate whose
 * rows belong to another candidate (projects of an organization) gives way to it and brings its holders along.
 *
 * @throws PartywallError root_undecided, model_invalid when `asked` is no table to stand on
 */
export function findRoot(catalog: Catalog, listed: readonly Relation[], references: References, asked: TableName | undefined): FoundRoot {
  if (asked !== undefined) return askedRoot(catalog, listed, references, asked);
  const ranked = rankRoots(listed, references);
  const [best, second] = ranked;
  if (best && isDecisive(best, listed.length) && (!second || second.score < best.score * undecidedShare)) {
    return rootKey(listed, best.standing, `${best.why}; it is the tenant root by name and by references`);
  }
  throw undecided(catalog, [...ranked, ...mostReferenced(listed, references).filter(({ table }) => !ranked.some((candidate) => candidate.table === table))]);
}

function isDecisive({ standing, held }: Ranked, tables: number): boolean {
  if (standing.noun === tenantNouns.get('tenant')) return held > 0;
  if (standing.noun < decidingNounMin || held < tables * holdersShareMin) return false;
  return !standing.prefixed || standing.certain >= 0.5;
}

type Ranked = RootCandidate & { readonly standing: Standing; readonly held: number };

function rankRoots(listed: readonly Relation[], references: References): Ranked[] {
  const shared = prefixes(listed);
  const standings = listed.flatMap((relation) => {
    const noun = nounOf(relation, shared);
    return noun.weight >= namedNounMin ? (standingOf(relation, listed, references, noun) ?? []) : [];
  });
  const byTable = new Map(standings.map((standing) => [standing.relation.table, standing]));
  const above = new Map(standings.map((standing) => [standing.relation.table, ownerOf(standing, standings, references)]));
  const topOf = (table: TableName): TableName => {
    const seen = new Set<TableName>();
    let at = table;
    for (let next = above.get(at); next && !seen.has(next); next = above.get(next)) {
      seen.add(at);
      at = next;
    }
    return at;
  };
  const held = new Map<TableName, Set<TableName>>();
  for (const { relation, holders } of standings) {
    const top = topOf(relation.table);
    const all = held.get(top) ?? new Set();
    for (const holder of holders) all.add(holder);
    held.set(top, all);
  }
  return [...held]
    .flatMap(([table, holders]) => {
      const standing = byTable.get(table);
      if (!standing) return [];
      const others = [...holders].filter((holder) => holder !== table).length;
      return [{ table, score: standing.noun * (others + (standing.noun >= 80 ? 1 : 0)), why: describe(standing, others), standing, held: others }];
    })
    .filter(({ score }) => score > 0)
    .sort((left, right) => right.score - left.score || (left.table < right.table ? -1 : 1));
}

function standingOf(relation: Relation, listed: readonly Relation[], references: References, { weight: noun, prefixed }: Noun): Standing | undefined {
  if ((relation.kind !== 'table' && relation.kind !== 'partitioned') || isPeopleTable(relation) || isSignInTable(relation)) return undefined;
  const pointing = references.to(relation.table).filter(({ reference }) => reference.constraint !== undefined && reference.columns.length === 1);
  const key = keyOf(
    relation,
    pointing.map(({ reference }) => reference),
  );
  if (!key) return undefined;
  const holders = new Set(pointing.map(({ from }) => from));
  const keyed = holders.size;
  if (noun > 0) {
    const names = tenantColumnNames(relation, key.name);
    for (const other of listed) {
      if (other.table === relation.table || holders.has(other.table)) continue;
      const held = new Set(other.constraints.flatMap(({ foreign, columns }) => (foreign && columns.length === 1 ? columns : [])));
      if (other.columns.some((column) => !held.has(column.name) && names.has(compact(column.name)) && sameKeyFamily(column.type, key.type)))
        holders.add(other.table);
    }
  }
  const certain = pointing.filter(({ reference }) => !reference.nullable).length / Math.max(1, pointing.length);
  return { relation, key, noun, prefixed, holders, keyed, certain };
}

/** The candidate that this one's rows belong to, if its column for it is never null. */
function ownerOf(standing: Standing, standings: readonly Standing[], references: References): TableName | undefined {
  const candidates = standings.filter(
    (other) => other !== standing && other.holders.has(standing.relation.table) && holdsAlways(standing.relation, other, references),
  );
  return candidates.sort((left, right) => right.noun - left.noun)[0]?.relation.table;
}

function holdsAlways(relation: Relation, owner: Standing, references: References): boolean {
  const declared = references.from(relation.table).filter(({ table, constraint }) => constraint !== undefined && table === owner.relation.table);
  if (declared.length > 0) return declared.some(({ nullable }) => !nullable);
  const names = tenantColumnNames(owner.relation, owner.key.name);
  return relation.columns.some((column) => column.notNull && names.has(compact(column.name)) && sameKeyFamily(column.type, owner.key.type));
}

/** What the foreign keys to it reference most; else its primary key. */
function keyOf(relation: Relation, pointing: readonly Reference[]): Column | undefined {
  const counts = new Map<string, number>();
  for (const { references } of pointing) if (references.length === 1) counts.set(references[0] ?? '', (counts.get(references[0] ?? '') ?? 0) + 1);
  const [most] = [...counts].sort((left, right) => right[1] - left[1] || (left[0] < right[0] ? -1 : 1));
  const primary = relation.constraints.find(({ kind }) => kind === 'primary');
  const name = most?.[0] ?? (primary?.columns.length === 1 ? primary.columns[0] : undefined);
  return name === undefined ? undefined : columnOf(relation, name);
}

interface Noun {
  readonly weight: number;
  readonly prefixed: boolean;
}

function nounOf(relation: Relation, shared: ReadonlySet<string>): Noun {
  const words = stemOf(relation.name);
  const bare = words.length > 1 && shared.has(`${relation.schema} ${words[0]}`) ? words.slice(1) : words;
  const weight = tenantNouns.get(bare.at(-1) ?? '') ?? 0;
  if (bare.length === 1) return { weight, prefixed: false };
  // `tenancy_tenant`, `core_company`: an application's name in front; `user_organization` is a membership.
  const isApplication = bare.length === 2 && !isPersonWord(bare[0] ?? '') && !tenantNouns.has(bare[0] ?? '');
  return { weight: isApplication ? weight * prefixedShare : 0, prefixed: true };
}

function isPersonWord(word: string): boolean {
  return ['user', 'person', 'member', 'admin', 'employee', 'contact', 'parent', 'social', 'email', 'bank'].includes(word);
}

function askedRoot(catalog: Catalog, listed: readonly Relation[], references: References, asked: TableName): FoundRoot {
  const relation = listed.find(({ table }) => table === asked);
  if (!relation || (relation.kind !== 'table' && relation.kind !== 'partitioned')) {
    const found = catalog.relations.get(asked);
    const reason = found ? `it is a ${found.kind === 'table' ? 'partition or child' : found.kind}` : `there is no such table in ${catalog.database}`;
    throw new PartywallError('model_invalid', `taking ${asked} as the tenant root: ${reason}`, { hint: 'name a table of its own as schema.table' });
  }
  const standing = standingOf(relation, listed, references, askedNoun);
  if (!standing) {
    throw new PartywallError('model_invalid', `taking ${asked} as the tenant root: it has no key of one column`, {
      hint: 'give it a primary key or a unique column that tenant columns can hold',
    });
  }
  return rootKey(listed, standing, `named as the root; ${describe(standing, standing.holders.size)}`);
}

function rootKey(listed: readonly Relation[], standing: Standing, why: string): FoundRoot {
  const { relation, key } = standing;
  const names = tenantColumnNames(relation, key.name);
  return {
    table: relation.table,
    key: key.name,
    type: key.type,
    names: saysTenant(listed, relation, names) ? new Set([...names, generalTenantColumn]) : names,
    why,
  };
}

/**
 * Whether `tenant_id` is this root's: a key says so, or nothing else in the database is named after the root. Beside columns
 * that are, it may well be another system's tenant.
 */
function saysTenant(listed: readonly Relation[], root: Relation, names: ReadonlySet<string>): boolean {
  const others = listed.filter(({ table }) => table !== root.table);
  const held = others.some(({ constraints }) =>
    constraints.some(({ foreign, columns }) => foreign?.table === root.table && columns.some((column) => compact(column) === generalTenantColumn)),
  );
  return held || !others.some(({ columns }) => columns.some(({ name }) => names.has(compact(name))));
}

function describe(standing: Standing, all: number): string {
  const named = all - standing.keyed;
  const tables = (count: number) => (count === 1 ? '1 table' : `${count} tables`);
  const verb = (count: number, one: string, many: string) => (count === 1 ? one : many);
  const refer = `${tables(standing.keyed)} ${verb(standing.keyed, 'refers', 'refer')} to it`;
  if (named === 0) return refer;
  const hold = `${verb(named, 'holds', 'hold')} its key or that of what belongs to it`;
  return standing.keyed === 0 ? `${tables(named)} ${hold}` : `${refer} and ${named} more ${hold}`;
}

function mostReferenced(listed: readonly Relation[], references: References): RootCandidate[] {
  return listed
    .flatMap((relation) => standingOf(relation, listed, references, noNoun) ?? [])
    .filter(({ keyed }) => keyed >= namelessReferencesMin)
    .map((standing) => ({ table: standing.relation.table, score: standing.keyed, why: describe(standing, standing.keyed) }))
    .sort((left, right) => right.score - left.score || (left.table < right.table ? -1 : 1));
}

function undecided(catalog: Catalog, candidates: readonly RootCandidate[]): PartywallError {
  const shown = candidates.slice(0, candidatesShown);
  if (shown.length === 0) {
    return new PartywallError('root_undecided', `inferring the tenancy model of ${catalog.database}: no table looks like the tenants`, {
      hint: 'a database of one tenant needs a table of tenants with that one row: create it, then run `partywall init --root <schema.table> --bootstrap <its key>`',
    });
  }
  return new PartywallError(
    'root_undecided',
    `inferring the tenancy model of ${catalog.database}: the tenant root could be ${shown.map(({ table }) => table).join(', ')}`,
    {
      hint: `say which: \`partywall init --root ${shown[0]?.table}\`; a database of one tenant first needs a table of tenants with one row`,
      details: shown.map(({ table, why }) => `${table}: ${why}`),
    },
  );
}
