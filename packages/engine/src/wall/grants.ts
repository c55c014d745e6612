import type { Catalog, Grant, Relation, Sequence } from '../catalog/catalog.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { quoted, type TableName } from '../model/table-name.ts';
import { effectiveRule, readsScoped, type WantedWall } from './shape.ts';

const rowPrivileges = ['select', 'insert', 'update', 'delete'] as const;

/**
 * What the application's role may do with a relation: rows of scoped tables (the policy picks which), its own row of the root,
 * shared and platform tables as the model says. Partitions and children are reached through their parent only, and a materialised
 * view that reads scoped rows not at all.
 */
export function appPrivileges(model: TenancyModel, catalog: Catalog, relation: Relation, wanted: WantedWall): readonly string[] {
  const rule = effectiveRule(model, catalog, relation);
  if (relation.parents.some((parent) => wanted.tables.has(parent))) return [];
  if (rule === 'root') return ['select', 'update'];
  if (relation.kind === 'view') return viewPrivileges(model, catalog, relation, wanted);
  if (rule === undefined || rule.scope === 'unclassified') return [];
  if (rule.scope === 'scoped') return rowPrivileges;
  if (rule.access === 'none') return [];
  if (relation.kind === 'matview') return readsScoped(catalog, relation, wanted.tables) ? [] : ['select'];
  return rule.access === 'write' ? rowPrivileges : ['select'];
}

/** A view runs with the caller's rights, so it may be opened where all it reads is open. */
function viewPrivileges(model: TenancyModel, catalog: Catalog, view: Relation, wanted: WantedWall): readonly string[] {
  if (view.extension) return [];
  const open = view.reads.every((table) => {
    const relation = catalog.relations.get(table);
    return relation !== undefined && appPrivileges(model, catalog, relation, wanted).includes('select');
  });
  return open && model.schemas.includes(view.schema) ? rowPrivileges : [];
}

export interface GrantChange {
  readonly table: TableName | undefined;
  readonly statement: string;
}

/** Grants that are missing for the three roles. */
export function missingGrants(model: TenancyModel, catalog: Catalog, wanted: WantedWall): GrantChange[] {
  const { app, system, service } = model.roles;
  const changes: GrantChange[] = [];
  const schemas = new Set<string>();
  for (const relation of catalog.relations.values()) {
    const rule = effectiveRule(model, catalog, relation);
    const forApp = appPrivileges(model, catalog, relation, wanted);
    const known = rule !== undefined || (relation.kind === 'view' && model.schemas.includes(relation.schema));
    if (!known || relation.extension) continue;
    schemas.add(relation.schema);
    const forOthers = relation.kind === 'matview' ? ['select'] : rowPrivileges;
    for (const [role, privileges] of [
      [app, forApp],
      [system, forOthers],
      [service, forOthers],
    ] as const) {
      const missing = privileges.filter((privilege) => !holds(relation.grants, role, privilege) && relation.owner !== role);
      if (missing.length > 0) changes.push({ table: relation.table, statement: `grant ${missing.join(', ')} on ${quoted(relation.table)} to ${ident(role)}` });
    }
  }
  for (const name of [...schemas].sort()) {
    const schema = catalog.schemas.get(name);
    const missing = [app, system, service].filter((role) => !schema || !(holds(schema.grants, role, 'usage') || holds(schema.grants, 'public', 'usage')));
    if (missing.length > 0) changes.push({ table: undefined, statement: `grant usage on schema ${ident(name)} to ${missing.map(ident).join(', ')}` });
  }
  for (const sequence of catalog.sequences) {
    const grantees = sequenceUsers(model, catalog, wanted, sequence);
    const missing = grantees.filter((role) => !holds(sequence.grants, role, 'usage') && sequence.owner !== role);
    if (missing.length > 0) {
      changes.push({
        table: sequence.ownedBy?.table,
        statement: `grant usage on sequence ${ident(sequence.schema)}.${ident(sequence.name)} to ${missing.map(ident).join(', ')}`,
      });
    }
  }
  return changes;
}

/**
 * Who draws numbers from a sequence: whoever inserts into the table that owns it. One that no column owns is used by defaults or by the
 * application itself, as it always was.
 */
function sequenceUsers(model: TenancyModel, catalog: Catalog, wanted: WantedWall, { ownedBy, schema }: Sequence): readonly string[] {
  const { app, system, service } = model.roles;
  if (!ownedBy) return model.schemas.includes(schema) ? [app, system, service] : [];
  const table = catalog.relations.get(ownedBy.table);
  if (!table || effectiveRule(model, catalog, table) === undefined) return [];
  return appPrivileges(model, catalog, table, wanted).includes('insert') ? [app, system, service] : [system, service];
}

