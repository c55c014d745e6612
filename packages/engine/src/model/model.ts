import { z } from 'zod';
import { PartywallError } from '../errors.ts';
import { type ArchiveRules, archiveConfig, archiveRules } from './archive.ts';
import { type CloneRules, cloneConfig } from './clone.ts';
import {
  namedTables,
  type PeopleTable,
  peopleConfig,
  profileConfig,
  type Quota,
  quotasConfig,
  type TenantProfile,
  tableReference as table,
} from './control.ts';
import { parseTableName, type TableName } from './table-name.ts';
import { refuseUnitContradictions, type UnitTable, unitConfig } from './unit.ts';

/**
 * The tenancy model: which table is the tenant, and for every other table whether it is scoped, shared or the platform's own.
 * Nothing else keeps a list of tables. `partywall.config.ts` holds it as written (`TenancyConfig`); `parseModel` makes the
 * narrow form below. Partitions follow their parent and views follow what they read, so neither is listed.
 */
export interface TenancyModel {
  readonly tenant: TenantRoot;
  /** The second-level scope inside a tenant, where the application has one. */
  readonly unit: UnitTable | undefined;
  /** Name of the tenant columns that Partywall adds. */
  readonly column: string;
  /** Schemas whose tables must all be classified. */
  readonly schemas: readonly string[];
  readonly roles: WallRoles;
  readonly tables: ReadonlyMap<TableName, TableRule>;
  /** The tenant that owns all rows of a database that was single-tenant: default of new columns between expand and contract. */
  readonly bootstrap: string | undefined;
  /** Findings of `verify` that are accepted, each with a reason and an end date. */
  readonly waivers: readonly Waiver[];
  /** The application's own people, for the control plane. */
  readonly people: PeopleTable | undefined;
  /** What is counted and can be limited, by name. */
  readonly quotas: ReadonlyMap<string, Quota>;
  /** How a clone fills what the schema does not say. */
  readonly clone: CloneRules;
  /** What the archive needs to know. */
  readonly archive: ArchiveRules;
}

export interface TenantRoot {
  readonly table: TableName;
  /** The column that tenant columns hold; primary or unique key of the root. */
  readonly key: string;
  /** The application's own status column, if it has one: which of its values mean which state. Other values mean active. */
  readonly status: { readonly column: string; readonly values: Readonly<Record<string, 'active' | 'read_only' | 'suspended' | 'cancelled'>> } | undefined;
  readonly profile: TenantProfile;
  readonly why?: string | undefined;
}

/**
 * owner: owns the tables and runs migrations. app: the application's requests, bound by the wall. system: the application's own
 * work over all tenants, a login of its own. service: Partywall's. operator: may read the operators' views of the control plane, nothing else.
 */
export interface WallRoles {
  readonly owner: string;
  readonly app: string;
  readonly system: string;
  readonly service: string;
  readonly operator?: string | undefined;
}

export type TableRule = ScopedRule | SharedRule | PlatformRule | UnclassifiedRule;

/** Rows belong to one tenant each. */
export interface ScopedRule {
  readonly scope: 'scoped';
  readonly column: string;
  /** Partywall adds the column and derives it by `paths`; otherwise the application owns it. */
  readonly added: boolean;
  /** Ways to the tenant, tried in order: this table's `columns` equal `references` of `table`, which is scoped or the root. */
  readonly paths: readonly Path[];
  /** For each unique index or constraint without the tenant column, whether it means one value per tenant or one in all. */
  readonly uniques: ReadonlyMap<string, 'per tenant' | 'global'>;
  /** The column that says to which unit a row belongs; NULL in it: to the tenant as a whole. */
  readonly unit?: string | undefined;
  readonly why: string | undefined;
}

export interface Path {
  readonly table: TableName;
  readonly columns: readonly string[];
  readonly references: readonly string[];
}

/** The same rows for every tenant (countries, currencies). */
export interface SharedRule {
  readonly scope: 'shared';
  readonly access: 'read' | 'write';
  readonly why: string | undefined;
}

/** The platform's own (migration journals, sessions, people): the app role gets what `access` says, and verify names it. */
export interface PlatformRule {
  readonly scope: 'platform';
  readonly access: 'none' | 'read' | 'write';
  readonly why: string | undefined;
}

/** A person must decide; until then `check` fails and no wall is planned. */
export interface UnclassifiedRule {
  readonly scope: 'unclassified';
  readonly candidates: readonly string[];
  readonly why: string | undefined;
}

