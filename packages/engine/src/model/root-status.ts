import type { Catalog, Column, Relation } from '../catalog/catalog.ts';
import type { TenantRoot } from './model.ts';
import { snake } from './words.ts';

type Status = NonNullable<TenantRoot['status']>;
type State = Status['values'][string];

const statusColumns = ['status', 'tenant_status', 'account_status', 'lifecycle_state', 'state'];

/**
 * Words of the application that stop a tenant. `inactive` and `archived` are not among them: they may as well mean "not yet"
 * or "hidden", and a tenant shut out by a guess is worse than one let in as before.
 */
const stateWords: ReadonlyMap<string, State> = new Map<string, State>([
  ['suspended', 'suspended'],
  ['blocked', 'suspended'],
  ['disabled', 'suspended'],
  ['paused', 'suspended'],
  ['frozen', 'suspended'],
  ['locked', 'suspended'],
  ['banned', 'suspended'],
  ['cancelled', 'cancelled'],
  ['canceled', 'cancelled'],
  ['closed', 'cancelled'],
  ['terminated', 'cancelled'],
  ['deleted', 'cancelled'],
  ['read_only', 'read_only'],
  ['readonly', 'read_only'],
]);

/** Spellings to expect where the database does not list the values; `state` alone may be a state of the union. */
const usualValues = ['suspended', 'cancelled', 'canceled', 'read_only'];

/** The root's own status column, and which of its values mean which state. */
export function rootStatus(catalog: Catalog, root: Relation): Status | undefined {
  const column = statusColumns.flatMap((name) => root.columns.find((each) => snake(each.name) === name) ?? [])[0];
  if (column && !/^(?:integer|smallint|bigint|jsonb?|boolean)/.test(column.type)) {
    const values = listedValues(catalog, root, column) ?? (snake(column.name).endsWith('status') ? usualValues : []);
    const known = values.flatMap((value) => {
      const state = stateWords.get(snake(value));
      return state ? [[value, state] as const] : [];
    });
    if (known.length > 0) return { column: column.name, values: Object.fromEntries(known) };
  }
  const flag = root.columns.find(({ name, type }) => type === 'boolean' && /^(?:is_)?(?:suspended|disabled|blocked|frozen|locked)$/.test(snake(name)));
  return flag && { column: flag.name, values: { true: 'suspended' } };
}

/** Labels of its enum type, or the literals of a check on it. */
export function listedValues(catalog: Catalog, root: Relation, column: Column): readonly string[] | undefined {
  const labels = catalog.enums.get(column.type);
  if (labels) return labels;
  const check = root.constraints.find(({ kind, columns }) => kind === 'check' && columns.length === 1 && columns[0] === column.name);
  const literals = [...(check?.definition ?? '').matchAll(/'((?:[^']|'')*)'/g)].map((match) => (match[1] ?? '').replaceAll("''", "'"));
  return literals.length > 0 ? literals : undefined;
}
