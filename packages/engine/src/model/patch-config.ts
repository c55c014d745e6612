import { configObject, type EntrySpan, entryOf, type ObjectSpan, objectAt } from './config-source.ts';
import { object, print, printComment } from './config-text.ts';
import type { MergedModel } from './merge.ts';
import type { TenancyModel } from './model.ts';
import { marks, ruleSource } from './render-config.ts';
import { parseTableName, type TableName } from './table-name.ts';

interface Edit {
  readonly at: number;
  readonly until: number;
  readonly text: string;
}

const indent = '    ';

/**
 * Brings a written config up to date in place: new lines are added, answered questions replaced, vanished lines marked, and every
 * other character stays, comments included. Returns undefined where the text has no `tables: { ... }` to work in; a caller reads
 * the result back and compares its fingerprint with that of the merged model before it writes anything.
 */
export function patchConfig(source: string, existing: TenancyModel, merged: MergedModel, database: string): string | undefined {
  const config = configObject(source);
  const tablesEntry = config && entryOf(config, 'tables');
  const tables = tablesEntry && objectAt(source, tablesEntry.valueStart);
  if (!config || !tables) return undefined;
  const { model } = merged.inferred;
  const lines = new Map(tables.entries.flatMap((entry) => (entry.key === undefined ? [] : [[parseTableName(entry.key), entry] as const])));
  const edits: Edit[] = [];

  const added = merged.added.map((table) => lineOf(merged, table, marks(table, { added: new Set([table]) })));
  edits.push(...append(source, tables, added, '  '));
  for (const table of merged.decided) {
    const entry = lines.get(table);
    if (!entry) return undefined;
    edits.push({ at: entry.start, until: entry.end, text: lineOf(merged, table, []).trimStart().replace(/,$/, '') });
  }
  for (const table of merged.vanished) {
    const entry = lines.get(table);
    const [mark] = marks(table, { vanished: new Set([table]), database });
    if (entry && mark !== undefined && !isMarked(source, entry)) edits.push({ at: entry.start, until: entry.start, text: `${printComment(mark)}\n${indent}` });
  }
  for (const [table, entry] of lines)
    if (table !== undefined && !merged.decided.includes(table)) edits.push(...uniqueEdits(source, existing, merged, table, entry));
  if (model.schemas.length > existing.schemas.length) edits.push(...schemaEdits(source, config, model.schemas));
  return apply(source, edits);
}

function lineOf(merged: MergedModel, table: TableName, above: readonly string[]): string {
  const { model, uniqueWhy } = merged.inferred;
  const rule = model.tables.get(table);
  if (!rule) throw new Error(`writing the config: the merged model has no ${table}`);
  const comments = above.map((line) => `${indent}${printComment(line)}\n`).join('');
  return `${comments}${indent}${printEntry(table, print(ruleSource(rule, model.column, uniqueWhy.get(table)), indent))}`;
}

function printEntry(key: string, value: string): string {
  return `${print(object([[key, 0]])).slice(2, -': 0 }'.length)}: ${value},`;
}

/** Adds lines before the closing brace, which stands at `outer`, and the comma that the last entry may lack. */
function append(source: string, span: ObjectSpan, added: readonly string[], outer: string): Edit[] {
  if (added.length === 0) return [];
  const last = span.entries.at(-1);
  const after = last ? last.end : span.open + 1;
  const comma = last === undefined || last.comma ? '' : ',';
  // Before the space in front of the brace, so that the brace stays on its own line or gets one.
  const at = source.slice(0, span.close).trimEnd().length;
  const lines = `\n${added.join('\n')}\n${outer}`;
  if (at === after) return [{ at, until: span.close, text: `${comma}${lines}` }];
  return [...(comma === '' ? [] : [{ at: after, until: after, text: comma }]), { at, until: span.close, text: lines }];
}

function uniqueEdits(source: string, existing: TenancyModel, merged: MergedModel, table: TableName, entry: EntrySpan): Edit[] {
  const before = existing.tables.get(table);
  const rule = merged.inferred.model.tables.get(table);
  const span = objectAt(source, entry.valueStart);
  if (before?.scope !== 'scoped' || rule?.scope !== 'scoped' || !span) return [];
  const fresh = [...rule.uniques].filter(([name]) => !before.uniques.has(name));
  if (fresh.length === 0) return [];
  const reasons = merged.inferred.uniqueWhy.get(table);
  const deep = `${indent}    `;
  const lines = fresh.map(([name, meaning]) => `${deep}${printEntry(name, print(meaning))} ${printComment(reasons?.get(name) ?? 'new')}`);
  const uniques = entryOf(span, 'uniques');
  const inner = uniques && objectAt(source, uniques.valueStart);
  return inner ? append(source, inner, lines, `${indent}  `) : append(source, span, [`${indent}  uniques: {\n${lines.join('\n')}\n${indent}  },`], indent);
}

function schemaEdits(source: string, config: ObjectSpan, schemas: readonly string[]): Edit[] {
  const entry = entryOf(config, 'schemas');
  if (entry) return [{ at: entry.valueStart, until: entry.end, text: print(schemas) }];
  const [first] = config.entries;
  return first
    ? [{ at: first.start, until: first.start, text: `schemas: ${print(schemas)},\n  ` }]
    : append(source, config, [`  schemas: ${print(schemas)},`], '');
}

function isMarked(source: string, entry: EntrySpan): boolean {
  return /\/\/ vanished: [^\n]*\n\s*$/.test(source.slice(Math.max(0, entry.start - 400), entry.start));
}

function apply(source: string, edits: readonly Edit[]): string {
  let text = source;
  for (const { at, until, text: inserted } of [...edits].sort((left, right) => right.at - left.at || right.until - left.until)) {
    text = text.slice(0, at) + inserted + text.slice(until);
  }
  return text;
}