export interface Waiver {
  /** Rule of verify: `view.owner-rights`. */
  readonly rule: string;
  /** What the finding is about, as it prints it: `public.customer_overview`. */
  readonly target: string;
  readonly reason: string;
  /** Last day it holds, `YYYY-MM-DD`. */
  readonly until: string;
}

const why = z.string().min(1).optional();
const column = z.string().min(1).max(63);
const columns = z.union([column, z.array(column).min(1)]).transform((given) => (typeof given === 'string' ? [given] : given));

const pathConfig = z.strictObject({
  /** A scoped table or the tenant root. */
  table,
  /** This table's columns. */
  columns,
  /** The other table's columns; default `id`. */
  references: columns.optional(),
});

const ruleConfig = z.discriminatedUnion('scope', [
  z.strictObject({
    scope: z.literal('scoped'),
    /** The application's own tenant column, or the name of the one to add when `through` is given. */
    column: column.optional(),
    /** Given: Partywall adds the column and derives it this way; an empty list leaves the bootstrap tenant as its only source. */
    through: z.union([pathConfig, z.array(pathConfig)]).optional(),
    uniques: z.record(z.string(), z.enum(['per tenant', 'global'])).optional(),
    /** The column that holds the unit, a key of the table that the top-level `unit` names. */
    unit: column.optional(),
    why,
  }),
  z.strictObject({ scope: z.literal('shared'), access: z.enum(['read', 'write']).optional(), why }),
  z.strictObject({ scope: z.literal('platform'), access: z.enum(['none', 'read', 'write']).optional(), why }),
  z.strictObject({ scope: z.literal('unclassified'), candidates: z.array(z.string()).optional(), why }),
]);

const configSchema = z.strictObject({
  tenant: z.strictObject({
    table,
    key: column.optional(),
    status: z.strictObject({ column, values: z.record(z.string(), z.enum(['active', 'read_only', 'suspended', 'cancelled'])) }).optional(),
    profile: profileConfig.optional(),
    why,
  }),
  unit: unitConfig.optional(),
  column: column.optional(),
  schemas: z.array(z.string().min(1)).min(1).optional(),
  roles: z.strictObject({ owner: column, app: column, system: column, service: column, operator: column.optional() }),
  tables: z.record(z.string(), ruleConfig),
  bootstrap: z.union([z.string().min(1), z.number().int()]).optional(),
  waivers: z.array(z.strictObject({ rule: z.string().min(1), target: z.string().min(1), reason: z.string().min(1), until: z.iso.date() })).optional(),
  people: peopleConfig.optional(),
  quotas: quotasConfig.optional(),
  clone: cloneConfig.optional(),
  archive: archiveConfig.optional(),
});

/** The config as a person writes it; `defineTenancy` types it. */
export type TenancyConfig = z.input<typeof configSchema>;
export type TableRuleConfig = z.input<typeof ruleConfig>;

/**
 * Parses a written config into the model.
 *
 * @throws PartywallError config_malformed with one detail line per mistake, model_invalid where lines contradict each other
 */
