import type { TableName } from '../model/table-name.ts';

/**
 * What the system catalogs of one database say, read once in one snapshot (`readCatalog`) and never changed. Everything that
 * decides (model inference, the wall's plan, the static rules) is a function of this value.
 *
 * Partywall's own schema `partywall`, the system schemas and temporary objects are left out of `relations` and `functions`;
 * objects that belong to an extension are there and say so.
 */
export interface Catalog {
  readonly database: string;
  /** `server_version_num`, e.g. 180004. */
  readonly serverVersion: number;
  /** The role that read the catalog. */
  readonly currentUser: string;
  readonly relations: ReadonlyMap<TableName, Relation>;
  readonly functions: readonly DatabaseFunction[];
  readonly sequences: readonly Sequence[];
  readonly roles: ReadonlyMap<string, Role>;
  readonly schemas: ReadonlyMap<string, Schema>;
  readonly defaultPrivileges: readonly DefaultPrivilege[];
  readonly eventTriggers: readonly EventTrigger[];
  /** Labels of enum types in order, by the name that `format_type` gives them: `public.order_status`. */
  readonly enums: ReadonlyMap<string, readonly string[]>;
  readonly extensions: readonly { readonly name: string; readonly schema: string; readonly version: string }[];
  readonly foreignServers: readonly { readonly name: string; readonly wrapper: string; readonly grants: readonly Grant[] }[];
  /** Procedural languages; `trusted` false means that its functions run with the server's own rights. */
  readonly languages: readonly { readonly name: string; readonly trusted: boolean; readonly grants: readonly Grant[] }[];
  /** Settings given to roles or the database (`alter role ... set`, `alter database ... set`); empty role or database: all. */
  readonly settings: readonly { readonly role: string; readonly database: string; readonly name: string; readonly value: string }[];
  readonly publications: readonly { readonly name: string; readonly allTables: boolean; readonly tables: readonly TableName[] }[];
  readonly databaseGrants: readonly Grant[];
  /** Without those of the owner of the control plane: the counters of quotas. */
  readonly largeObjects: number;
  /** Whether the owner of schema `partywall` may set the setting that only it should set, or can be given that right by the role that reads this. */
  readonly protectsContext: boolean;
  /** State of schema `partywall`, undefined where it is not installed. */
  readonly runtime: Runtime | undefined;
}

export type RelationKind = 'table' | 'partitioned' | 'view' | 'matview' | 'foreign';

export interface Relation {
  readonly oid: number;
  readonly table: TableName;
  readonly schema: string;
  readonly name: string;
  readonly kind: RelationKind;
  readonly owner: string;
  readonly unlogged: boolean;
  readonly extension: string | undefined;
  readonly rls: boolean;
  readonly rlsForced: boolean;
  /** Storage and view options as stored: `security_invoker=true`. */
  readonly options: readonly string[];
  /** Direct parents by inheritance or partitioning. */
  readonly parents: readonly TableName[];
  readonly isPartition: boolean;
  readonly partitionBound: string | undefined;
  /** Columns of the partition key; an expression is undefined. */
  readonly partitionKey: readonly (string | undefined)[];
  /** The planner's estimates; -1 rows means never analyzed. */
  readonly estimatedRows: number;
  readonly pages: number;
  readonly comment: string | undefined;
  readonly columns: readonly Column[];
  readonly constraints: readonly Constraint[];
  readonly indexes: readonly Index[];
  readonly policies: readonly Policy[];
  readonly triggers: readonly Trigger[];
  /** Rewrite rules other than a view's own. */
  readonly rules: readonly { readonly name: string; readonly definition: string }[];
  readonly grants: readonly Grant[];
  /** Of a view or materialised view: what it reads directly, and its query. */
  readonly reads: readonly TableName[];
  readonly definition: string | undefined;
}

export interface Column {
  readonly number: number;
  readonly name: string;
  /** As `format_type` prints it: `uuid`, `character varying(36)`, `jsonb`, `uuid[]`. */
  readonly type: string;
  /** Holds for every row: a NOT NULL that is not validated does not count. */
  readonly notNull: boolean;
  readonly default: string | undefined;
  readonly identity: boolean;
  readonly generated: boolean;
  /** Declared in this table, not only inherited. */
  readonly local: boolean;
  readonly grants: readonly Grant[];
}

export type ConstraintKind = 'primary' | 'unique' | 'foreign' | 'check' | 'exclude' | 'not null' | 'trigger';
export type ForeignAction = 'no action' | 'restrict' | 'cascade' | 'set null' | 'set default';

export interface Constraint {
  readonly oid: number;
  readonly name: string;
  readonly kind: ConstraintKind;
  readonly columns: readonly string[];
  readonly validated: boolean;
  /** PostgreSQL 18: false for NOT ENFORCED. */
  readonly enforced: boolean;
  readonly deferrable: boolean;
  readonly deferred: boolean;
  /** Comes from the parent of a partition or inheritance child. */
  readonly inherited: boolean;
  readonly definition: string;
  readonly index: string | undefined;
  readonly foreign: ForeignKey | undefined;
}

export interface ForeignKey {
  readonly table: TableName;
  readonly columns: readonly string[];
  readonly onDelete: ForeignAction;
  readonly onUpdate: ForeignAction;
  /** Columns that SET NULL / SET DEFAULT on delete touches; empty: all. */
  readonly setColumns: readonly string[];
  readonly match: 'simple' | 'full' | 'partial';
}

