import type { Catalog } from '../catalog/catalog.ts';
import { object, print } from './config-text.ts';
import { governing } from './listed-tables.ts';
import type { TableRule } from './model.ts';
import type { TableName } from './table-name.ts';
import { stemOf } from './words.ts';

/** Names that mean a part of a customer's organisation. A project or a department may be a unit or a thing that units have, so it is asked, too. */
const unitNames = new Set(['business unit', 'workspace', 'department', 'division', 'branch', 'subsidiary', 'cost center', 'project']);
const tablesNamedMax = 5;

/**
 * Lines of comment for a config without units: a scoped table that is named like them and that scoped tables refer to. It is a question and stays
 * one: whether people work in one unit at a time is nothing that a schema says, and a wall that nobody enters with a unit changes nothing.
 */
export function proposeUnits(catalog: Catalog, rules: ReadonlyMap<TableName, TableRule>): string[] {
  return [...rules].flatMap(([table, rule]) => {
    const relation = catalog.relations.get(table);
    if (rule.scope !== 'scoped' || !relation || !unitNames.has(stemOf(relation.name).join(' '))) return [];
    const key = relation.constraints.find(({ kind }) => kind === 'primary')?.columns.filter((column) => column !== rule.column);
    const [only] = key ?? [];
    if (only === undefined || key?.length !== 1) return [];
    const referring = [...rules].flatMap(([other, { scope }]) => {
      const from = scope === 'scoped' && other !== table ? catalog.relations.get(other) : undefined;
      const found = from?.constraints.find(
        ({ foreign }) => foreign?.columns.includes(only) && (governing(catalog, foreign.table)?.table ?? foreign.table) === table,
      );
      const column = found?.columns[found.foreign?.columns.indexOf(only) ?? -1];
      return column === undefined ? [] : [`unit: ${print(column)} on ${other}`];
    });
    if (referring.length === 0) return [];
    const more = referring.length > tablesNamedMax ? ` and ${referring.length - tablesNamedMax} more` : '';
    const tables = referring.length === 1 ? 'one table refers' : `${referring.length} tables refer`;
    return [
      `Units inside a tenant? ${table} is named like them, and ${tables} to it. If people work in one at a time, see docs/guide/units.md:`,
      `unit: ${print(
        object([
          ['table', table],
          ['key', only],
        ]),
      )}, and in the lines of tables ${referring.slice(0, tablesNamedMax).join(', ')}${more}`,
    ];
  });
}