/** Grants that the wall cannot stand beside: more than it needs for the application, anything on rows for everyone. */
export function excessGrants(model: TenancyModel, catalog: Catalog, wanted: WantedWall): GrantChange[] {
  const { app } = model.roles;
  const changes: GrantChange[] = [];
  for (const relation of catalog.relations.values()) {
    const isModels = effectiveRule(model, catalog, relation) !== undefined || model.schemas.includes(relation.schema);
    if (relation.extension || !isModels) continue;
    const allowed = appPrivileges(model, catalog, relation, wanted);
    for (const grantee of [app, 'public']) {
      const excess = relation.grants.filter(
        (grant) => grant.grantee === grantee && (grantee === 'public' || grant.grantable || !allowed.includes(grant.privilege)),
      );
      if (excess.length === 0) continue;
      const to = grantee === 'public' ? 'public' : ident(grantee);
      const revoked = [...new Set(excess.map((grant) => grant.privilege))];
      for (const as of [undefined, ...passedOnBy(relation.grants, revoked, [app, 'public'])]) {
        const statement = `revoke ${revoked.join(', ')} on ${quoted(relation.table)} from ${to} cascade`;
        changes.push({ table: relation.table, statement: as === undefined ? statement : `set local role ${ident(as)}; ${statement}; reset role` });
      }
      const kept = grantee === app ? revoked.filter((privilege) => allowed.includes(privilege)) : [];
      if (kept.length > 0) changes.push({ table: relation.table, statement: `grant ${kept.join(', ')} on ${quoted(relation.table)} to ${to}` });
    }
    for (const column of relation.columns) {
      const excess = column.grants.filter(
        (grant) => grant.grantee === 'public' || (grant.grantee === app && (grant.grantable || !allowed.includes(grant.privilege))),
      );
      for (const grant of excess) {
        const from = grant.grantee === 'public' ? 'public' : ident(grant.grantee);
        changes.push({
          table: relation.table,
          statement: `revoke ${grant.privilege} (${ident(column.name)}) on ${quoted(relation.table)} from ${from} cascade`,
        });
      }
    }
  }
  for (const sequence of catalog.sequences.filter(({ schema }) => model.schemas.includes(schema))) {
    for (const grantee of [app, 'public']) {
      const excess = sequence.grants.filter((grant) => grant.grantee === grantee && (grantee === 'public' || grant.privilege !== 'usage'));
      if (excess.length === 0) continue;
      const from = grantee === 'public' ? 'public' : ident(grantee);
      changes.push({
        table: undefined,
        statement: `revoke ${excess.map((grant) => grant.privilege).join(', ')} on sequence ${ident(sequence.schema)}.${ident(sequence.name)} from ${from} cascade`,
      });
    }
  }
  for (const name of model.schemas) {
    const schema = catalog.schemas.get(name);
    for (const grantee of [app, 'public']) {
      if (schema && holds(schema.grants, grantee, 'create')) {
        changes.push({ table: undefined, statement: `revoke create on schema ${ident(name)} from ${grantee === 'public' ? 'public' : ident(grantee)}` });
      }
    }
  }
  for (const standing of catalog.defaultPrivileges) {
    const { objects } = standing;
    if (objects !== 'tables' && objects !== 'sequences' && objects !== 'functions') continue;
    if (standing.schema !== undefined && standing.schema !== 'partywall' && !model.schemas.includes(standing.schema)) continue;
    // That everyone may call new functions is how PostgreSQL starts.
    for (const grantee of objects === 'functions' ? [app] : [app, 'public']) {
      if (!standing.grants.some((grant) => grant.grantee === grantee)) continue;
      const scope = standing.schema === undefined ? '' : ` in schema ${ident(standing.schema)}`;
      changes.push({
        table: undefined,
        statement: `alter default privileges for role ${ident(standing.role)}${scope} revoke all on ${objects} from ${grantee === 'public' ? 'public' : ident(grantee)}`,
      });
    }
  }
  return changes;
}

/** Roles that may have passed one of the privileges on: what they granted only they can revoke, not the owner. */
function passedOnBy(grants: readonly Grant[], privileges: readonly string[], but: readonly string[]): string[] {
  const passing = grants.filter((grant) => grant.grantable && privileges.includes(grant.privilege) && !but.includes(grant.grantee));
  return [...new Set(passing.map((grant) => grant.grantee))];
}

function holds(grants: readonly Grant[], grantee: string, privilege: string): boolean {
  return grants.some((grant) => grant.grantee === grantee && grant.privilege === privilege);
}
