import { columnOf, type Relation } from '../catalog/catalog.ts';
import { keyFamily } from './key-types.ts';
import { polymorphicPairs } from './references.ts';
import { speaksOfTenant } from './tenant-columns.ts';
import { snake, stemOf, wordsOf } from './words.ts';

/**
 * Tables with the same rows for everybody. Only strong evidence makes one: it is called what such tables are called, carries
 * nothing personal and nobody's name, and is keyed by a code or a name that tenants could not each have for themselves.
 * Returns the reason, or undefined when in doubt.
 */
export function referenceReason(relation: Relation, tenantNames: ReadonlySet<string>): string | undefined {
  const stem = stemOf(relation.name).join(' ');
  const world = ends(stem, worldNames);
  const own = ends(stem, [...platformNames.keys()]) && hasTellingColumn(relation, stem);
  if (!world && !own) return undefined;
  if (relation.columns.length > (world ? worldColumnsMax : platformColumnsMax)) return undefined;
  if (
    relation.columns.some((column) => isPersonal(column.name) || isActor(column.name) || isOpen(column.type, world) || speaksOfTenant(column.name, tenantNames))
  )
    return undefined;
  if (polymorphicPairs(relation).length > 0) return undefined;
  const key = naturalKey(relation);
  if (world) return `reference data: ${key ? `keyed by ${key}, ` : ''}the same rows for every tenant`;
  return key ? `reference data of the platform: ${key} is unique over all tenants, so its rows are no tenant's own` : undefined;
}

const worldColumnsMax = 30;
const platformColumnsMax = 10;

/** What the world defines. */
const worldNames = [
  'country',
  'currency',
  'language',
  'locale',
  'time zone',
  'timezone',
  'continent',
  'exchange rate',
  'currency rate',
  'calling code',
  'dial code',
  'unit of measure',
  'measurement unit',
  'content type',
  'mime type',
  'nationality',
  'iso country',
  'iso currency',
];

/**
 * What a platform defines for its tenants. Tenants may have such tables too, so a natural key must speak against that, and a
 * word with other meanings needs the column that tells them apart (an apartment is a unit as well).
 */
const platformNames: ReadonlyMap<string, RegExp | undefined> = new Map(
  Object.entries({
    plan: undefined,
    tier: undefined,
    industry: undefined,
    occupation: undefined,
    permission: undefined,
    capability: undefined,
    gender: undefined,
    salutation: undefined,
    unit: /^(?:symbol|abbreviation|factor|conversion_factor|dimension|base_unit.*)$/,
    region: /^(?:country.*|iso.*)$/,
    state: /^(?:country.*|iso.*)$/,
    province: /^(?:country.*|iso.*)$/,
    county: /^(?:country.*|state.*|iso.*)$/,
  }),
);

function ends(stem: string, names: readonly string[]): boolean {
  return names.some(
    (name) =>
      stem === name || new RegExp(`^(?:ref|reference|lookup|lkp|dim|geo|core|auth|spree|iso|world|subscription|django)(?: [a-z]+)? ${name}$`).test(stem),
  );
}

const personalColumn =
  /(?:^|_)(?:email|e_mail|phone|mobile|first_name|last_name|full_name|surname|given_name|birth|birthday|dob|password|secret|token|ip|address|street|iban|ssn|passport|salary|note|notes|comment|comments|message|body)(?:_|$)/;

function isPersonal(column: string): boolean {
  return personalColumn.test(snake(column));
}

/** A row that somebody wrote belongs to somebody. */
function isActor(column: string): boolean {
  const words = wordsOf(column);
  return (
    (words.at(-1) === 'by' && words.length === 2) ||
    /(?:^|_)(?:created|updated|deleted|modified)_by(?:_|$)/.test(snake(column)) ||
    /(?:^|_)(?:user|owner|author|creator|member|person)_?id$/.test(snake(column))
  );
}

function hasTellingColumn(relation: Relation, stem: string): boolean {
  const telling = platformNames.get(stem.split(' ').at(-1) ?? '');
  return telling === undefined || relation.columns.some(({ name }) => telling.test(snake(name)));
}

/** Columns that can hold anything; translations of countries are JSON too. */
function isOpen(type: string, world: boolean): boolean {
  if (type.endsWith('[]')) return !world;
  return !world && (type === 'json' || type === 'jsonb' || type === 'bytea' || type.endsWith('hstore'));
}

/** A unique key that says what the row is: a code or a name, alone. */
function naturalKey(relation: Relation): string | undefined {
  for (const index of relation.indexes) {
    if (!index.unique || !index.valid || index.predicate !== undefined || index.columns.length !== 1) continue;
    const [name] = index.columns;
    const column = name === undefined ? undefined : columnOf(relation, name);
    if (!column || keyFamily(column.type) !== 'text' || column.default !== undefined) continue;
    if (/(?:^|_)(?:code|iso|iso2|iso3|slug|key|name|symbol|abbreviation|abbr|tag|locale|identifier|title|label|tier|plan)(?:_|$)/.test(snake(column.name)))
      return column.name;
  }
  return undefined;
}