export interface Index {
  readonly name: string;
  /** Key columns in order; an expression is undefined. */
  readonly columns: readonly (string | undefined)[];
  readonly unique: boolean;
  readonly primary: boolean;
  readonly valid: boolean;
  readonly nullsNotDistinct: boolean;
  readonly predicate: string | undefined;
  readonly method: string;
  readonly definition: string;
  /** Name of the constraint it carries. */
  readonly constraint: string | undefined;
  /** Attached to the index of this name on the parent. */
  readonly attachedTo: string | undefined;
}

export interface Policy {
  readonly name: string;
  readonly permissive: boolean;
  readonly command: 'all' | 'select' | 'insert' | 'update' | 'delete';
  /** Role names; `public` for everyone. */
  readonly roles: readonly string[];
  readonly using: string | undefined;
  readonly check: string | undefined;
}

export interface Trigger {
  readonly name: string;
  /** Schema-qualified function, unquoted: `public.touch`. */
  readonly function: string;
  readonly enabled: 'origin' | 'disabled' | 'replica' | 'always';
  readonly definition: string;
}

/** One privilege of one grantee; `public` for everyone. Owners' implicit rights are not listed. */
export interface Grant {
  readonly grantee: string;
  readonly privilege: string;
  readonly grantable: boolean;
}

export interface DatabaseFunction {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  /** Identity arguments: `uuid, text`. */
  readonly arguments: string;
  readonly kind: 'function' | 'procedure' | 'aggregate' | 'window';
  readonly owner: string;
  readonly language: string;
  readonly securityDefiner: boolean;
  readonly volatility: 'immutable' | 'stable' | 'volatile';
  readonly parallel: 'safe' | 'restricted' | 'unsafe';
  readonly leakproof: boolean;
  /** `name=value` settings it pins, e.g. `search_path=pg_catalog`. */
  readonly settings: readonly string[];
  readonly extension: string | undefined;
  readonly returnsTrigger: boolean;
  readonly source: string;
  readonly grants: readonly Grant[];
}

export interface Sequence {
  readonly schema: string;
  readonly name: string;
  readonly owner: string;
  /** The column that owns it (serial, identity). */
  readonly ownedBy: { readonly table: TableName; readonly column: string } | undefined;
  readonly grants: readonly Grant[];
}

export interface Role {
  readonly name: string;
  readonly superuser: boolean;
  readonly bypassRls: boolean;
  readonly login: boolean;
  readonly inherit: boolean;
  readonly createRole: boolean;
  readonly createDatabase: boolean;
  readonly replication: boolean;
  /** Roles it is a direct member of. `set`: may SET ROLE to it; `inherit`: has its privileges without. */
  readonly memberOf: readonly { readonly role: string; readonly inherit: boolean; readonly set: boolean; readonly admin: boolean }[];
}

export interface Schema {
  readonly name: string;
  readonly owner: string;
  readonly grants: readonly Grant[];
}

export interface DefaultPrivilege {
  /** Whose future objects. */
  readonly role: string;
  /** Undefined: in any schema. */
  readonly schema: string | undefined;
  readonly objects: 'tables' | 'sequences' | 'functions' | 'types' | 'schemas' | 'large objects';
  readonly grants: readonly Grant[];
}

export interface EventTrigger {
  readonly name: string;
  readonly event: string;
  readonly function: string;
  readonly enabled: 'origin' | 'disabled' | 'replica' | 'always';
  /** Commands that it is for; empty: all. */
  readonly tags: readonly string[];
}

export interface Runtime {
  readonly owner: string;
  /** Type of `partywall.registry.tenant_id`. */
  readonly keyType: string | undefined;
  /** Functions of schema `partywall`. */
  readonly functions: readonly RuntimeFunction[];
  /** Tables, views and sequences of schema `partywall`. */
  readonly relations: readonly RuntimeRelation[];
  /** Rows of `partywall.facts` by name; undefined when the reading role may not see them. */
  readonly facts: Readonly<Record<string, unknown>> | undefined;
}

/** A function with what the wall's own are compared by. */
export interface RuntimeFunction extends DatabaseFunction {
  /** Types of the arguments without names: `text, bigint`. */
  readonly types: string;
  /** The arguments as declared, with defaults: `tenant text, unit text DEFAULT NULL::text`. */
  readonly declared: string;
  readonly result: string;
  /** Returns NULL for a NULL argument, without being run. */
  readonly strict: boolean;
}

export interface RuntimeRelation {
  readonly name: string;
  readonly kind: RelationKind | 'sequence';
  readonly owner: string;
  /** Also those on single columns. */
  readonly grants: readonly Grant[];
  /** Row level security, forced or not. */
  readonly rls: boolean;
  /** Rewrite rules other than a view's own. */
  readonly rules: readonly string[];
  /** Without those of constraints. */
  readonly triggers: readonly Trigger[];
  /** Relations that inherit from it: their rows are read as its own. */
  readonly children: readonly string[];
  /** Relations that it inherits from: whoever may read those reads its rows. */
  readonly parents: readonly string[];
}

/** The column of that name. */
export function columnOf(relation: Relation, name: string): Column | undefined {
  return relation.columns.find((column) => column.name === name);
}

/** Whether rows live here: tables and partitioned tables, not views. */
export function holdsRows(relation: Relation): boolean {
  return relation.kind === 'table' || relation.kind === 'partitioned' || relation.kind === 'foreign' || relation.kind === 'matview';
}
