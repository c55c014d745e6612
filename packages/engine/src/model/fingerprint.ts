import { createHash } from 'node:crypto';
import type { TableRule, TenancyModel } from './model.ts';

/**
 * A hash of everything in a model that the wall depends on: equal models give equal hashes in whatever order they are written.
 * Reasons and waivers are not part of it, they change no table.
 */
export function modelFingerprint(model: TenancyModel): string {
  const { tenant, unit, column, schemas, roles, tables, bootstrap } = model;
  const facts = [
    ['tenant', tenant.table, tenant.key, tenant.status ? [tenant.status.column, sorted(Object.entries(tenant.status.values))] : null],
    // Left out where there is none, so that models without units keep the hash they had.
    ...(unit ? [['unit', unit.table, unit.key]] : []),
    ['column', column],
    ['schemas', [...schemas].sort()],
    ['roles', roles.owner, roles.app, roles.system, roles.service],
    ['bootstrap', bootstrap ?? null],
    ['tables', sorted([...tables].map(([table, rule]) => [table, factsOf(rule)] as const))],
  ];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex');
}

function factsOf(rule: TableRule): readonly unknown[] {
  switch (rule.scope) {
    case 'scoped':
      // The order of paths is the order in which they are tried, so it stays.
      return [
        rule.scope,
        rule.column,
        rule.added,
        rule.paths.map(({ table, columns, references }) => [table, columns, references]),
        sorted([...rule.uniques]),
        ...(rule.unit === undefined ? [] : [rule.unit]),
      ];
    case 'shared':
    case 'platform':
      return [rule.scope, rule.access];
    case 'unclassified':
      return [rule.scope];
  }
}

function sorted<Entry extends readonly [string, unknown]>(entries: readonly Entry[]): Entry[] {
  return [...entries].sort(([left], [right]) => (left < right ? -1 : 1));
}