export function parseModel(config: unknown): TenancyModel {
  const parsed = configSchema.safeParse(config);
  if (!parsed.success) {
    const details = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'config'}: ${issue.message}`);
    throw new PartywallError('config_malformed', `reading the tenancy config: ${details[0]}`, { details });
  }
  const written = parsed.data;
  const addedColumn = written.column ?? 'tenant_id';
  const tables = new Map<TableName, TableRule>();
  for (const [text, rule] of Object.entries(written.tables)) {
    const name = parseTableName(text);
    if (!name) throw new PartywallError('config_malformed', `reading the tenancy config: tables: not a table name: ${JSON.stringify(text)}`);
    if (tables.has(name)) throw new PartywallError('model_invalid', `reading the tenancy config: ${name} is listed twice`);
    tables.set(name, toRule(rule, addedColumn, name));
  }
  const model: TenancyModel = {
    tenant: {
      table: written.tenant.table,
      key: written.tenant.key ?? 'id',
      status: written.tenant.status,
      profile: written.tenant.profile ?? {},
      why: written.tenant.why,
    },
    unit: written.unit,
    column: addedColumn,
    schemas: written.schemas ?? ['public'],
    roles: written.roles,
    tables,
    bootstrap: written.bootstrap === undefined ? undefined : String(written.bootstrap),
    waivers: written.waivers ?? [],
    people: written.people,
    quotas: written.quotas ?? new Map(),
    clone: written.clone ?? new Map(),
    archive: archiveRules(written.archive),
  };
  refuseContradictions(model);
  return model;
}

function toRule(rule: z.output<typeof ruleConfig>, addedColumn: string, name: TableName): TableRule {
  switch (rule.scope) {
    case 'scoped': {
      const through = rule.through === undefined ? [] : Array.isArray(rule.through) ? rule.through : [rule.through];
      if (rule.column === undefined && rule.through === undefined) {
        throw new PartywallError('model_invalid', `reading the tenancy config: ${name} is scoped and names neither its column nor a way through a parent`);
      }
      return {
        scope: 'scoped',
        column: rule.column ?? addedColumn,
        added: rule.through !== undefined,
        paths: through.map((path) => toPath(path, name)),
        uniques: new Map(Object.entries(rule.uniques ?? {})),
        unit: rule.unit,
        why: rule.why,
      };
    }
    case 'shared':
      return { scope: 'shared', access: rule.access ?? 'read', why: rule.why };
    case 'platform':
      return { scope: 'platform', access: rule.access ?? 'none', why: rule.why };
    case 'unclassified':
      return { scope: 'unclassified', candidates: rule.candidates ?? [], why: rule.why };
  }
}

function toPath(path: z.output<typeof pathConfig>, name: TableName): Path {
  const references = path.references ?? ['id'];
  if (references.length !== path.columns.length) {
    throw new PartywallError(
      'model_invalid',
      `reading the tenancy config: ${name} goes through ${path.table} with ${path.columns.length} columns for ${references.length}`,
    );
  }
  return { table: path.table, columns: path.columns, references };
}

function refuseContradictions(model: TenancyModel): void {
  if (model.tables.has(model.tenant.table)) {
    throw new PartywallError('model_invalid', `reading the tenancy config: ${model.tenant.table} is the tenant root and is listed under tables too`);
  }
  for (const { table: name, by } of namedTables(model.people, model.quotas)) {
    if (model.tables.get(name)?.scope !== 'scoped') {
      throw new PartywallError('model_invalid', `reading the tenancy config: ${by} names ${name}, which is not a scoped table`);
    }
  }
  for (const name of model.clone.keys()) {
    if (name !== model.tenant.table && model.tables.get(name)?.scope !== 'scoped') {
      throw new PartywallError('model_invalid', `reading the tenancy config: clone names ${name}, which is not a scoped table`);
    }
  }
  const roles = Object.values(model.roles).filter((role) => role !== undefined);
  if (new Set(roles).size !== roles.length) {
    throw new PartywallError('model_invalid', `reading the tenancy config: the roles must be different roles, got ${roles.join(', ')}`);
  }
  for (const [name, rule] of model.tables) {
    if (rule.scope !== 'scoped') continue;
    if (rule.added && rule.paths.length === 0 && model.bootstrap === undefined) {
      throw new PartywallError('model_invalid', `reading the tenancy config: ${name} goes through nothing and there is no bootstrap tenant to own its rows`);
    }
    for (const path of rule.paths) {
      if (path.table !== model.tenant.table && model.tables.get(path.table)?.scope !== 'scoped') {
        throw new PartywallError('model_invalid', `reading the tenancy config: ${name} goes through ${path.table}, which is not a scoped table`);
      }
    }
  }
  refuseUnitContradictions(model);
  derivationOrder(model);
}

/** The scoped tables, each after all tables its paths lead through (a path to itself aside). Throws on a cycle of paths. */
export function derivationOrder(model: TenancyModel): { table: TableName; rule: ScopedRule }[] {
  const order: { table: TableName; rule: ScopedRule }[] = [];
  const state = new Map<TableName, 'visiting' | 'done'>();
  const visit = (table: TableName, trail: readonly TableName[]): void => {
    const rule = model.tables.get(table);
    if (rule?.scope !== 'scoped' || state.get(table) === 'done') return;
    if (state.get(table) === 'visiting') {
      throw new PartywallError('model_invalid', `ordering the scoped tables: ${[...trail, table].join(' → ')} lead through each other`);
    }
    state.set(table, 'visiting');
    for (const path of rule.paths) if (path.table !== table) visit(path.table, [...trail, table]);
    state.set(table, 'done');
    order.push({ table, rule });
  };
  for (const table of model.tables.keys()) visit(table, []);
  return order;
}

/** Types a config file: `export default defineTenancy({ ... })`. Returns what it was given; `parseModel` checks it. */
export function defineTenancy(config: TenancyConfig): TenancyConfig {
  return config;
}
