import type { Reference } from './references.ts';
import type { TableName } from './table-name.ts';

/** Answers offered for a table that a person must decide, as they are written in the config. */

export const sharedCandidate = "shared, if its rows are the same for every tenant: { scope: 'shared' }";
export const ownColumnCandidate = 'scoped, once the application gives it a tenant column of its own';

export function byColumn(column: string): string {
  return `scoped, by its own column: { scope: 'scoped', column: ${text(column)} }`;
}

export function through({ table, columns, references, constraint }: Reference): string {
  const held = constraint === undefined ? ', which no foreign key holds' : '';
  return `scoped, through ${table}${held}: ${path(table, columns, references)}`;
}

/** The other way round: rows of `from` refer to the table, and own what they refer to. */
export function throughReferrer(from: TableName, { columns, references }: Reference): string {
  return `scoped, through ${from} referencing it: ${path(from, references, columns)}`;
}

export function asPlatform(access: 'none' | 'read' | 'write', reason: string): string {
  return `platform, ${reason}: { scope: 'platform', access: ${text(access)} }`;
}

function path(table: TableName, columns: readonly string[], references: readonly string[]): string {
  const key = references.length === 1 && references[0] === 'id' ? '' : `, references: ${names(references)}`;
  return `{ scope: 'scoped', through: { table: ${text(table)}, columns: ${names(columns)}${key} } }`;
}

function names(columns: readonly string[]): string {
  return columns.length === 1 ? text(columns[0] ?? '') : `[${columns.map(text).join(', ')}]`;
}

function text(value: string): string {
  return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
