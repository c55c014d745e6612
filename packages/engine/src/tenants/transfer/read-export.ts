import type { z } from 'zod';
import { invalidExport, type JsonReader, jsonReader } from './json-reader.ts';
import {
  type ExportHeader,
  type ExportTrailer,
  exportFormat,
  exportHeader,
  exportTrailer,
  headBytesMax,
  type Row,
  rowBytesMax,
  type TableHead,
  tableSum,
  trailerOf,
} from './layout.ts';

const nameBytesMax = 2_000;
const issuesMax = 20;

/** A document that is being read, front to back: every table of the header in its order and to its end, then the trailer. */
export interface ExportReader {
  readonly header: ExportHeader;
  /** The rows of the next table. Each has the columns of the header, and texts that the database can hold. */
  rows(table: TableHead): AsyncGenerator<Row>;
  /** Reads the trailer to the end of the document and compares it with what was read. */
  finish(): Promise<ExportTrailer>;
}

/**
 * Reads the head of a document and makes ready for its rows.
 *
 * @throws PartywallError export_invalid, from its methods too
 */
export async function readExport(source: AsyncIterable<Uint8Array>): Promise<ExportReader> {
  const json = jsonReader(source);
  await json.expect('{');
  await member(json, 'header');
  const header = parse(exportHeader, await json.value(headBytesMax), 'header');
  refuseDoubles(header);
  await json.expect(',');
  await member(json, 'tables');
  await json.expect('{');
  const sums: { rows: number; sha256: string }[] = [];

  return {
    header,
    rows: async function* (table) {
      if (sums.length > 0) await json.expect(',');
      await member(json, table.name);
      await json.expect('[');
      const sum = tableSum();
      if ((await json.peek()) !== ']') {
        do {
          const row = toRow(await json.value(rowBytesMax), table);
          sum.add(row);
          yield row;
        } while (await another(json));
      }
      await json.expect(']');
      sums.push(sum.total());
    },
    finish: async () => {
      await json.expect('}');
      await json.expect(',');
      await member(json, 'trailer');
      const trailer = parse(exportTrailer, await json.value(headBytesMax), 'trailer');
      await json.expect('}');
      if ((await json.peek()) !== undefined) throw invalidExport('something follows its end');
      compare(trailer, trailerOf(header, sums));
      return trailer;
    },
  };
}

async function member(json: JsonReader, name: string): Promise<void> {
  if ((await json.peek()) !== '"' || (await json.value(nameBytesMax)) !== name) throw invalidExport(`the member ${JSON.stringify(name)} should come next`);
  await json.expect(':');
}

async function another(json: JsonReader): Promise<boolean> {
  if ((await json.peek()) !== ',') return false;
  await json.expect(',');
  return true;
}

function parse<Schema extends z.ZodType>(schema: Schema, value: unknown, part: string): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const details = parsed.error.issues
    .slice(0, issuesMax)
    .map(({ path, message }) => `${[part, ...path].map(String).join('.').slice(0, 200)}: ${message.slice(0, 200)}`);
  throw invalidExport(`its ${part} is not that of a ${exportFormat}`, undefined, details);
}

function refuseDoubles(header: ExportHeader): void {
  const lists = [
    header.tables.map(({ name }) => name),
    ...header.tables.map(({ columns }) => columns.map(({ name }) => name)),
    ...header.tables.map(({ key }) => key),
  ];
  if (lists.some((names) => new Set(names).size < names.length)) throw invalidExport('its header names a table or a column twice');
}

function toRow(value: unknown, table: TableHead): Row {
  if (typeof value !== 'object' || value === null) throw invalidExport(`a row of ${table.name} is no object`);
  const fields = new Map<string, unknown>(Object.entries(value));
  if (fields.size !== table.columns.length) throw invalidExport(`a row of ${table.name} has ${fields.size} columns for ${table.columns.length}`);
  return table.columns.map(({ name }) => {
    const field = fields.get(name);
    if (field === null) return null;
    if (typeof field !== 'string') throw invalidExport(`column ${name} of a row of ${table.name} is neither a string nor null`);
    if (field.includes('\0') || !field.isWellFormed())
      throw invalidExport(`column ${name} of a row of ${table.name} holds a character that no text of the database can`);
    return field;
  });
}

function compare(stated: ExportTrailer, read: ExportTrailer): void {
  const wrong = read.tables.filter(({ name, rows, sha256 }, at) => {
    const table = stated.tables[at];
    return table?.name !== name || table.rows !== rows || table.sha256 !== sha256;
  });
  if (wrong.length === 0 && stated.tables.length === read.tables.length && stated.rows === read.rows && stated.sha256 === read.sha256) return;
  throw invalidExport(
    'its rows are not those that its trailer states: it was changed or damaged',
    undefined,
    wrong.slice(0, issuesMax).map(({ name }) => name),
  );
}
