import type { Catalog, Grant, Relation } from '../../catalog/catalog.ts';
import type { TenancyModel } from '../../model/model.ts';
import type { ContextForm } from '../../wall/context-sql.ts';
import type { WantedTable, WantedWall } from '../../wall/shape.ts';
import type { Finding } from '../finding.ts';
import type { ServerFacts } from '../server-facts.ts';

/** What the static rules judge. */
export interface StaticFacts {
  readonly catalog: Catalog;
  readonly model: TenancyModel;
  readonly wanted: WantedWall;
  readonly server: ServerFacts;
  readonly reach: Reach;
}

/** How contexts are kept here, which is decided when the runtime is installed; the wanted form is that of an apply by whoever reads. */
export function installedContext({ catalog, wanted }: Pick<StaticFacts, 'catalog' | 'wanted'>): ContextForm {
  const facts = catalog.runtime?.facts;
  return facts === undefined ? wanted.context : { ...wanted.context, isProtected: facts['protected'] === true };
}

/** A theme of static rules: pure, and complete about its rules. */
export type StaticRules = (facts: StaticFacts) => Finding[];

/** What the application's role acts as without doing anything, and what it can become. */
export interface Reach {
  /** Grantees whose privileges it has: itself, roles it inherits from, and `public`. */
  readonly grantees: ReadonlySet<string>;
  /** Roles that it can take on or inherits from, over any number of steps, with the way there. */
  readonly becomes: ReadonlyMap<string, readonly string[]>;
}

export function reachOf(catalog: Catalog, role: string): Reach {
  const becomes = new Map<string, readonly string[]>();
  const visit = (name: string, way: readonly string[]): void => {
    for (const membership of catalog.roles.get(name)?.memberOf ?? []) {
      // With ADMIN the member grants itself the options that are missing.
      const usable = membership.set || membership.inherit || membership.admin;
      if (!usable || becomes.has(membership.role) || membership.role === role) continue;
      const next = [...way, membership.role];
      becomes.set(membership.role, next);
      visit(membership.role, next);
    }
  };
  visit(role, [role]);
  return { grantees: new Set([role, 'public', ...inherited(catalog, role)]), becomes };
}

function inherited(catalog: Catalog, role: string, seen = new Set<string>()): Set<string> {
  for (const membership of catalog.roles.get(role)?.memberOf ?? []) {
    if (!membership.inherit || seen.has(membership.role)) continue;
    seen.add(membership.role);
    inherited(catalog, membership.role, seen);
  }
  return seen;
}

/** The grants among `grants` that the application has, itself, by inheritance, or as everyone. */
export function reached(grants: readonly Grant[], reach: Reach): Grant[] {
  return grants.filter((grant) => reach.grantees.has(grant.grantee));
}

/** Whether the application may touch rows of a relation in any way, as a whole or by column. */
export function isOpen(relation: Relation, reach: Reach): boolean {
  return reached(relation.grants, reach).length > 0 || relation.columns.some((column) => reached(column.grants, reach).length > 0);
}

/** Whether policies do not apply to a role at all. */
export function bypasses(catalog: Catalog, name: string): boolean {
  const role = catalog.roles.get(name);
  return role !== undefined && (role.superuser || role.bypassRls);
}

/** Whether a role sees all tenants' rows: by attribute, or as the owner of a walled table that does not bind its owner. */
export function isUnbound(catalog: Catalog, name: string, wanted: WantedWall): boolean {
  if (bypasses(catalog, name)) return true;
  return [...wanted.tables.values()].some(({ relation }) => relation.owner === name && !(relation.rls && relation.rlsForced));
}

/** Only a superuser can make the event trigger; who installed the runtime tells whether one built the wall. */
export function canCloseNewTables(catalog: Catalog): boolean {
  return catalog.runtime !== undefined && catalog.roles.get(catalog.runtime.owner)?.superuser === true;
}

/** Scoped tables and the root that stand for themselves: partitions and children follow their parent. */
export function topTables(wanted: WantedWall): WantedTable[] {
  return [...wanted.tables.values()].filter((table) => !table.relation.parents.some((parent) => wanted.tables.has(parent)));
}

/** Why a grant reaches the application, for a message: `app`, `public`, `app by role reports`. */
export function granteeText(grantees: Iterable<string>, app: string): string {
  return [...new Set(grantees)].map((grantee) => (grantee === app || grantee === 'public' ? grantee : `${app} by role ${grantee}`)).join(', ');
}
